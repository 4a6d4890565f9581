"""The part of ``harness run`` that starts its jobs in other processes, and tells what has come of them."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.errors import UserError

if TYPE_CHECKING:  # these modules import torch
    from harness.jobs.plan import Plan
    from harness.launching.jobs import LaunchedJob
    from harness.launching.settings import Launcher


class Launch:
    """The jobs of a command that a launcher starts, with what has come of them.

    ``flags`` are those with which the command of a job begins.
    """

    def __init__(self, flags: Sequence[str]) -> None:
        self.flags = [flag for flag in flags if flag not in ("-m", "--multirun")]
        self.launcher: Launcher | None = None
        self.configs, self.arguments = list[Mapping[str, Any]](), list[tuple[str, ...]]()

    def add(self, launcher: "Launcher", config: Mapping[str, Any], words: Sequence[str]) -> None:
        """Add a job by its configuration, which names a shard if it is one, and the words that Hydra composed it of."""
        from harness.jobs.plan import Plan

        Plan.of(config)  # a mistake is told before anything is started
        if self.launcher not in (None, launcher):
            raise UserError("the jobs of this sweep have different settings of launcher, expected the same for all")
        self.launcher = launcher
        shard = config["runtime"]["shard"]
        of_shard = [] if shard is None else [f"++runtime.shard={shard}"]
        self.configs.append(config)
        self.arguments.append(("run", *self.flags, *words, *of_shard))

    def status(self) -> int:
        """Start the jobs, wait for them and print the tables; 1 if cells are lacking, or more failed than are allowed.

        0 without jobs.
        """
        if not self.configs:
            return 0
        from harness.launching.engines import engine_of
        from harness.launching.outcome import has_work, wholes_of, write_configs

        jobs = self._jobs()
        lines = _Lines(len(jobs), jobs[0].plan.runtime.quiet)
        waiting = [job for job in jobs if has_work(job.plan)]
        if len(waiting) < len(jobs):
            lines.say(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs have nothing to measure, and are not started")
        if waiting:
            _make_folder(jobs[0].log.parent)
            write_configs(wholes_of(job.plan for job in waiting))
            lines.say(f"what the jobs print: {_short(jobs[0].log.parent)}/NUMBER.log")
            engine_of(self.launcher)(waiting, self.launcher, lines.reports())
        return _told(jobs)

    def _jobs(self) -> list["LaunchedJob"]:
        """The jobs with their plans, numbers and logs."""
        from harness.jobs.parts import whole_of
        from harness.jobs.plan import Plan
        from harness.launching.jobs import LaunchedJob
        from harness.places import JOBS

        plans = [Plan.of(config).with_control() for config in self.configs]
        folder = whole_of(plans[0]).directory / JOBS / datetime.now().strftime("%Y%m%d-%H%M%S.%f")
        common = set.intersection(*map(set, self.arguments))
        own = [[word.lstrip("+") for word in words if word not in common] for words in self.arguments]
        parts = zip(plans, own, self.arguments, strict=True)
        return [
            LaunchedJob(number, " ".join([plan.title, *words]), arguments, folder / f"{number}.log", plan)
            for number, (plan, words, arguments) in enumerate(parts, 1)
        ]


def _make_folder(folder: Path) -> None:
    from harness.results.disk import told_in_one_line

    with told_in_one_line(folder, "nothing has been measured yet"):
        folder.mkdir(parents=True)


def _told(jobs: Sequence["LaunchedJob"]) -> int:
    """Print what the runs have of the jobs; 1 if cells are lacking, or more failed than are allowed."""
    from harness.launching.outcome import cell_statuses, counts_in_words, counts_of, wholes_of

    status, of_all = 0, {}  # cells of several jobs can be the same
    for whole in wholes_of(job.plan for job in jobs):
        found = cell_statuses(whole)
        counts = counts_of(found)
        _print_table(whole, [cell for cell in found if found[cell] != "lacking"])
        of_all |= {(whole.directory, cell): each for cell, each in found.items()}
        status = max(status, int(counts["lacking"] > 0 or counts["failed"] > whole.runtime.max_failed))
    more = "; the same command measures what is lacking" if "lacking" in of_all.values() else ""
    print(f"{len(jobs)} jobs: {counts_in_words(counts_of(of_all))}{more}")
    return status


def _print_table(whole: "Plan", measured: Sequence[str]) -> None:
    from harness.cli.table_rows import print_run

    if measured:
        print_run(whole.directory, set(measured))
        print(f"results: {whole.place}/cells and scores")


def _short(path: Path) -> Path:
    """The path from the working folder, if it lies there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class _Lines:
    """Says when each job begins and ends, and what it has measured."""

    def __init__(self, jobs: int, quiet: bool) -> None:
        self.jobs, self.quiet = jobs, quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.started: dict[int, float] = {}

    def reports(self) -> Any:
        """What a launcher calls."""
        from harness.launching.jobs import Reports

        return Reports(self.began, self.ended, self.say)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def began(self, job: "LaunchedJob", where: str) -> None:
        """A job begins, or begins again."""
        self.started[job.number] = time.monotonic()
        self.say(f"{self._number(job)}  {job.title}: begins{f' on {where}' if where else ''}")

    def ended(self, job: "LaunchedJob", how: str) -> None:
        """A job has ended: what its run has of it now, and why something is lacking."""
        from harness.launching.outcome import counts_in_words, counts_of_plan

        seconds = time.monotonic() - self.started.get(job.number, time.monotonic())
        counts = counts_of_plan(job.plan)
        words = (
            f"{self._number(job)}  {job.title}: {how or 'has ended'} after {seconds:.0f} s: {counts_in_words(counts)}"
        )
        last = job.last_line()
        self.say(words + (f"; {_short(job.log)} ends with: {last}" if counts["lacking"] and last else ""))

    def _number(self, job: "LaunchedJob") -> str:
        return f"{job.number:>{len(str(self.jobs))}}/{self.jobs}"
