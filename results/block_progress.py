"""How far a block of a run is: its cells by state, its shards or rounds, why cells have failed, and what is left."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from harness.results.block_plans import BlockPlan, CellPair
from harness.results.processes_at_work import ProcessAtWork
from harness.results.run_traces import CellRow, FolderTraces
from harness.results.time_left import Pace

Rows = Mapping[CellPair, CellRow]


@dataclass(frozen=True)
class StateCounts:
    """Numbers of cells by state; those that are ``left`` have no row, or will be measured once more."""

    done: int = 0
    not_applicable: int = 0
    failed: int = 0
    left: int = 0

    @property
    def cells(self) -> int:
        """All cells."""
        return self.done + self.not_applicable + self.failed + self.left

    @classmethod
    def of(cls, rows: Iterable[CellRow], cells: int) -> "StateCounts":
        """The counts of so many cells, of which some have a row that counts."""
        counts = Counter(row.status for row in rows)
        return cls(counts["ok"], counts["not_applicable"], counts["failed"], cells - counts.total())

    def __add__(self, other: "StateCounts") -> "StateCounts":
        return StateCounts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True)
class FailedCell:
    """The labels of a failed cell, and why it has failed."""

    explainer: str
    metric: str
    error: str


@dataclass(frozen=True)
class PartProgress:
    """A shard or a round of a block.

    begun    whether there is anything of it
    seconds  that one process needs for what is left; None if it is not known
    """

    name: str
    counts: StateCounts
    begun: bool
    seconds: float | None


@dataclass(frozen=True)
class BlockProgress:
    """One block: a model on a data set under a protocol.

    block     the settings of model, data set and protocol as text; several blocks can have the same title
    measured  number of cells that are not left; of a cell in shards, those that are measured count as a fraction
    parts     its shards or rounds, as long as cells are left
    failures  its failed cells
    portions  the seconds of what one process measures at a time: a shard, or the block; None if they are not known
    unknown   why they are not known, in words
    guessed   whether nothing is measured of it, so that all seconds are guessed from those of other blocks
    """

    block: str
    title: str
    counts: StateCounts
    measured: float
    parts: tuple[PartProgress, ...]
    failures: tuple[FailedCell, ...]
    portions: tuple[float | None, ...]
    unknown: str
    guessed: bool

    @property
    def seconds(self) -> float | None:
        """The seconds that one process needs for what is left; None if they are not known."""
        return None if None in self.portions else sum(self.portions)


def block_progress(
    plan: BlockPlan,
    title: str,
    root: FolderTraces,
    parts: Mapping[str, FolderTraces | None],
    processes: Sequence[ProcessAtWork],
    pace_of_others: Callable[[], Pace],
    now: float,
) -> BlockProgress:
    """The progress of a block ``now`` (seconds since 1970).

    ``root`` is the folder of the run. ``parts`` are those of the block's shards or rounds by name (None: it has not
    begun); empty for a block that is measured as a whole. ``processes`` are those at work on the block. What other
    blocks have taken (``pace_of_others``) is asked for if nothing is measured of this one.
    """
    folders = [folder for folder in parts.values() if folder is not None]
    joined = _settled_rows(plan, root, folders)
    of_parts = {name: joined | _settled_rows(plan, folder) for name, folder in parts.items() if folder is not None}
    rows = _failed_rows(of_parts.values()) | joined
    counts = StateCounts.of(rows.values(), len(plan.pairs))
    failures = tuple(FailedCell(*plan.pairs[pair], row.error) for pair, row in _failed_rows([rows]).items())
    if not counts.left:
        return BlockProgress(plan.block, title, counts, counts.cells, (), failures, (), "", False)
    own = Pace(each for folder in folders or [root] for each in folder.rows(plan.block).items())
    pace = own if own.known else pace_of_others()
    guessed = pace.known and not own.known
    progress_of = lambda rows, folder: _part_progress(plan, rows, folder, pace, processes, now)
    not_begun = progress_of(joined, None)
    progress = [
        replace(progress_of(of_parts[name], folder) if folder else not_begun, name=name)
        for name, folder in parts.items()
    ] or [progress_of(joined, root)]
    portions, unknown = _portions_left(plan, title, progress)
    in_units = sum(each.counts.cells - each.counts.left for each in progress) / len(progress)
    measured = counts.cells - counts.left if plan.in_rounds else in_units
    shown = tuple(progress) if parts else ()
    return BlockProgress(plan.block, title, counts, measured, shown, failures, portions, unknown, guessed)


def _part_progress(
    plan: BlockPlan,
    rows: Rows,
    folder: FolderTraces | None,
    pace: Pace,
    processes: Sequence[ProcessAtWork],
    now: float,
) -> PartProgress:
    """The progress of a part with these rows that count, and as yet without a name."""
    working = [each for each in processes if each.alive and folder and each.folder == folder.directory]
    seconds = _seconds_left(plan, rows, pace, working, now)
    return PartProgress("", StateCounts.of(rows.values(), len(plan.pairs)), folder is not None, seconds)


def _portions_left(plan: BlockPlan, title: str, units: Sequence[PartProgress]) -> tuple[tuple[float | None, ...], str]:
    """The seconds that are left of each shard of a block, or of the block, and why they are not known."""
    if plan.in_rounds:
        return (None,), "the scores decide how many rounds follow"
    portions = tuple(each.seconds for each in units if each.counts.left)
    if not portions:
        return (None,), f"all shards of {title} are measured and not joined (harness merge)"
    return portions, f"nothing tells yet how long cells of {title} take" if None in portions else ""


def _settled_rows(plan: BlockPlan, folder: FolderTraces, parts: Sequence[FolderTraces] = ()) -> dict[CellPair, CellRow]:
    """The rows of a block that count in a folder: those of the newest code, which no process that was started later
    measures once more, and which no row of the ``parts`` is newer than."""
    rows = folder.rows(plan.block)
    latest = defaultdict(float, folder.pending(plan.block))
    for part in parts:
        later = {pair: row.finished for pair, row in part.rows(plan.block).items()}
        for pair, time in [*part.pending(plan.block).items(), *later.items()]:
            latest[pair] = max(latest[pair], time)
    sticks, subjects = _newest_code(rows)
    return {
        pair: row
        for pair in plan.pairs
        if (row := rows.get(pair)) is not None
        and row.finished >= latest.get(pair, 0.0)
        and row.stick == sticks[pair.metric].stick
        and _same_subject(row.subject, subjects[pair.explainer].subject)
    }


def _newest_code(rows: Rows) -> tuple[dict[str, CellRow], dict[str, CellRow]]:
    """The newest row of each metric and of each explainer: the code of the others has changed if it is another one."""
    sticks, subjects = {}, {}
    for pair, row in rows.items():
        for newest, item in ((sticks, pair.metric), (subjects, pair.explainer)):
            if item not in newest or row.finished > newest[item].finished:
                newest[item] = row
    return sticks, subjects


def _same_subject(subject: tuple[str, str], newest: tuple[str, str]) -> bool:
    """Whether code and weights are the same; a row of a model that was not loaded does not know the weights."""
    return subject[0] == newest[0] and (subject[1] == newest[1] or "" in (subject[1], newest[1]))


def _seconds_left(
    plan: BlockPlan, rows: Rows, pace: Pace, processes: Sequence[ProcessAtWork], now: float
) -> float | None:
    """The seconds that one process needs for the cells without a row, less those for which it is at work on them."""
    seconds = pace.seconds(pair for pair in plan.pairs if pair not in rows)
    if seconds is None:
        return None
    for each in processes:
        current = pace.seconds(pair for pair in each.pairs if pair in plan.pairs and pair not in rows)
        seconds -= max(0.0, min(now - each.began, current or 0.0))
    return max(0.0, seconds)


def _failed_rows(parts: Iterable[Rows]) -> dict[CellPair, CellRow]:
    """The failed cells of several parts; of a cell that has failed in several, its row in the last one."""
    return {pair: row for rows in parts for pair, row in rows.items() if row.status == "failed"}
