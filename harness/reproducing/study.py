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
from harness.results.disk import whole_file


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
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["key"] == key:
                return pd.DataFrame(known["rows"], columns=known["columns"])
        self.say(f"measuring {name}")
        table = compute(**given)
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = json.loads(table.to_json(orient="values", double_precision=15))
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps({"key": key, "columns": list(table), "rows": rows}), encoding="utf-8")
        return pd.DataFrame(rows, columns=list(table))


Study = Callable[[StudySetting], Findings]


def study(name: str) -> Study:
    """The study of this name: the function ``study`` of a module in ``harness.reproducing.studies``."""
    known = [each.name for each in iter_modules(harness.reproducing.studies.__path__) if not each.name.startswith("_")]
    if name not in known:
        raise unknown("study", name, known)
    return import_module(f"harness.reproducing.studies.{name}").study
