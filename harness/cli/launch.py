"""The part of ``harness run`` that starts its jobs in other processes, and tells what has come of them."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, printable

if TYPE_CHECKING:  # these modules import torch
    from harness.jobs.plan import Plan
    from harness.launching.jobs import LaunchedJob
    from harness.launching.settings import Launcher


SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class LaunchContext:
    """What a job knows of the command that has started it, handed over as ``--launched JSON``.

    in_sweep  whether the job is one of several, of which one that cannot be measured is no mistake
    swept     the options of the model and of the data set that the command varies, by section
    """

    in_sweep: bool
    swept: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, text: str) -> "LaunchContext":
        """From the text that ``words`` has given; UserError for any other."""
        try:
            found = cls(**json.loads(text))
            lists = [names for names in found.swept.values() if all(isinstance(name, str) for name in names)]
            if isinstance(found.in_sweep, bool) and len(lists) == len(found.swept):
                return found
        except (ValueError, TypeError, AttributeError):
            pass
        raise UserError(f"--launched came with {text!r}, expected what a launcher writes there: it is not for typing")

    @property
    def words(self) -> list[str]:
        """The argument of the job's command."""
        return ["--launched", json.dumps(vars(self))]


class Launch:
    """The jobs of a command that a launcher starts, with what has come of them.

    ``flags`` are those with which the command of a job begins.
    """

    def __init__(self, flags: Sequence[str]) -> None:
        self.flags = [flag for flag in flags if flag not in ("-m", "--multirun")]
        self.launcher: Launcher | None = None
        self.plans: list[Plan] = []
        self.arguments: list[tuple[str, ...]] = []
        self.cells: set[tuple[Path, str]] = set()  # of all jobs so far, by run
        self.last_line_at = time.monotonic()  # when the number of jobs was last printed

    def add(self, launcher: "Launcher", config: Mapping[str, Any], words: Sequence[str], about: LaunchContext) -> None:
        """Add a job by its configuration, which names a shard if it is one, and the words that Hydra composed it of."""
        from harness.jobs.plan import Plan

        plan = Plan.of(config)  # a mistake is told before anything is started
        if self.launcher not in (None, launcher):
            raise UserError("the jobs of this sweep have different settings of launcher, expected the same for all")
        self.launcher = launcher
        shard = plan.runtime.shard
        added = [] if shard is None else [f"++runtime.shard={shard}"]
        if self._has_control(plan):
            added.append("++runtime.control=false")
        else:
            plan = plan.with_control()
        self.cells |= {(plan.directory, job.cell) for job in plan.jobs}
        self.plans.append(plan)
        self.arguments.append(("run", *self.flags, *about.words, *words, *added))
        if time.monotonic() - self.last_line_at > SECONDS_BETWEEN_LINES:
            _JobMessages(0, plan.runtime.quiet).say(f"{len(self.plans)} jobs composed so far; none is started yet")
            self.last_line_at = time.monotonic()

    def _has_control(self, plan: "Plan") -> bool:
        """Whether earlier jobs measure all cells of the control that would be added, as in a sweep over explainers."""
        cells = {job.cell for job in plan.with_control().jobs} - {job.cell for job in plan.jobs}
        return bool(cells) and all((plan.directory, cell) in self.cells for cell in cells)

    def run(self) -> int:
        """Start the jobs, wait for them and print the tables; 1 if cells are missing, or more failed than are allowed.

        2 if cells are missing because a job was refused, 0 without jobs.
        """
        if not self.plans:
            return 0
        from harness.launching.jobs import MISTAKE
        from harness.launching.launchers import launch_function
        from harness.launching.outcome import wholes_of, write_configs

        jobs = self._jobs()
        lines = _JobMessages(len(jobs), jobs[0].plan.runtime.quiet)
        waiting = self._with_work(jobs)
        if len(waiting) < len(jobs):
            lines.say(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs have nothing to measure, and are not started")
        if waiting:
            _make_folder(jobs[0].log.parent)
            write_configs(wholes_of(job.plan for job in waiting))
            lines.say(f"what the jobs print: {_short(jobs[0].log.parent)}/NUMBER.log")
            launch_function(self.launcher)(waiting, self.launcher, lines.reports())
        status = _print_outcome(jobs, lines.refused)
        return MISTAKE if status and lines.refused else status

    def _with_work(self, jobs: Sequence["LaunchedJob"]) -> list["LaunchedJob"]:
        """The jobs that have something to measure; costs that would get no time this way are nothing."""
        from harness.launching.outcome import RunRows, has_work
        from harness.launching.processes import share_a_device
        from harness.launching.settings import Processes

        runs = RunRows()
        waiting = [job for job in jobs if has_work(job.plan, runs, timed=True)]
        if isinstance(self.launcher, Processes) and share_a_device(self.launcher, len(waiting)):
            return [job for job in waiting if has_work(job.plan, runs, timed=False)]
        return waiting

    def _jobs(self) -> list["LaunchedJob"]:
        """The jobs with their numbers and logs."""
        from harness.jobs.parts import whole_of
        from harness.launching.jobs import LaunchedJob
        from harness.places import JOBS

        folder = whole_of(self.plans[0]).directory / JOBS / datetime.now().strftime("%Y%m%d-%H%M%S.%f")
        common = set.intersection(*map(set, self.arguments))
        own = [[word.lstrip("+") for word in words if word not in common] for words in self.arguments]
        parts = zip(self.plans, own, self.arguments, strict=True)
        return [
            LaunchedJob(number, " ".join([plan.title, *words]), arguments, folder / f"{number}.log", plan)
            for number, (plan, words, arguments) in enumerate(parts, 1)
        ]


def _make_folder(folder: Path) -> None:
    from harness.results.disk import told_in_one_line

    with told_in_one_line(folder, "nothing has been measured yet"):
        folder.mkdir(parents=True)


def _print_outcome(jobs: Sequence["LaunchedJob"], refused: bool) -> int:
    """Print what the runs have of the jobs; 1 if cells are missing, or more failed than are allowed."""
    from harness.launching.outcome import (
        MISSING,
        UNTIMED,
        RunRows,
        cell_statuses,
        counts_in_words,
        counts_of,
        wholes_of,
    )

    status, of_all, runs = 0, {}, RunRows()  # cells of several jobs can be the same
    for whole in wholes_of(job.plan for job in jobs):
        found = cell_statuses(whole, runs)
        counts = counts_of(found)
        _print_table(whole, [cell for cell in found if found[cell] != MISSING])
        of_all |= {(whole.directory, cell): each for cell, each in found.items()}
        status = max(status, int(counts[MISSING] > 0 or counts["failed"] > whole.runtime.max_failed))
    more = {
        MISSING: "; correct what was refused" if refused else "; the same command measures what is missing",
        UNTIMED: "; costs have no time where jobs shared a device: launcher=here, or a device for each job, times them",
    }
    hints = "".join(hint for each, hint in more.items() if each in of_all.values())
    print(f"{len(jobs)} jobs: {counts_in_words(counts_of(of_all))}{hints}")
    return status


def _print_table(whole: "Plan", measured: Sequence[str]) -> None:
    from harness.cli.table_rows import print_run

    if measured:
        print_run(whole.directory, set(measured))
        print(f"results: {whole.place}/cells and scores")


def _short(path: Path) -> Path:
    """The path from the working folder, if it lies there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class _JobMessages:
    """Says when each job begins and ends, and what it has measured."""

    def __init__(self, jobs: int, quiet: bool) -> None:
        self.jobs, self.quiet = jobs, quiet
        self.started: dict[int, float] = {}
        self.refused = False

    def reports(self) -> Any:
        """What a launcher calls."""
        from harness.launching.jobs import Reports

        return Reports(self.began, self.ended, self.say)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def began(self, job: "LaunchedJob", where: str) -> None:
        """A job begins, or begins again."""
        self.started[job.number] = time.monotonic()
        self.say(f"{self._name(job)}: begins{f' on {where}' if where else ''}")

    def ended(self, job: "LaunchedJob", how: str) -> None:
        """A job has ended: what its run has of it now, and why something is missing."""
        from harness.launching.jobs import REFUSED
        from harness.launching.outcome import counts_in_words, counts_of_plan

        self.refused |= how == REFUSED
        seconds = time.monotonic() - self.started.get(job.number, time.monotonic())
        counts = counts_of_plan(job.plan)
        words = f"{self._name(job)}: {how or 'has ended'} after {seconds:.0f} s: {counts_in_words(counts)}"
        last = printable(job.last_line())
        self.say(words + (f"; {_short(job.log)} ends with: {last}" if counts["missing"] and last else ""))

    def _name(self, job: "LaunchedJob") -> str:
        return f"{job.number:>{len(str(self.jobs))}}/{self.jobs}  {printable(job.title)}"
