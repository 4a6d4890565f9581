"""The part of ``harness run`` that starts its jobs in other processes, and tells what has come of them."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import NotMeasured, UserError, printable

if TYPE_CHECKING:  # these modules import torch
    from harness.jobs.plan import Plan
    from harness.launching.jobs import LaunchedJob
    from harness.launching.settings import Launcher
    from harness.results.row_labels import Row
    from harness.results.store import Store


SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class LaunchContext:
    """What a job knows of the command that has started it, handed over as ``--launched JSON``.

    in_sweep  whether the job is one of several, of which one that cannot be measured is no mistake
    swept     the options of the model and of the data set that the command varies, by section
    labels    the labels of the model and of the data set that tell them from those of other jobs, by section
    """

    in_sweep: bool
    swept: Mapping[str, Sequence[str]]
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> "LaunchContext":
        """From the text that ``arguments`` has given; UserError for any other."""
        try:
            found = cls(**json.loads(text))
            lists = [*found.swept.values(), list(found.labels.values())]
            names = [name for each in lists for name in each]
            sections = {*found.swept, *found.labels}
            if (
                isinstance(found.in_sweep, bool)
                and sections <= {"model", "dataset"}
                and all(isinstance(each, list) for each in lists)
                and all(isinstance(name, str) for name in names)
            ):
                return found
        except (ValueError, TypeError, AttributeError):
            pass
        raise UserError(f"--launched came with {text!r}, expected what a launcher writes there: it is not for typing")

    @property
    def arguments(self) -> list[str]:
        """The arguments of the job's command that hand it over."""
        return ["--launched", json.dumps(vars(self))]

    def labelled(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with the labels."""
        return {**config, **{section: {**config[section], "label": label} for section, label in self.labels.items()}}


class Launch:
    """The jobs of a command that a launcher starts, with what has come of them.

    ``flags`` are those with which the command of a job begins.
    """

    def __init__(self, flags: Sequence[str]) -> None:
        self.flags = [flag for flag in flags if flag not in ("-m", "--multirun")]
        self.launcher: Launcher | None = None
        self.plans: list[Plan] = []
        self.arguments: list[list[str]] = []  # of each job, those of Hydra
        self.contexts: list[LaunchContext] = []
        self.known: dict[Path, dict[tuple[str, str], Any]] = {}  # models and data by their labels, in each run
        self.last_line_at = time.monotonic()  # when the number of jobs was last printed

    def add(
        self, launcher: "Launcher", config: Mapping[str, Any], arguments: Sequence[str], about: LaunchContext
    ) -> None:
        """Add a job by its configuration, which names a shard if it is one, and the arguments that compose it."""
        from harness.jobs.plan import Plan

        plan = Plan.of(config)  # a mistake is told before anything is started
        if self.launcher not in (None, launcher):
            raise UserError("the jobs of this sweep have different settings of launcher, expected the same for all")
        self.launcher = launcher
        plan, labels = self._labelled(plan)
        if plan.protocol.rounds and _block_key(plan) in map(_block_key, self.plans):
            raise UserError(
                f"protocol.{plan.protocol.rounds} is set, and several jobs measure {plan.title}, expected one job for "
                "each block, since those that run side by side could take different numbers of samples: name all "
                "explainers and metrics at once, or use launcher=here"
            )
        shard = plan.runtime.shard
        of_shard = [] if shard is None else [f"++runtime.shard={shard}"]
        self.plans.append(plan)
        self.arguments.append([*arguments, *of_shard])
        self.contexts.append(replace(about, labels=labels))
        if time.monotonic() - self.last_line_at > SECONDS_BETWEEN_LINES:
            _JobMessages(0, plan.runtime.quiet).say(f"{len(self.plans)} jobs composed so far; none is started yet")
            self.last_line_at = time.monotonic()

    def _labelled(self, plan: "Plan") -> tuple["Plan", dict[str, str]]:
        """The plan with labels that are unique in its run, and those labels that were changed, by section.

        Jobs that run side by side do not see each other's rows, from which a run otherwise takes them. UserError where
        a label that the user gives belongs to another one.
        """
        from harness.jobs.run_labels import check_not_renamed, labelled_among, row_of_labels
        from harness.results.label_claims import claims_in
        from harness.results.row_labels import MODEL_AND_DATA, labelling_rows
        from harness.results.store import Store

        run = whole_directory(plan)
        if run not in self.known:
            rows = (*claims_in(run), *labelling_rows(Store(run)))
            self.known[run] = {(row.get("model"), row.get("dataset")): row for row in rows}
        check_not_renamed(plan, claims_in(run))
        labelled = labelled_among(plan, self.known[run].values())
        self.known[run][labelled.model.label, labelled.dataset.label] = row_of_labels(labelled)
        pairs = {each: (getattr(plan, each).label, getattr(labelled, each).label) for each in MODEL_AND_DATA}
        return labelled, {section: label for section, (own, label) in pairs.items() if label != own}

    def run(self) -> int:
        """Start the jobs, wait for them and print the tables; the exit status.

        1 if cells are missing, or more failed than are allowed; then 2 if a job was refused. 0 otherwise.
        """
        if not self.plans:
            return 0
        from harness.jobs.parts import clear_finished_parts
        from harness.launching.jobs import MISTAKE
        from harness.launching.launchers import launch_function
        from harness.launching.outcome import wholes_of
        from harness.launching.settings import Slurm
        from harness.launching.slurm import check_no_jobs_in_slurm

        self._measure_controls_once()
        jobs = self._jobs()
        lines = _JobMessages(len(jobs), jobs[0].plan.runtime.quiet)
        waiting = self._with_work(jobs)
        if len(waiting) < len(jobs):
            lines.say(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs have nothing to measure, and are not started")
        if waiting:
            former: list[tuple[Store, list[Row]]] = []
            reports = lines.reports(ready=lambda: former.extend(_write_launch(jobs, lines)))
            try:
                if not isinstance(self.launcher, Slurm):  # it asks by itself, and refuses if Slurm does not answer
                    check_no_jobs_in_slurm({job.run for job in waiting})
                launch_function(self.launcher)(waiting, self.launcher, reports)
            except UserError as error:
                if not lines.started and not isinstance(error, NotMeasured):  # there was no launch
                    for store, rows in reversed(former):
                        store.append_all(rows)
                    _remove_launch(jobs)
                raise
        else:
            if any(each.named for job in jobs for each in (job.plan.model, job.plan.dataset)):
                check_no_jobs_in_slurm({job.run for job in jobs})
                _rename_rows(jobs)
            for whole in wholes_of(job.plan for job in jobs):
                clear_finished_parts(whole)
        status = _print_outcome(jobs, lines.refused)
        return MISTAKE if status and lines.refused else status

    def _measure_controls_once(self) -> None:
        """Add the control to each plan, unless another job measures its cells, as in a sweep over explainers."""
        planned = {(plan.directory, cell.id) for plan in self.plans for cell in plan.cells}
        for number, plan in enumerate(self.plans):
            with_control = plan.with_control()
            of_control = {(plan.directory, cell.id) for cell in with_control.cells[len(plan.cells) :]}
            if of_control and of_control <= planned:
                self.arguments[number].append("++runtime.control=false")
            else:
                self.plans[number] = with_control
            planned |= of_control

    def _with_work(self, jobs: Sequence["LaunchedJob"]) -> list["LaunchedJob"]:
        """The jobs with cells left to measure. If jobs share a device, costs that lack only a time do not count."""
        from harness.launching.outcome import RunRows, has_work
        from harness.launching.processes import share_a_device
        from harness.launching.settings import Processes

        runs = RunRows()
        waiting = [job for job in jobs if has_work(job.plan, runs, timed=True)]
        if waiting and isinstance(self.launcher, Processes) and share_a_device(self.launcher, waiting):
            return [job for job in waiting if has_work(job.plan, runs, timed=False)]
        return waiting

    def _jobs(self) -> list["LaunchedJob"]:
        """The jobs with their numbers and logs."""
        from harness.launching.jobs import LaunchedJob
        from harness.places import JOBS, TIME_OF_LAUNCH

        began = datetime.now(UTC).strftime(TIME_OF_LAUNCH)
        folder = whole_directory(self.plans[0]) / JOBS / began
        common = set.intersection(*map(set, self.arguments))
        jobs = []
        parts = zip(self.plans, self.arguments, self.contexts, strict=True)
        for number, (plan, arguments, about) in enumerate(parts, 1):
            title = " ".join([plan.title, *(each.lstrip("+") for each in arguments if each not in common)])
            command = ("run", *self.flags, *about.arguments, *arguments)
            jobs.append(LaunchedJob(number, title, command, folder / f"{number}.log", plan))
        return jobs


def whole_directory(plan: "Plan") -> Path:
    """The folder of the run that a plan, or its shard, belongs to."""
    from harness.jobs.parts import whole_of

    return whole_of(plan).directory


def _block_key(plan: "Plan") -> tuple[Any, ...]:
    """The run of a plan, and its model, data set and protocol."""
    return whole_directory(plan), plan.model.identity, plan.dataset.identity, plan.protocol


def _write_launch(jobs: Sequence["LaunchedJob"], lines: "_JobMessages") -> list[tuple["Store", list["Row"]]]:
    """Make the folder of the launch in each run, and save the configurations of all jobs, which name their cells; the
    rows that have new labels, as they were."""
    from harness.launching.jobs import folders_of_launch
    from harness.launching.outcome import wholes_of, write_configs
    from harness.results.disk import told_in_one_line

    for folder in folders_of_launch(jobs):
        with told_in_one_line(folder, "nothing has been measured yet"):
            folder.mkdir(parents=True)
    write_configs(wholes_of(job.plan for job in jobs))
    lines.say(f"what the jobs print: {_short(jobs[0].log.parent)}/NUMBER.log")
    return _rename_rows(jobs)


def _rename_rows(jobs: Sequence["LaunchedJob"]) -> list[tuple["Store", list["Row"]]]:
    """Give finished rows the labels that the user gives now: not by each job, while others measure. The rows as they
    were."""
    from harness.jobs.run_labels import rename_rows
    from harness.launching.outcome import wholes_of
    from harness.results.store import Store

    stores = cache(Store)  # which keeps the rows that it has read
    return [
        (stores(whole.directory), rename_rows(whole, stores(whole.directory)))
        for whole in wholes_of(job.plan for job in jobs)
    ]


def _remove_launch(jobs: Sequence["LaunchedJob"]) -> None:
    """Remove the folders of a launch that has started no job; configurations stay."""
    from harness.launching.jobs import folders_of_launch

    for folder in folders_of_launch(jobs):
        shutil.rmtree(folder, ignore_errors=True)


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
    for whole in wholes_of(job.plan.with_control() for job in jobs):  # another job may have measured the control
        found = cell_statuses(whole, runs)
        counts = counts_of(found)
        _print_table(whole, [cell_id for cell_id, each in found.items() if each != MISSING])
        of_all |= {(whole.directory, cell_id): each for cell_id, each in found.items()}
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

    def reports(self, ready: Callable[[], None]) -> Any:
        """What a launcher calls."""
        from harness.launching.jobs import Reports

        return Reports(ready, self.began, self.ended, self.say)

    def say(self, text: str, *, mistake: bool = False) -> None:
        """Print a line; if messages are not wanted, only that of a mistake."""
        if mistake or not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def began(self, job: "LaunchedJob", where: str) -> None:
        """A job begins, or begins again."""
        self.started[job.number] = time.monotonic()
        self.say(f"{self._name(job)}: begins{f' on {where}' if where else ''}")

    def ended(self, job: "LaunchedJob", how: str) -> None:
        """A job has ended: what its run has of it now, and why something is missing."""
        from harness.launching.jobs import REFUSED
        from harness.launching.outcome import MISSING, counts_in_words, counts_of_plan

        self.refused |= how == REFUSED
        seconds = time.monotonic() - self.started.get(job.number, time.monotonic())
        counts = counts_of_plan(job.plan)
        message = f"{self._name(job)}: {how or 'has ended'} after {seconds:.0f} s: {counts_in_words(counts)}"
        last = printable(job.last_line())
        message += f"; {_short(job.log)} ends with: {last}" if (counts[MISSING] or how) and last else ""
        self.say(message, mistake=how == REFUSED)

    def _name(self, job: "LaunchedJob") -> str:
        return f"{job.number:>{len(str(self.jobs))}}/{self.jobs}  {printable(job.title)}"
