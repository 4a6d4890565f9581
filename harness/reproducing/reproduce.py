"""Runs the experiment of a paper and sets its numbers beside the published ones: what ``harness reproduce`` does."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError, unknown
from harness.places import user_path
from harness.reproducing.findings import Findings
from harness.reproducing.lines import VERDICTS, Line, lines_of
from harness.reproducing.paper import SCALES, Paper, paper
from harness.reproducing.study import StudySetting, study
from harness.results.disk import told_in_one_line, whole_file
from harness.results.tables import to_csv

FOLDER, PARTS = "reproduce", "parts"
LINES, NUMBERS, FACTS = "lines.csv", "numbers.csv", "reproduction.json"


@dataclass(frozen=True)
class Reproduction:
    """The experiment of a paper, as it was run at one scale: a line for each claim and each published number."""

    paper: Paper
    scale: str
    lines: list[Line]
    findings: Findings

    @property
    def counts(self) -> dict[str, int]:
        """Verdict -> how many lines have it, in the order of VERDICTS, without those that none has."""
        found = [each.verdict for each in self.lines]
        return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}

    @property
    def bad(self) -> list[Line]:
        """The lines where something that should hold does not."""
        return [each for each in self.lines if each.bad]

    def table(self) -> pd.DataFrame:
        """The lines as a tidy table."""
        return pd.DataFrame([asdict(each) for each in self.lines], columns=[each.name for each in fields(Line)])

    def facts(self) -> dict[str, Any]:
        """What was run, for machines."""
        return {
            "paper": self.paper.name,
            "arxiv": self.paper.arxiv,
            "scale": self.scale,
            "sizes": self.paper.sizes[self.scale],
            "verdicts": self.counts,
            "bad": [each.what for each in self.bad],
            "choices": self.paper.choices,
            "deviations": self.paper.deviations,
            "notes": self.findings.notes,
        }


def reproduce(
    name: str,
    *,
    scale: str = "full",
    data: str | Path | None = None,
    runs: str | Path = "runs",
    say: Callable[[str], None] = lambda line: None,
) -> Reproduction:
    """Run the experiment of a paper; parts, lines and numbers are kept in the folder ``runs/reproduce/NAME-SCALE``.

    A run that was killed goes on with what is kept. UserError for a name or scale that is not there, and where the
    experiment needs a folder ``data`` that is not given or not there.
    """
    about = paper(name)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    folder = Path(runs) / FOLDER / f"{name}-{scale}"
    setting = StudySetting(scale, about.sizes[scale], folder / PARTS, _data_folder(about, scale, data), say)
    findings = study(about.study)(setting)
    small = about.sizes[scale] != about.sizes["full"] or (bool(about.needs) and data is None)
    found = Reproduction(about, scale, lines_of(findings, about.expect, small=small), findings)
    _keep(found, folder)
    return found


def _data_folder(about: Paper, scale: str, data: str | Path | None) -> Path | None:
    if not about.needs:
        if data is not None:
            raise UserError(f"data is {data}, but {about.name} needs no data; leave it out")
        return None
    if data is None:
        if scale == "small":
            return None
        raise UserError(
            f"{about.name} needs {about.needs}: harness reproduce {about.name} data=FOLDER; "
            f"scale=small runs the same code on what is here"
        )
    folder = user_path(data)
    try:
        there = folder.is_dir() and bool(os.listdir(folder))
    except OSError as error:
        why = f"which cannot be read ({error.strerror or error})"
        raise UserError(f"data is {data}, {why}; expected a folder with {about.needs}") from error
    if not there:
        raise UserError(f"data is {data}, expected a folder with {about.needs}")
    return folder


def _keep(found: Reproduction, folder: Path) -> None:
    """Write what was found beside its parts."""
    with told_in_one_line(folder, "the parts that were measured are safe"):
        folder.mkdir(parents=True, exist_ok=True)
        to_csv(found.table(), folder / LINES)
        to_csv(found.findings.numbers, folder / NUMBERS)
        for name, drawing in found.findings.figures.items():
            with whole_file(folder / f"{name}.png") as temporary:
                drawing.savefig(temporary, format="png")
        with whole_file(folder / FACTS) as temporary:
            temporary.write_text(f"{json.dumps(found.facts(), indent=1)}\n", encoding="utf-8")
