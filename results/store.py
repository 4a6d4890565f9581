"""The files of a run: one row per cell, one file of per-sample scores per cell, and what they were made with.

    cells/*.jsonl            one row per line, append-only, one writer a file; the last row of a cell wins
    scores/<cell>.parquet    one row per sample
    tables/<owner>-<name>.parquet   tables that an explainer returns beside its attributions
    config/, environment/, errors/

A killed process leaves at most a torn last line and a hidden temporary file, and readers ignore both.
"""

import hashlib
import json
import logging
import math
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import UserError, unknown
from harness.results.disk import append_line, told_in_one_line, whole_file

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
SCORE_COLUMNS = ("cell", "sample", "target", "prediction", "label", "groups", "value", "valid", "tied", "curve")
STATUSES = ("ok", "failed", "not_applicable")
LAST_BYTES = 1 << 20  # enough of a file's end to hold its last row

log = logging.getLogger(__name__)


class Store:
    """A run directory to write to and read from; nothing is created before the first write."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.safe = f"the cells finished before are safe in {self.directory}"
        self._writer: tuple[int, Path] | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a cell's row and wait until it is on the disk.

        Columns left out are null, as are NaN and infinite numbers; ``run`` and ``finished`` (UTC) are filled in. Raises
        UserError for an unknown column or status, and where the disk does not take the row: then none of it is there.
        """
        for name in row:
            if name not in CELL_COLUMNS:
                raise unknown("column of a cell", name, CELL_COLUMNS)
        if not row.get("cell") or row.get("status") not in STATUSES:
            came = f"cell {row.get('cell')!r} and status {row.get('status')!r}"
            raise UserError(f"row has {came}, expected a cell and one of {', '.join(STATUSES)}")
        filled = {"run": self.directory.name, "finished": _utc_now(), **row}
        line = json.dumps({name: plain(filled.get(name)) for name in CELL_COLUMNS}, allow_nan=False) + "\n"
        path = self._own_file()
        with told_in_one_line(path, self.safe):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                append_line(path, line.encode())
            except BaseException:
                self._writer = None  # a new file is begun, so that no row is appended to a torn line
                raise

    def write_scores(self, cell: str, columns: Mapping[str, Any]) -> Path:
        """Write a cell's scores, one row per sample, replacing earlier ones at once; write them before the cell's row.

        ``columns`` (a mapping or a frame) holds the score columns but ``cell``; those left out are null, ``curve`` is a
        sequence of floats per sample.
        """
        path = self.scores_path(cell)
        with whole_file(path, self.safe) as temporary:
            _write_parquet(temporary, cell, columns)
        return path

    def write_table(self, owner: str, name: str, table: Any) -> str:
        """Save a table (a frame) that an explainer reported; returns its path within the run."""
        path = self.directory / "tables" / (re.sub(r"[^\w.-]+", "_", f"{owner}-{name}") + ".parquet")
        with whole_file(path, self.safe) as temporary:
            table.to_parquet(temporary, index=False)
        return path.relative_to(self.directory).as_posix()

    def scores_path(self, cell: str) -> Path:
        """The path of a cell's scores."""
        return self.directory / "scores" / f"{cell}.parquet"

    def latest(self) -> dict[str, dict[str, Any]]:
        """The last row of each cell by the time it ``finished``, whichever file it is in."""
        rows = [row for path in self.files() for row in _rows_of_file(path)]
        rows.sort(key=_finished_at)  # stable: rows of one instant stay in the order of files and lines
        return {row["cell"]: row for row in rows}

    def files(self) -> list[Path]:
        """The files of rows, those of writers that started earlier first."""
        return sorted((self.directory / "cells").glob("*.jsonl"))

    def last_written(self) -> str:
        """When the last row was finished (ISO, UTC), from the ends of the files; "" where there is none."""
        return max((_finished_at(row) for path in self.files() for row in _rows_of_file(path, LAST_BYTES)), default="")

    def write_error(self, cell: str, text: str) -> Path:
        """Save the traceback of a cell's last failure."""
        return self._write_text(self.directory / "errors" / f"{cell}.txt", text)

    def write_config(self, name: str, text: str) -> Path:
        """Save a configuration under ``config/``."""
        return self._write_text(self.directory / "config" / name, text)

    def write_environment(self, facts: Mapping[str, Any]) -> str:
        """Save the facts of an environment once; returns their hash, which is the ``environment`` of a row."""
        text = json.dumps(plain(facts), allow_nan=False, sort_keys=True, indent=1)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        path = self.directory / "environment" / f"{digest}.json"
        if not path.exists():
            self._write_text(path, text)
        return digest

    def _write_text(self, path: Path, text: str) -> Path:
        with whole_file(path, self.safe) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return path

    def _own_file(self) -> Path:
        """This process's own file of rows: a forked child is another writer. Names sort by the writer's start."""
        if self._writer is None or self._writer[0] != os.getpid():
            started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            name = f"{started}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
            self._writer = os.getpid(), self.directory / "cells" / name
        return self._writer[1]


def plain(value: Any) -> Any:
    """A value that JSON can represent: numbers of numpy and torch become Python's, NaN and infinite ones None."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _finished_at(row: Mapping[str, Any]) -> str:
    return str(row.get("finished") or "")


def _rows_of_file(path: Path, last_bytes: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file, or of its end; a line that is not a row is skipped, with a warning unless it is the last."""
    with open(path, "rb") as file:
        start = max(0, path.stat().st_size - last_bytes) if last_bytes else 0
        file.seek(start)
        *lines, last = file.read().split(b"\n")
    for line in lines[1:] if start else lines:
        row = _parsed_row(line)
        if row is None:
            log.warning("%s: a line that is not a row is skipped, its cell counts as not done: %.60r", path, line)
        else:
            yield row
    torn = _parsed_row(last)  # a whole row counts although its newline is not written yet
    if torn is not None:
        yield torn


def _parsed_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # torn, or not text at all
        return None
    return row if isinstance(row, dict) and isinstance(row.get("cell"), str) else None


def score_schema() -> Any:
    """The arrow schema of the scores."""
    import pyarrow as pa  # imported here so that a run that has nothing to do does not load it

    kinds = {
        "cell": pa.string(),
        "sample": pa.string(),
        "target": pa.int64(),
        "prediction": pa.int64(),
        "label": pa.int64(),
        "groups": pa.string(),
        "value": pa.float64(),
        "valid": pa.bool_(),
        "tied": pa.float64(),
        "curve": pa.list_(pa.float64()),
    }
    return pa.schema([(name, kinds[name]) for name in SCORE_COLUMNS])


def _write_parquet(path: Path, cell: str, columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    given = {name: columns[name] for name in columns if name != "cell" and columns[name] is not None}
    for name in given:
        if name not in SCORE_COLUMNS:
            raise unknown("column of the scores", name, SCORE_COLUMNS)
    count = len(given["value"])
    filled = {name: [None] * count for name in SCORE_COLUMNS} | given | {"cell": [cell] * count}
    schema = score_schema()
    arrays = [pa.array(_arrow_ready(filled[field.name]), field.type, from_pandas=True) for field in schema]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def _arrow_ready(values: Any) -> Any:
    """Tensors become numpy arrays, curves (N, K) a list of rows; other values are unchanged."""
    values = values.numpy() if hasattr(values, "numpy") else values
    return list(values) if getattr(values, "ndim", 1) == 2 else values
