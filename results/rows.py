"""The rows of a run's cells: lines of JSON, each with a seal as its last column, and what makes a line a row."""

import json
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from os import SEEK_END
from pathlib import Path
from typing import Any

from harness.places import MARKED, is_file_name, process_of
from harness.results.disk import opened
from harness.results.run_files import SEAL, content_of, sound_json
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
    "least",
    "most",
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
REAL_COLUMNS = ("value", "std", "ci_low", "ci_high", "seconds", "least", "most")
WHOLE_COLUMNS = ("n", "n_invalid", "attempt", "seed", "batch_size")
NEEDED = ("model", "dataset", "explainer", "metric")
LAST_BYTES = 1 << 20  # enough of a file's end to hold its last row
SILENT_SECONDS = 3600.0  # a process of another machine that is silent for longer does not count as alive


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
    return process_of(_writer_in_name(path))


def _writer_in_name(path: Path) -> str:
    return path.stem.partition("-")[2]


def may_be_written(path: Path) -> bool:
    """Whether the process that writes a file of rows can be at work.

    A row that it adds would be lost to whoever writes the file anew meanwhile.
    """
    return may_be_at_work(_writer_in_name(path), path)


def may_be_at_work(mark: str, path: Path) -> bool:
    """Whether the process with a mark can be at work on its file; on another machine, it was within an hour."""
    state = process_of(mark)
    if state != "unknown" or not MARKED.fullmatch(mark):
        return state == "alive"
    try:
        now = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(now.st_mode) and abs(time.time() - now.st_mtime) < SILENT_SECONDS


def read_rows(path: Path) -> RowFile:
    """The rows of a file; a torn last line of a writer that may still be there is no damage, nor is an empty file."""
    found = RowFile(path)
    try:
        content = content_of(path)
    except Damaged as error:
        found.reason = str(error)
        return found
    numbered, going_on = file_number(path) > 0, may_be_written(path)
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
        with opened(path) as file:
            file.seek(max(0, file.seek(0, SEEK_END) - LAST_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return
    yield from filter(None, (usable_row(line, path) for line in lines))


def usable_row(line: bytes, path: Path) -> dict[str, Any] | None:
    """The row in a line of a file of rows; None if it cannot be used.

    It is for readers that take few columns and check each themselves: a column of a sealed row can be of any kind.
    """
    try:
        row, is_sealed = _values_and_seal(line, sealed_ones=file_number(path) > 0)
        if not is_sealed:
            _check_columns(row)
    except Damaged:
        return None
    return row


def _row_of(line: bytes, sealed_ones: bool) -> dict[str, Any]:
    """The row in a line; Damaged if it is none. Anybody can seal a row, so that each one is checked."""
    row, _ = _values_and_seal(line, sealed_ones)
    _check_columns(row)
    return {**dict.fromkeys(CELL_COLUMNS), **row}


def _values_and_seal(line: bytes, sealed_ones: bool) -> tuple[dict[str, Any], bool]:
    """The columns of a row as they are in a line, and whether it is sealed; Damaged for another line."""
    values = sound_json(line)
    if not isinstance(values, dict) or not isinstance(values.get("cell"), str):
        raise Damaged("it is no row of a cell")
    is_sealed = check_seal(line, values["cell"], required=sealed_ones)
    values.pop(SEAL, None)
    return values, is_sealed


def _check_columns(row: Mapping[str, Any]) -> None:
    """Raise Damaged for a column with a value of another kind than a row can have, and for lacking names."""
    for name, fits in FITTING.items():
        value = row.get(name)
        if not (fits(value) if value is not None else name not in (*NEEDED, "status")):
            raise Damaged(f"{name} is {one_line_of(value)}")
    if not is_file_name(row["cell"]):
        raise Damaged("its cell is no name of a file")
    if not all(map(str.isprintable, row)):
        raise Damaged("the name of a column is not printable")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole_number(value: Any) -> bool:
    whole = _is_real(value) and not (isinstance(value, float) and not value.is_integer())
    return whole and -(2**63) <= value < 2**63


def _is_config(value: Any) -> bool:
    """Whether it is a mapping, or its text, in which the items of a cell are mappings with a text for their name."""
    config = _mapping_in(value)
    sections = [config.get(name, {}) for name in NEEDED] if config is not None else [None]
    return all(isinstance(each, Mapping) and isinstance(each.get("name", ""), str) for each in sections)


def _mapping_in(value: Any) -> Mapping[str, Any] | None:
    """A mapping, or that of a text of JSON; None if it is none."""
    try:
        value = sound_json(value.encode()) if isinstance(value, str) else value
    except Damaged:
        return None
    return value if isinstance(value, Mapping) else None


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return False
    return True


FITTING: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(CELL_COLUMNS, _is_text),
    **dict.fromkeys(REAL_COLUMNS, _is_real),
    **dict.fromkeys(WHOLE_COLUMNS, _is_whole_number),
    "status": lambda value: value in STATUSES,
    "dirty": lambda value: isinstance(value, bool),
    "finished": _is_time,
    "flags": lambda value: _is_text(value) or (isinstance(value, list) and all(map(_is_text, value))),
    "audit": lambda value: _mapping_in(value) is not None,
    "config": _is_config,
}


def one_line_of(value: Any) -> str:
    """A value in few words, for a message."""
    return "missing" if value is None else ascii(value)[:60]
