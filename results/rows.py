"""The rows of a run's cells: lines of JSON, each with a seal as its last column, and what makes a line a row."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.places import process_of
from harness.results.run_files import SEAL, check_sound, content_of, json_values, sound_json
from harness.seals import MARK, Damaged, blank_seal, check_seal, sealed

CELL_COLUMNS = (
    "run",
    "cell",
    "model",
    "dataset",
    "explainer",
    "metric",
    "kind",
    "unit",
    "better",
    "task",
    "value",
    "std",
    "ci_low",
    "ci_high",
    "n",
    "n_invalid",
    "status",
    "stage",
    "error",
    "attempt",
    "subject",
    "stick",
    "commit",
    "dirty",
    "environment",
    "device",
    "torch",
    "seed",
    "batch_size",
    "seconds",
    "finished",
    "flags",
    "audit",
    "config",
)
STATUSES = ("ok", "failed", "not_applicable")
REAL_COLUMNS = ("value", "std", "ci_low", "ci_high", "seconds")
WHOLE_COLUMNS = ("n", "n_invalid", "attempt", "seed", "batch_size")
MAPPINGS = ("audit", "config")
NEEDED = ("model", "dataset", "explainer", "metric")
OTHERS = {"dirty": bool, "flags": list}  # the columns that are neither numbers, mappings nor text
LAST_BYTES = 1 << 20  # enough of a file's end to hold its last row


@dataclass
class RowFile:
    """What is in a file of rows: those that can be used, their lines, the numbers of damaged lines with what is wrong,
    how many rows lack a seal, and why nothing could be read.
    """

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)
    unsealed: int = 0
    reason: str = ""

    @property
    def problem(self) -> str:
        """What is wrong with the file, on one line; "" if nothing is."""
        if self.reason or not self.damaged:
            return self.reason
        number, why = next(iter(self.damaged.items()))
        others = f" and {len(self.damaged) - 1} more lines" if len(self.damaged) > 1 else ""
        return f"line {number}{others} cannot be used: {why}"


def row_line(row: Mapping[str, Any]) -> bytes:
    """A row, with all of its columns, as a sealed line."""
    text = json.dumps({**row, SEAL: blank_seal(row["cell"])}, allow_nan=False)
    return sealed(text.encode()) + b"\n"


def file_number(path: Path) -> int:
    """The number that the name of a file of rows begins with; 0 for those of older versions, which had none."""
    number = path.name.split("-")[0]
    return int(number) if number.isdecimal() and number.isascii() and len(number) < 19 else 0


def writer_of(path: Path) -> str:
    """``alive``, ``gone`` or ``unknown``: the process that writes a file of rows."""
    return process_of(path.stem.partition("-")[2])


def read_rows(path: Path) -> RowFile:
    """The rows of a file; a torn last line of a writer that is still there is no damage."""
    found = RowFile(path)
    try:
        content = content_of(path)
    except Damaged as error:
        found.reason = str(error)
        return found
    numbered, going_on = file_number(path) > 0, writer_of(path) == "alive"
    if not content and not going_on:
        found.reason = "it is empty"
    *lines, last = content.split(b"\n")
    for number, line in enumerate([*lines, last] if last else lines, 1):
        try:
            found.rows.append(_row_of(line, sealed_ones=numbered))
            found.lines.append(line)
            found.unsealed += MARK not in line
        except Damaged as error:
            if number <= len(lines) or not going_on:
                found.damaged[number] = str(error)
    return found


def last_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows at the end of a file, as far as they can be used."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return
    yield from filter(None, (usable_row(line, path) for line in lines))


def usable_row(line: bytes, path: Path) -> dict[str, Any] | None:
    """The row in a line of a file of rows; None if it cannot be used."""
    try:
        return _row_of(line, sealed_ones=file_number(path) > 0)
    except Damaged:
        return None


def _row_of(line: bytes, sealed_ones: bool) -> dict[str, Any]:
    """The row in a line; Damaged if it is none. A row without a seal is checked column by column."""
    values = json_values(line)
    if not isinstance(values, dict) or not isinstance(values.get("cell"), str):
        raise Damaged("it is no row of a cell")
    if not check_seal(line, values["cell"], required=sealed_ones):
        check_sound(values)
        _check_columns(values)
    return {name: value for name, value in values.items() if name != SEAL}


def _check_columns(row: Mapping[str, Any]) -> None:
    """Raise Damaged for a column with a value of another kind than a row can have, and for lacking names."""
    for name in CELL_COLUMNS:
        value = row.get(name)
        if not _fits(name, value):
            raise Damaged(f"{name} is {one_line_of(value)}")
    if "/" in row["cell"] or "\0" in row["cell"]:
        raise Damaged("its cell is no name of a file")


def _fits(name: str, value: Any) -> bool:
    if value is None:
        return name not in (*NEEDED, "status")
    if name in REAL_COLUMNS or name in WHOLE_COLUMNS:
        return _is_number_in_json(value, whole=name in WHOLE_COLUMNS)
    if name in MAPPINGS:
        return isinstance(value, Mapping) or (isinstance(value, str) and _is_mapping_text(value))
    if name == "status":
        return value in STATUSES
    if name == "finished":
        return isinstance(value, str) and _is_time(value)
    if name == "flags":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return isinstance(value, OTHERS.get(name, str))


def _is_number_in_json(value: Any, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if whole:
        return not (isinstance(value, float) and not value.is_integer()) and -(2**63) <= value < 2**63
    return isinstance(value, float) or abs(value) < 2**1000


def _is_mapping_text(text: str) -> bool:
    try:
        return isinstance(sound_json(text.encode()), Mapping)
    except Damaged:
        return False


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def one_line_of(value: Any) -> str:
    """A value in few words, for a message."""
    return "missing" if value is None else ascii(value)[:60]
