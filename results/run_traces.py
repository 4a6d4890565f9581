"""What a folder of a run (the run itself, a shard or a round) tells of its cells and of the processes at work on them.

Files are read as they grow, and of each row little is kept, so that a further look costs only what is new.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import printable
from harness.places import MARKED, process_of
from harness.results.announcements import FOLDER, rows_announced_in
from harness.results.block_plans import (
    BlockPlan,
    CellPair,
    CellSettings,
    read_plan,
    settings_of_cell,
    times_of_plan,
)
from harness.results.growing_file import GrowingFile
from harness.results.rows import STATUSES, usable_row, writer_of
from harness.results.run_files import RunFiles
from harness.results.store import Store

MOST_LETTERS = 500  # of the error of a row
MOST_SECONDS = 1e9  # that a cell can take
SHORTER = 0.001  # seconds by which the time between two rows may be shorter than that of scoring the second

Seen = dict[tuple[str, float], float | None]  # the rows of cells, with the times when they finished -> what they took


@dataclass(frozen=True, slots=True)
class CellRow:
    """What is kept of the row of a cell.

    finished  seconds since 1970; 0 if the row does not tell it
    took      seconds since the row that the same process wrote before, with explaining and all; where there is none,
              those of scoring alone; None if nothing is known
    stick     code version of the measurement
    subject   code version of explainer and model, and the weights ("" if unknown)
    """

    status: str
    error: str
    finished: float
    took: float | None
    stick: str
    subject: tuple[str, str]


@dataclass
class WorkTrace:
    """What a process has announced in the folder ``working``.

    started    when it began, in seconds since 1970
    changed    when it announced something for the last time
    state      of the process: ``alive``, ``gone``, or ``unknown`` on another machine
    announced  block -> its cells that were announced so far, with the labels of explainer and metric
    labels     block -> the labels of model and data set
    stage      ``load``, ``explain``, ``score``; "" if nothing is announced
    current    the cells that were announced last
    """

    started: float
    machine: str
    process: str
    changed: float = 0.0
    state: str = "unknown"
    announced: dict[str, dict[CellPair, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))
    labels: dict[str, tuple[str, str]] = field(default_factory=dict)
    stage: str = ""
    current: list[CellSettings] = field(default_factory=list)


class FolderTraces:
    """Everything that a folder tells; ``look`` reads what is new.

    works    by file, what the processes have announced
    plans    by file, the configurations
    damaged  number of lines and files that cannot be used
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.works: dict[Path, WorkTrace] = {}
        self.plans: dict[tuple[Path, tuple[float, float]], BlockPlan | None] = {}
        self._row_files: dict[Path, _RowFile] = {}
        self._files_of: dict[str, list[_RowFile]] = {}
        self._pending: dict[str, dict[CellPair, float]] = {}
        self._announcing: dict[Path, GrowingFile] = {}
        self._settings: dict[str, CellSettings | None] = {}
        self._merged: dict[str, tuple[Any, dict[CellPair, CellRow]]] = {}

    @property
    def damaged(self) -> int:
        """How many lines of rows, files of rows and files of configurations cannot be used."""
        rows = self._row_files.values()
        return sum(each.damaged + each.growing.refused for each in rows) + sum(not each for each in self.plans.values())

    def look(self) -> None:
        """Read what is new."""
        paths = Store(self.directory).files()
        self._row_files = {path: self._row_files.get(path) or _RowFile(path) for path in paths}
        earlier: Seen = {}
        for each in self._row_files.values():
            each.look(self._settings, earlier)
            earlier |= each.seen
        self._files_of = defaultdict(list)
        for each in self._row_files.values():
            for block in each.rows:
                self._files_of[block].append(each)
        self._look_at_works()
        files, found = RunFiles(self.directory), sorted((self.directory / "config").glob("*.json"))
        keys = [(path, times_of_plan(path)) for path in found]
        self.plans = {key: self.plans[key] if key in self.plans else read_plan(files, key[0]) for key in keys}

    def _look_at_works(self) -> None:
        paths = sorted((self.directory / FOLDER).glob("*.jsonl"))
        self._announcing = {path: self._announcing.get(path) or GrowingFile(path) for path in paths}
        self.works = {path: work for path in paths if (work := self.works.get(path) or begun_work(path))}
        for path, work in self.works.items():
            lines, begins = self._announcing[path].look()
            work.changed, work.state = self._announcing[path].changed, process_of(path.stem.partition("-")[2])
            if begins:
                work.announced.clear()
            for line in lines:
                _announce(work, rows_announced_in(line) or [])
        self._pending = defaultdict(dict)
        for work in sorted(self.works.values(), key=lambda work: work.started):
            for block, cells in work.announced.items():
                self._pending[block] |= dict.fromkeys(cells, work.started)

    def blocks(self) -> list[str]:
        """The blocks that have rows."""
        return list(self._files_of)

    def rows(self, block: str) -> dict[CellPair, CellRow]:
        """The row that counts of each cell of a block."""
        files = self._files_of.get(block, [])
        version = [(each.path, each.version) for each in files]
        if self._merged.get(block, (None,))[0] != version:
            merged: dict[CellPair, CellRow] = {}
            for each in files:
                merged |= each.rows[block]
            self._merged[block] = version, merged
        return self._merged[block][1]

    def pending(self, block: str) -> Mapping[CellPair, float]:
        """When the processes began that have announced cells of a block: an earlier row is measured once more."""
        return self._pending.get(block, {})

    def silent_writers(self) -> Iterator[tuple[str, str, str, float]]:
        """Processes that live and write rows without having announced them, as notebooks do.

        Gives machine, process, block, and when the last row was written.
        """
        for path, each in self._row_files.items():
            if each.last is None or writer_of(path) != "alive":
                continue
            (block, pair), finished = each.last
            if not any(pair in work.announced.get(block, ()) for work in self.works.values()):
                yield *_mark_of(path), block, finished


