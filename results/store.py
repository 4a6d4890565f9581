"""The files of a run: one row per cell, one file of per-sample scores per cell, and what they were made with.

    cells/<number>-<writer>.jsonl   one row per line, append-only, one writer a file; the last row of a cell wins
    scores/<cell>.parquet           one row per sample
    tables/<owner>-<name>.parquet   tables that an explainer returns beside its attributions
    config/, environment/, errors/

A killed process leaves at most a torn last line and a hidden temporary file, and readers ignore both. Rows and files
are sealed (``harness.seals``): what is damaged is named, and counts as not there.
"""

import json
import math
import os
import stat
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError, unknown
from harness.places import ROUNDS, SHARDS, clear_abandoned, file_name, is_file_name, process_mark
from harness.results.disk import append_line, check_no_link, told_in_one_line
from harness.results.growing_file import GrowingFile
from harness.results.rows import (
    CELL_COLUMNS,
    STATUSES,
    RowFile,
    file_number,
    last_rows,
    may_be_written,
    read_rows,
    row_line,
    usable_row,
)
from harness.results.run_files import RunFiles, code_text, copy_aside, name_damage, set_aside, write_content
from harness.results.score_table import SCORE_COLUMNS, as_scores, check_scores, score_table
from harness.seals import Damaged

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

FOLDERS = ("cells", "scores", "tables", "config", "environment", "errors", "labels", "maps", "views")
WRITTEN = (*FOLDERS, "output", "working", "damaged", "jobs", SHARDS, ROUNDS)
SETTLED_NS = 10**8  # after a change; clocks of file systems tick every few milliseconds
UNUSABLE = "its cells count as not done until harness run measures them again"


@lru_cache(maxsize=4)
def _known_files(directory: Path) -> dict[Path, tuple["_FileState", RowFile]]:
    """The files of rows that this process has read, for all stores of one run."""
    return {}


