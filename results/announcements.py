"""What a run is measuring at the moment, announced in its folder before it starts: an end by force leaves a trace.

    working/<started>-<machine>-<process>-<digits>.jsonl    the last line are the rows that hold if the process ends now

Readers of rows do not read this folder. A supervised run removes its file when it ends, or when it goes on in another
folder, as that of the next round. One that is left behind belongs to a run that was killed from outside, with its
supervisor.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.places import is_file_name, process_mark, process_of
from harness.results.disk import told_in_one_line
from harness.results.run_files import content_of
from harness.results.store import plain
from harness.seals import Damaged

FOLDER = "working"
MOST_TRIES = 10


class Announcements:
    """Announces in the folder ``directory`` of a run, on behalf of the supervising process ``owner``."""

    def __init__(self, directory: Path, owner: int) -> None:
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.directory = directory.absolute()
        self.path = self.directory / FOLDER / f"{started}-{process_mark(owner)}.jsonl"

    def announce(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Say that these cells are being measured, by their rows as failed cells; an empty list: none is."""
        line = json.dumps([{name: plain(value) for name, value in row.items()} for row in rows]) + "\n"
        with told_in_one_line(self.path, "the cells finished before are safe"):
            _append_in_new_folder(self.path, line)


def _append_in_new_folder(path: Path, line: str) -> None:
    """Add a line to a file whose folder another process may remove, as long as it is empty."""
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)
            return
        except FileNotFoundError:
            if not tries_left:
                raise


def announced_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that were announced last; none if the file is not there or holds nothing whole."""
    return _rows_of_cells(_lines_of(path)[-1:])


def rows_announced_in(line: bytes) -> list[dict[str, Any]] | None:
    """The rows in a line of a file of announcements; None if it is damaged."""
    try:
        return _rows_in(line)
    except (ValueError, TypeError, RecursionError):
        return None


def announced_cells(path: Path) -> set[str]:
    """All cells that have been announced in the file."""
    return {row["cell"] for row in _rows_of_cells(_lines_of(path))}


def remove_announcement(path: Path) -> None:
    """Remove a file of announcements, and the folders around it that it leaves empty."""
    with suppress(OSError):
        path.unlink()
    for folder in (path.parent, path.parent.parent):
        with suppress(OSError):  # not empty
            folder.rmdir()


def taken_by_force(directory: Path) -> list[dict[str, Any]]:
    """The rows of the cells that were being measured when an earlier run on this machine was killed: none where it was
    loading model and data. The files of these announcements are removed."""
    rows = []
    for path in _left_behind(directory):
        rows += [row for row in announced_rows(path) if row.get("stage") != "load"]
        remove_announcement(path)
    return rows


def clear_finished(directory: Path, finished: Collection[str]) -> None:
    """Remove what killed runs on this machine have left of announcements, if all cells that they tell are finished:
    nobody will measure them last."""
    for path in _left_behind(directory):
        if all(row["cell"] in finished for row in announced_rows(path)):
            remove_announcement(path)


def _left_behind(directory: Path) -> list[Path]:
    """The files of announcements of processes on this machine that are gone."""
    paths = sorted((directory / FOLDER).glob("*.jsonl"))
    return [path for path in paths if process_of(path.stem.partition("-")[2]) == "gone"]


def _lines_of(path: Path) -> list[bytes]:
    with suppress(Damaged):
        return content_of(path).splitlines()
    return []


def _rows_of_cells(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """The rows in lines, as far as their cells can be names of files; none behind a damaged line."""
    found = []
    with suppress(ValueError, TypeError, RecursionError):
        for line in lines:
            found += [row for row in _rows_in(line) if is_file_name(row["cell"])]
    return found


def _rows_in(line: str | bytes) -> list[dict[str, Any]]:
    return [row for row in json.loads(line) if isinstance(row, dict) and isinstance(row.get("cell"), str)]
