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
from harness.reproducing.lines import DIFFERS, FAILS, HOLDS, NOT_COMPARABLE, REPRODUCED, VERDICTS, Line, lines_of
from harness.reproducing.paper import SCALES, Paper, paper
from harness.reproducing.study import StudySetting, study
from harness.results.disk import told_in_one_line, whole_file
from harness.results.tables import to_csv

FOLDER, PARTS = "reproduce", "parts"
# Words for a count of one.
_ONE = {
    "differ": "differs",
    "patterns hold": "pattern holds",
    "patterns fail": "pattern fails",
    "patterns are known to fail here": "pattern is known to fail here",
    "claims are undecided": "claim is undecided",
}
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
    def told(self) -> str:
        """The counts in words: what holds, what fails and whether that is known, and what cannot be told."""
        claims = [each for each in self.lines if each.claim]
        known = sum(each.verdict == FAILS and not each.bad for each in claims)
        undecided = sum(each.verdict == NOT_COMPARABLE for each in claims)
        counts = {
            "reproduced": self.counts.get(REPRODUCED, 0),
            "differ": self.counts.get(DIFFERS, 0),
            "patterns hold": self.counts.get(HOLDS, 0),
            "patterns fail": self.counts.get(FAILS, 0) - known,
            "patterns are known to fail here": known,
            "claims are undecided": undecided,
            "not comparable": self.counts.get(NOT_COMPARABLE, 0) - undecided,
        }
        return ", ".join(
            f"{count} {_ONE.get(words, words) if count == 1 else words}" for words, count in counts.items() if count
        )

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
    folder = Path(runs) / FOLDER / f"{about.name}-{scale}"
    setting = StudySetting(scale, about.sizes[scale], folder / PARTS, _data_folder(about, scale, data), say)
    findings = study(about.study)(setting)
    small = about.sizes[scale] != about.sizes["full"] or (bool(about.needs) and data is None)
    found = Reproduction(about, scale, lines_of(findings, about.expect, small=small), findings)
    _keep(found, folder)
    return found


def _data_folder(about: Paper, scale: str, data: str | Path | None) -> Path | None:
    taken = about.needs or about.optional_data
    if data is None:
        if scale == "small" or not about.needs:
            return None
        raise UserError(
            f"{about.name} needs {about.needs}: harness reproduce {about.name} data=FOLDER, or scale=small, which runs "
            f"the same code on included data"
        )
    if not taken:
        raise UserError(f"data is {data}, but {about.name} needs no data; leave it out")
    folder = user_path(data)
    try:
        what = (
            "which is empty" if folder.is_dir() else "which is no folder" if folder.exists() else "which is not there"
        )
        if folder.is_dir() and os.listdir(folder):
            return folder
    except OSError as error:
        what = f"which cannot be read ({error.strerror or error})"
    raise UserError(f"data is {data}, {what}; expected a folder with {taken}")


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