class _FileState(NamedTuple):
    """What tells that a file is still the one that was read."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def _state_of(path: Path) -> _FileState | None:
    """The state of a file; None for a link, what is no regular file, and what is in a folder that is a link."""
    try:
        check_no_link(path.parent)
        now = path.lstat()
    except OSError:
        return None
    state = _FileState(now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    return state if stat.S_ISREG(now.st_mode) else None


class Store:
    """A run directory to write to and read from; nothing is created before the first write.

    Of a cell's rows the last one counts: the one furthest down in the file with the highest number, whatever clocks
    say. Each store appends to a file of its own, whose number is above those of the files that are there when its first
    row is written; and to a new one where another process has begun to measure the same cells since.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.run_files = RunFiles(self.directory)
        self.safe = f"the cells finished before are safe in {self.directory}"
        self._writer: tuple[int, Path] | None = None
        self._known = _known_files(self.directory.absolute())
        self._later: dict[Path, tuple[GrowingFile, set[str]]] = {}  # the cells in files behind this one's own

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a cell's row and wait until it is on the disk.

        Columns left out are null, as are NaN and infinite numbers; ``run`` and ``finished`` (UTC) are filled in. Raises
        UserError for an unknown column or status, and where the disk does not take the row: then none of it is there.
        """
        line = self._line_of(row)
        with told_in_one_line(self.directory / "cells", self.safe):
            path = self._own_file(row["cell"])
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                append_line(path, line)
            except BaseException:
                self._writer = None  # a new file is begun, so that no row is appended to a torn line
                raise

    def append_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of several cells into a new file, in one step: whatever happens, all are there or none."""
        if rows:
            content = b"".join(map(self._line_of, rows))
            path = self._new_file()
            write_content(path, content, self.safe)
            self._writer = os.getpid(), path

    def _line_of(self, row: Mapping[str, Any]) -> bytes:
        """A row as a line of a file; UserError for an unknown column or status."""
        for name in row:
            if name not in CELL_COLUMNS:
                raise unknown("column of a cell", name, CELL_COLUMNS)
        if not is_file_name(row.get("cell")) or row.get("status") not in STATUSES:
            came = f"cell {row.get('cell')!r} and status {row.get('status')!r}"
            raise UserError(f"row has {came}, expected the name of a file and one of {', '.join(STATUSES)}")
        filled = {"run": self.directory.name, "finished": _utc_now(), **row}
        return row_line({name: plain(filled.get(name)) for name in CELL_COLUMNS})

    def write_scores(self, cell: str, columns: Mapping[str, Any], row: Mapping[str, Any] | None = None) -> Path:
        """Write a cell's scores, one row per sample, replacing earlier ones at once; write them before the cell's row.

        ``columns`` (a mapping or a frame) holds the score columns but ``cell``; those left out are null, ``curve`` is a
        sequence of floats per sample. The code and weights that ``row`` names are kept with them: should this process
        end before it has written that row, they are not taken for the scores of an older one.
        """
        path = self.scores_path(cell)
        self.run_files.write_table(path, score_table(cell, columns), self.safe, code_text(row or {}))
        return path

    def write_table(self, owner: str, name: str, table: Any) -> str:
        """Save a table (a frame) that an explainer reported; returns its path within the run."""
        path = self.directory / "tables" / f"{file_name(f'{owner}-{name}')}.parquet"
        self.run_files.write_table(path, table, self.safe)
        return path.relative_to(self.directory).as_posix()

    def scores_path(self, cell: str) -> Path:
        """The path of a cell's scores."""
        return self._file_of_cell("scores", cell, ".parquet")

    def latest(self, *, named: bool = True) -> dict[str, dict[str, Any]]:
        """The last row of each cell; damaged lines and files are left out, and ``named`` in a warning."""
        rows: dict[str, dict[str, Any]] = {}
        for path in self.files():
            found = self._rows_in(path)
            if found.problem and named:
                name_damage(path, found.problem, UNUSABLE)
            rows |= {row["cell"]: dict(row) for row in found.rows}
        return rows

    def _rows_in(self, path: Path) -> RowFile:
        """The rows of a file, kept while it does not change: some thousand rows take a second to read.

        A file with damage or a torn last line is read again each time: what it means changes when its writer ends; and
        so is one that has just changed, since another change could leave the same times. The rows are shared;
        ``latest`` copies them.
        """
        state = _state_of(path)
        if state is None or self._known.get(path, (None,))[0] != state:
            found = read_rows(path)
            settled = state is not None and abs(time.time_ns() - state.ctime_ns) > SETTLED_NS
            if not settled or found.problem or sum(len(line) + 1 for line in found.lines) != state.size:
                self._known.pop(path, None)
                return found
            self._known[path] = state, found
        return self._known[path][1]

    def flaw(self, row: Mapping[str, Any], *, closely: bool = False) -> str:
        """Why the results of an ok row cannot be used, from its scores and its explainer's tables; "" if they can.

        Scores with a checksum are those of the row, unless somebody made both up: they are read only ``closely``.
        """
        for path in (self.scores_path(row["cell"]), *self.tables_of(row).values()):
            try:
                of_scores = path.parent.name == "scores"
                sealed = self.run_files.check(path, code=code_text(row) if of_scores else "")
                if of_scores and (closely or not sealed):
                    check_scores(self.run_files.arrow_table(path), row)
            except Damaged as error:
                name_damage(path, error, UNUSABLE)
                return f"{path.relative_to(self.directory)} is damaged ({error}); harness run measures the cell again"
        return ""

    def tables_of(self, row: Mapping[str, Any]) -> dict[str, Path]:
        """The files of the tables that a row's explainer reported, by name."""
        audit = row.get("audit")
        tables = audit.get("tables") if isinstance(audit, Mapping) else None
        files = {name: Path(str(each)).name for name, each in tables.items()} if isinstance(tables, Mapping) else {}
        return {name: self.directory / "tables" / file for name, file in files.items() if is_file_name(file)}

    def files(self) -> list[Path]:
        """The files of rows in the order in which they count."""
        paths = (self.directory / "cells").glob("*.jsonl")
        return sorted(paths, key=_order_of_file)

    def last_written(self) -> str:
        """When the last row was finished (ISO, UTC), from the ends of the files; "" where there is none."""
        rows = (row for path in self.files() for row in last_rows(path))
        return max((str(row.get("finished") or "") for row in rows), default="")

    def clear_away(self) -> bool:
        """Delete what killed processes left half written, and move damaged files into the folder ``damaged``.

        These are files of rows that nobody writes to, of which the intact lines stay, configurations and environments.
        Scores and maps stay where they are until they are measured again. Whether a file was moved.
        """
        self.check_folders()
        moved = False
        for folder in ("", *FOLDERS):
            clear_abandoned(self.directory / folder)
        for path in self.files():
            found = self._rows_in(path)
            if found.problem and not may_be_written(path):
                name_damage(path, found.problem, UNUSABLE)
                moved = True
                with told_in_one_line(path, self.safe):
                    self._mend(path, found)
        for path in (*self.directory.glob("config/*.json"), *self.directory.glob("environment/*.json")):
            try:
                self.run_files.check_text(path)
            except Damaged as error:
                name_damage(path, error, f"it is moved into {self.directory / 'damaged'}")
                moved = True
                with told_in_one_line(path, self.safe):
                    set_aside(path)
        return moved

    def _mend(self, path: Path, found: RowFile) -> None:
        """Put the intact lines of a file of rows in its place, in one step, and a copy of it into ``damaged``."""
        if found.lines:
            copy_aside(path)
            write_content(path, b"".join(line + b"\n" for line in found.lines), self.safe)
        else:
            set_aside(path)

    def check_folders(self) -> None:
        """UserError if a folder of the run is a link: what is written there would lie outside the run."""
        for name in WRITTEN:
            with told_in_one_line(self.directory / name, self.safe):
                check_no_link(self.directory / name)

    def write_error(self, cell: str, text: str) -> Path:
        """Save the traceback of a cell's last failure."""
        path = self._file_of_cell("errors", cell, ".txt")
        write_content(path, text.encode(errors="backslashreplace"), self.safe)
        return path

    def write_config(self, name: str, text: str) -> Path:
        """Save the configuration of a block under ``config/``, once."""
        return self.run_files.write_text("config", f"{name}-", text, self.safe)

    def write_environment(self, facts: Mapping[str, Any]) -> str:
        """Save the facts of an environment once; returns their hash, which is the ``environment`` of a row."""
        text = json.dumps(plain(facts), allow_nan=False, sort_keys=True, indent=1)
        return self.run_files.write_text("environment", "", text, self.safe).stem

    def _file_of_cell(self, folder: str, cell: str, suffix: str) -> Path:
        """The path of a file of a cell; UserError for a name that could lead out of the folder."""
        if not is_file_name(cell):
            raise UserError(f"a cell is named {cell!r:.80}, expected the name of a file")
        return self.directory / folder / f"{cell}{suffix}"

    def _own_file(self, cell: str) -> Path:
        """This process's own file of rows, for one of this cell: a forked child is another writer.

        A new file is begun if another process has begun one since, and has a row of the cell there: that would count
        although it is the older one.
        """
        if self._writer is None or self._writer[0] != os.getpid() or self._is_hidden(cell, self._writer[1]):
            self._writer = os.getpid(), self._new_file()
        return self._writer[1]

    def _new_file(self) -> Path:
        """The path of a new file of rows, behind all that are there."""
        number = 1 + max(map(file_number, self.files()), default=0)
        return self.directory / "cells" / f"{number:06d}-{process_mark()}.jsonl"

    def _is_hidden(self, cell: str, path: Path) -> bool:
        """Whether a file behind this one has a row of the cell. Of each file only new lines are read."""
        for other in self.files():
            if _order_of_file(other) > _order_of_file(path):
                file, cells = self._later.setdefault(other, (GrowingFile(other), set()))
                lines, begins = file.look()
                if begins:
                    cells.clear()
                cells.update(row["cell"] for line in lines if (row := usable_row(line, other)))
                if cell in cells:
                    return True
        return False


def _order_of_file(path: Path) -> tuple[int, str]:
    """The place of a file of rows among those of its run."""
    return file_number(path), path.name


def cell_scores(store: Store, cell: str) -> "pd.DataFrame":
    """The scores of a cell, one row per sample, as ``Store.write_scores`` takes them."""
    table = as_scores(store.run_files.arrow_table(store.scores_path(cell))).to_pandas()
    return table[list(SCORE_COLUMNS[1:])]


def plain(value: Any) -> Any:
    """A value that JSON can represent: numbers of numpy and torch become Python's, NaN and infinite ones None."""
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, str):  # text that is no Unicode, such as the name of a file, is written in escapes
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
