"""How far a run is: its blocks with their shards and rounds, who is at work on them, and when it will end.

All of it is read from the files of the run, on any machine that sees them. Nothing is written, and no item is imported.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from harness.places import ROUNDS, SHARDS, shard_folder
from harness.results.announcements import FOLDER
from harness.results.block_plans import (
    BlockPlan,
    LaunchTimes,
    newest_launch,
    newest_plans,
    times_of_plan,
    titles_of,
    with_announced,
)
from harness.results.block_progress import BlockProgress, StateCounts, block_progress
from harness.results.choice_files import LOCK
from harness.results.part_folders import round_folders, round_of, shard_folders, shard_of
from harness.results.processes_at_work import UNANNOUNCED, ProcessAtWork, counts_as_alive, processes_in
from harness.results.rows import last_rows
from harness.results.run_traces import FolderTraces, begun_work
from harness.results.store import Store
from harness.results.time_left import End, Pace, expected_end

SWEEP_FILE = "config/multirun.yaml"  # Hydra writes it when a sweep begins, or a group of its jobs


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run at a time (``now``, seconds since 1970).

    end       when nothing will be left
    busy_end  when nothing will be left of the blocks that processes are at work on
    others    number of cells with a row that are no cells of the blocks: those of earlier commands
    damaged   number of lines and files that cannot be used
    sweep     whether it is a run of ``harness run -m`` without a launcher: jobs that have not begun are not known
    """

    directory: Path
    now: float
    blocks: tuple[BlockProgress, ...]
    processes: tuple[ProcessAtWork, ...]
    end: End
    busy_end: End
    others: int
    damaged: int
    sweep: bool

    @property
    def counts(self) -> StateCounts:
        """Those of all blocks together."""
        return sum((block.counts for block in self.blocks), StateCounts())

    @property
    def alive(self) -> list[ProcessAtWork]:
        """The processes that are alive, as far as can be told."""
        return [each for each in self.processes if each.alive]


class RunFollower:
    """Looks at a run again and again; a further look reads only what is new."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._folders: dict[Path, FolderTraces] = {}

    def look(self, now: float | None = None) -> RunProgress:
        """The progress of the run ``now`` (seconds since 1970)."""
        self._read()
        now = time.time() if now is None else now
        launch = newest_launch(self.directory)
        plans = self._plans(launch, now)
        titles = titles_of(plans.values())
        processes = self._processes(titles, now)
        blocks = self._blocks(plans, titles, processes, now)
        left = {block for block, progress in zip(plans, blocks, strict=True) if progress.counts.left}
        processes = [each for each in processes if each.stage != UNANNOUNCED or each.block in left]
        alive = {each.block for each in processes if each.alive}
        busy = [progress for block, progress in zip(plans, blocks, strict=True) if block in alive]
        return RunProgress(
            self.directory,
            now,
            tuple(blocks),
            tuple(processes),
            _shared_end(blocks, processes),
            _shared_end(busy, processes),
            self._others(plans),
            sum(folder.damaged for folder in self._folders.values()),
            _is_sweep(self.directory / SWEEP_FILE, launch),
        )

    def _read(self) -> None:
        paths = [self.directory, *_parts_of(self.directory)]
        self._folders = {path: self._folders.get(path) or FolderTraces(path) for path in paths}
        for folder in self._folders.values():
            folder.look()

    def _plans(self, launch: LaunchTimes | None, now: float) -> dict[str, BlockPlan]:
        """The plan of each block, with what the processes have announced beside it."""
        found = [plan for folder in self._folders.values() for plan in folder.plans.values() if plan]
        plans = newest_plans(found, launch)
        configured = set(plans)
        for path, folder in self._folders.items():
            for work in folder.works.values():
                for block, cells in work.announced.items():
                    if block not in configured or counts_as_alive(work, now):
                        plan = plans.get(block)
                        plans[block] = with_announced(plan, block, work.labels[block], cells, _shards_in(path))
        return plans

    def _processes(self, titles: dict[str, str], now: float) -> list[ProcessAtWork]:
        """Those that are alive come first. One that joins shards writes rows into two folders, and counts once."""
        folders = self._folders.items()
        found = [each for path, folder in folders for each in processes_in(folder, _part_title(path), titles, now)]
        announced = [each for each in found if each.stage != UNANNOUNCED]
        known = {each.block for each in announced if each.alive}
        others = sorted((each for each in found if each.stage == UNANNOUNCED), key=lambda each: each.sign)
        silent = {(each.machine, each.process): each for each in others if each.block not in known}
        return sorted([*announced, *silent.values()], key=lambda each: not each.alive)

    def _blocks(
        self, plans: dict[str, BlockPlan], titles: Mapping[str, str], processes: Sequence[ProcessAtWork], now: float
    ) -> list[BlockProgress]:
        root, at_work = self._folders[self.directory], defaultdict[str, list[ProcessAtWork]](list)
        for each in processes:
            at_work[each.block].append(each)
        pace, found = cache(self._pace), []
        for block, plan in plans.items():
            parts = self._parts(plan, at_work[block])
            of_others = partial(pace, bool(parts))
            found.append(block_progress(plan, titles[block], root, parts, at_work[block], of_others, now))
        return found

    def _pace(self, in_parts: bool) -> Pace:
        """What cells of all blocks have taken: those that are measured ``in_parts``, or those that are not."""
        folders = [folder for path, folder in self._folders.items() if (path != self.directory) == in_parts]
        return Pace(each for folder in folders for block in folder.blocks() for each in folder.rows(block).items())

    def _parts(self, plan: BlockPlan, processes: Sequence[ProcessAtWork]) -> dict[str, FolderTraces | None]:
        """The folders in which the shards or rounds of a block are measured; None for one that has not begun."""
        if _part_title(self.directory):  # a shard or a round by itself
            paths = []
        elif plan.shards > 1:
            paths = [self.directory / shard_folder(number, plan.shards) for number in range(plan.shards)]
        elif plan.in_rounds:
            busy = {each.folder for each in processes}
            found = [path for path in self._folders if path.parent.name == ROUNDS]
            paths = [path for path in found if path in busy or self._folders[path].rows(plan.block)]
        else:
            paths = []
        return {_part_title(path): self._folders.get(path) for path in paths}

    def _others(self, plans: dict[str, BlockPlan]) -> int:
        root, nothing = self._folders[self.directory], BlockPlan("", ("", ""), {}, {}, {})
        return sum(len(root.rows(block).keys() - plans.get(block, nothing).pairs.keys()) for block in root.blocks())


def _shared_end(blocks: Sequence[BlockProgress], processes: Sequence[ProcessAtWork]) -> End:
    """When nothing will be left of some blocks, measured by the processes that are alive."""
    portions = [seconds for block in blocks for seconds in block.portions]
    unknown = next((block.unknown for block in blocks if block.unknown), "")
    end = expected_end(portions, sum(each.alive for each in processes), unknown)
    return end if end.seconds is None else replace(end, guessed=sum(block.guessed for block in blocks))


def _is_sweep(path: Path, launch: LaunchTimes | None) -> bool:
    """Whether Hydra's file of a sweep is there, and no launcher has written the configurations of all jobs since."""
    return path.is_file() and (launch is None or launch.began < path.stat().st_mtime)