class _RowFile:
    """A file of rows: block -> cell -> its last row."""

    def __init__(self, path: Path) -> None:
        self.path, self.growing = path, GrowingFile(path)
        self.version = 0
        self._clear()

    def _clear(self) -> None:
        self.rows: dict[str, dict[CellPair, CellRow]] = defaultdict(dict)
        self.seen: Seen = {}
        self.damaged, self.before = 0, None
        self.last: tuple[CellSettings, float] | None = None

    def look(self, known: dict[str, CellSettings | None], earlier: Seen) -> None:
        """Read the new rows. ``known`` holds the settings of cells; ``earlier``, the rows of the files before."""
        lines, begins = self.growing.look()
        if begins:
            self._clear()
        for line in lines:
            row = usable_row(line, self.path)
            if row is None or row.get("status") not in STATUSES:
                self.damaged += 1
                continue
            cell = row["cell"]
            if cell not in known:
                known[cell] = settings_of_cell(row.get("config"))
            if known[cell] is not None:
                self._add(known[cell], row, earlier)
        self.version += len(lines) + begins

    def _add(self, settings: CellSettings, row: Mapping[str, Any], earlier: Seen) -> None:
        finished = _seconds_since_1970(row.get("finished"))
        mark = row["cell"], finished
        is_copy = mark in earlier  # the same row under another label
        took = earlier[mark] if is_copy else _seconds_taken(self.before, finished, row.get("seconds"))
        self.before, self.last = None if is_copy else finished, (settings, finished)
        self.seen[mark] = took
        code, _, weights = _text_or_nothing(row.get("subject")).partition("-")
        error = printable(row.get("error") or "")[:MOST_LETTERS] if row["status"] == "failed" else ""
        kept = CellRow(row["status"], error, finished, took, _text_or_nothing(row.get("stick")), (code, weights))
        self.rows[settings.block][settings.pair] = kept


def begun_work(path: Path) -> WorkTrace | None:
    """What the name of a file of announcements tells; None if it is none."""
    try:
        started = datetime.strptime(path.stem.partition("-")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None
    return WorkTrace(started.timestamp(), *_mark_of(path))


def _announce(work: WorkTrace, rows: list[dict[str, Any]]) -> None:
    work.current, work.stage = [], printable(rows[0].get("stage") or "") if rows else ""
    for row in rows:
        settings = settings_of_cell(row.get("config"))
        if settings is None:
            continue
        model, dataset, explainer, metric = (
            printable(row.get(name)) for name in ("model", "dataset", "explainer", "metric")
        )
        work.current.append(settings)
        work.announced[settings.block][settings.pair] = explainer, metric
        work.labels[settings.block] = model, dataset


def _mark_of(path: Path) -> tuple[str, str]:
    """Machine and process in the name of a file."""
    found = MARKED.fullmatch(path.stem.partition("-")[2])
    if found is None:
        return "", ""
    return printable(found["machine"].rpartition(".")[0] or found["machine"]), found["process"]


def _seconds_taken(before: float | None, finished: float, seconds: Any) -> float | None:
    """The seconds that a cell has taken, by the time of the row before it or else by those of scoring it."""
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < MOST_SECONDS
    scoring = float(seconds) if known else None
    passed = finished - before if before and finished else -1.0
    return passed if (scoring or 0.0) - SHORTER <= passed < MOST_SECONDS and passed >= 0 else scoring


def _text_or_nothing(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _seconds_since_1970(finished: Any) -> float:
    try:
        return datetime.fromisoformat(finished).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
