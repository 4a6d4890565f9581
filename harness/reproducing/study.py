"""What a study is given, and the registry of studies."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pandas as pd

import harness.reproducing.studies
from harness.code_version import code_of, measuring_code
from harness.errors import unknown
from harness.identity import canonical, digest
from harness.places import file_name
from harness.reproducing.findings import Findings
from harness.results.disk import told_in_one_line, whole_file


@dataclass(frozen=True)
class StudySetting:
    """What a study is given.

    scale    ``full`` or ``small``
    sizes    numbers of samples, seeds and draws, as the paper's file states them for this scale
    folder   where parts are kept, so that a study that was killed goes on
    data     the user's folder, where the study needs one
    say      prints a line of progress
    """

    scale: str
    sizes: Mapping[str, Any]
    folder: Path
    data: Path | None
    say: Callable[[str], None]

    def kept(self, name: str, compute: Callable[..., pd.DataFrame], **given: Any) -> pd.DataFrame:
        """The table that ``compute(**given)`` makes, from the disk where it has been made before.

        It is made again if what it is given, or the code of ``compute``'s module, has changed. ``given`` are numbers,
        texts and lists of them.
        """
        key = digest(canonical(given), code_of(compute), measuring_code())
        path = self.folder / f"{file_name(name)}.json"
        known = _part_in(path)
        if known is None or known["key"] != key:
            self.say(f"measuring {name}")
            table = compute(**given)
            rows = table.astype(object).to_numpy().tolist()
            known = {"key": key, "columns": list(table), "rows": rows}
            text = json.dumps(known, default=lambda number: number.item())  # floats as they are, NaN and inf too
            with told_in_one_line(path, "earlier parts are safe"):
                self.folder.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")
            known = json.loads(text)
        return pd.DataFrame(known["rows"], columns=known["columns"])


def _part_in(path: Path) -> dict[str, Any] | None:
    """What a file keeps of a part; None where there is none, or where it is damaged and has to be measured again."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return known if {"key", "columns", "rows"} <= set(known) else None
    except (OSError, ValueError, TypeError):
        return None


Study = Callable[[StudySetting], Findings]


def study(name: str) -> Study:
    """The study of this name: the function ``study`` of a module in ``harness.reproducing.studies``."""
    known = [each.name for each in iter_modules(harness.reproducing.studies.__path__) if not each.name.startswith("_")]
    if name not in known:
        raise unknown("study", name, known)
    return import_module(f"harness.reproducing.studies.{name}").study