def folder_to_follow(name: str, runs_directory: str | Path = "runs") -> Path:
    """The folder of a run, also of one that has no row yet: a name under ``runs_directory``, a path, ``latest`` or
    ``previous`` (by the last row of it or its parts, and the last beginning of a process or launch; by its
    configurations where there is none of these). UserError if there is none.
    """
    runs = Path(runs_directory)
    if name in ("latest", "previous"):
        signs = {path: _last_sign(path) for path in sorted(runs.glob("*")) if _holds_run(path)}
        found = sorted((path for path, sign in signs.items() if sign), key=lambda path: signs[path])
        place = -1 if name == "latest" else -2
        if len(found) >= -place:
            return found[place]
    for path in (runs / name, Path(name)):
        if _holds_run(path):
            return path
    from harness.results.frames import find_run  # its libraries take a second to import

    return find_run(name, runs)


def _holds_run(path: Path) -> bool:
    names = ("cells", FOLDER, "config", SHARDS, ROUNDS)
    return any(os.path.isdir(path / each) for each in names) and not os.path.isfile(path / LOCK)


def _last_sign(run: Path) -> str:
    """When the last row was finished, or the last process or launch began (ISO, UTC).

    Where there is none of these, when a configuration was last used, as in the second of several runs that one launch
    measures; a copy of the run has other times. "" where there is none either.
    """
    folders = [run, *_parts_of(run)]
    begun = [work.started for folder in folders for path in _announcing(folder) if (work := begun_work(path))]
    launch = newest_launch(run)
    times = [*begun, launch.began] if launch else begun
    signs = [*(_last_row(folder) for folder in folders), *map(_iso, times)]
    return max(signs) or max((_iso(max(times_of_plan(path))) for path in run.glob("config/*.json")), default="")


def _announcing(folder: Path) -> Iterator[Path]:
    return (folder / FOLDER).glob("*.jsonl")


def _last_row(folder: Path) -> str:
    """When the last row was finished; "" without one. Pipes and devices are passed over: they have no end."""
    files = (path for path in Store(folder).files() if path.is_file())
    return max((str(row.get("finished") or "") for path in files for row in last_rows(path)), default="")


def _iso(seconds: float) -> str:
    """A time as in the rows."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _parts_of(run: Path) -> list[Path]:
    """The folders of a run's shards and rounds, by their numbers."""
    shards = sorted(shard_folders(run), key=lambda path: shard_of(path)[::-1])
    return [*shards, *sorted(round_folders(run), key=round_of)]


def _part_title(folder: Path) -> str:
    """``shard 3 of 16`` or ``round 2``; "" for the folder of a run."""
    shard, number = shard_of(folder), round_of(folder)
    if shard is not None:
        return "shard {} of {}".format(*shard)
    return "" if number is None else f"round {number}"


def _shards_in(folder: Path) -> int:
    """The number of shards of which a folder holds one; 1 for another folder."""
    return (shard_of(folder) or (0, 1))[1]
