"""What a study is given, and the registry of studies."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pandas as pd
import torch

import harness.reproducing.studies
from harness.code_version import code_of, measuring_code
from harness.errors import UserError, unknown
from harness.identity import canonical, digest
from harness.places import file_name
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS
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

        ``name`` is unique in the study. ``given`` are numbers, texts, and lists and mappings of them. The table holds
        numbers, texts, yes and no, and no index. It is made again if what it is given has changed, or any code that
        could have made it: that of ``compute``, of all items and of the measurement, or torch; or the user's data.
        """
        maker = f"{compute.__module__}.{compute.__qualname__}"
        versions = [
            code_of(compute),
            measuring_code(),
            _code_of_items(),
            torch.__version__,
            _names_and_sizes(self.data),
        ]
        key = digest(name, maker, canonical(given), *versions)
        path = self.folder / f"{file_name(name)}-{digest(name)[:6]}.json"
        known = _part_in(path)
        if known is None or known["key"] != key:
            self.say(f"measuring {name}")
            started = time.perf_counter()
            table = compute(**given)
            known = {"key": key, "seconds": round(time.perf_counter() - started, 2), **_part_as_json(table, name)}
            text = json.dumps(known)  # floats as they are, NaN and inf too
            with told_in_one_line(path, "earlier parts are safe"):
                self.folder.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")
            known = json.loads(text)
        return pd.DataFrame(known["rows"], columns=known["columns"])


@cache
def _names_and_sizes(folder: Path | None) -> str:
    """A fingerprint of the names and sizes of the user's files; "" without data."""
    if folder is None:
        return ""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest(*(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files))


@cache
def _code_of_items() -> str:
    """Fingerprint of the modules of all explainers, metrics, models and data sets, which a study names by texts."""
    entries = [entry for registry in (EXPLAINERS, METRICS, MODELS, DATASETS) for entry in registry.values()]
    functions = {entry.function.__module__: entry.function for entry in entries}
    ours = sorted(name for name in functions if name.startswith("harness."))
    return digest(*(code_of(functions[name]) for name in ours))


def _part_as_json(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """The columns and rows of a table as plain values; UserError for what cannot be kept."""
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index(drop=table.index.names == [None])
    rows = [[_plain_value(value, name) for value in row] for row in table.astype(object).to_numpy().tolist()]
    return {"columns": [str(each) for each in table], "rows": rows}


def _plain_value(value: Any, name: str) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise UserError(f"the part {name} holds {type(value).__name__}, expected numbers, texts, yes or no")


def _part_in(path: Path) -> dict[str, Any] | None:
    """What a file keeps of a part; None where there is none, or where it is damaged and has to be measured again."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return known if {"key", "columns", "rows"} <= set(known) else None
    except (OSError, ValueError, TypeError):
        return None


Study = Callable[[StudySetting], Findings]


def study(name: str) -> Study:
    """The study of this name: the function ``study`` of the module ``study`` in a folder of
    ``harness.reproducing.studies``, or of another module in it, as in ``sanity_checks.mnist``."""
    studies = harness.reproducing.studies
    module_of = lambda folder, module: f"{studies.__name__}.{folder}.{module or 'study'}"
    known = [each.name for each in iter_modules(studies.__path__) if find_spec(module_of(each.name, ""))]
    folder, _, module = name.partition(".")
    if folder not in known or find_spec(module_of(folder, module)) is None:
        raise unknown("study", name, known)
    return import_module(module_of(folder, module)).study
