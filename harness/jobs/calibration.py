"""Measures a block on few of its samples, into a temporary run; ``harness.jobs.forecast`` computes what all will take.

The engine, the explainers, the metrics and all options are those of the run. What each piece of the work takes is read
between the calls of the recorder, as in a choice of ``harness choose``.
"""

import time
from dataclasses import replace
from pathlib import Path

import torch

from harness.engine.allocator import keep_freed_memory
from harness.engine.convergence import samples_compared
from harness.engine.cost import synchronize
from harness.engine.item_guard import Spoilt
from harness.engine.protocol import precision
from harness.engine.selection import Cell
from harness.engine.stage import Stage
from harness.errors import NotApplicable, UserError, one_line
from harness.interrupts import asked_by_user
from harness.jobs.calibration_run import SmallRun
from harness.jobs.channel import Watched
from harness.jobs.environment import device_name
from harness.jobs.finished import finished_rows
from harness.jobs.forecast import (
    MOST_SECONDS_TO_REPEAT,
    Forecast,
    Measurement,
    Shape,
    Workload,
    is_worth_it,
    next_size,
    warmed,
)
from harness.jobs.job_estimate import JobEstimate
from harness.jobs.lease import Alone, devices_named, lease
from harness.jobs.pending_work import works_of
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.run_labels import labelled_in_run
from harness.jobs.runner import uncut_stage
from harness.messages import heard_by, watched_by
from harness.results.store import Store

DEAREST, LEAST_SHARE = 4, 0.01  # explainers and metrics that are named with their share of the time


def estimate_job(
    plan: Plan, folder: Path, progress: Progress, *, in_sweep: bool = True, watched: Watched | None = None
) -> JobEstimate:
    """Measure the plan's pending cells on few samples into ``folder``, and say what measuring all will take.

    Raises UserError where model and data cannot be loaded, and where an item leaves something that spoils this process.
    In a sweep, a model that does not take the data costs nothing: its cells are not applicable.
    """
    plan = labelled_in_run(plan, Store(plan.run_directory))
    if plan.runtime.threads:
        torch.set_num_threads(plan.runtime.threads)
    devices = devices_named(plan.runtime.device)
    if devices[0].type == "cpu":
        keep_freed_memory()
    # Whoever shares a device is told that costs will be measured later, which is nothing to an estimate.
    shares = plan.runtime.lease == "share" or (plan.runtime.lease == "auto" and devices[0].type == "cpu")
    say = (lambda text: None) if shares else progress.say
    leased = lease(devices, plan.runtime.lease, say, user=f"estimate of {plan.title}")
    alive = watched.channel.alive if watched else lambda: None
    with heard_by(progress.say), watched_by(alive), leased as alone, precision(plan.protocol.dtype):
        calibration = Calibration(plan, folder, alone, progress, watched)
        try:
            calibration.load()
        except BaseException as error:
            if asked_by_user(error):
                raise
            if in_sweep and isinstance(error, NotApplicable):
                return calibration.refused(error)
            raise UserError(f"{plan.title} could not be loaded: {one_line(error)}") from error
        try:
            return calibration.estimate()
        except Spoilt as spoilt:
            raise UserError(f"no estimate of {plan.title}: {spoilt}; ~explainer.NAME leaves an explainer out") from None


class Calibration:
    """Measures the pending cells of one job on growing numbers of samples."""

    def __init__(self, plan: Plan, folder: Path, alone: Alone, progress: Progress, watched: Watched | None) -> None:
        self.plan, self.alone, self.progress, self.watched = plan, alone, progress, watched
        self.device = alone.device
        self.started = time.perf_counter()
        self.run = SmallRun(plan, folder, watched)
        self.cells: list[Cell] = []
        self.measurements: list[Measurement] = []
        self.seconds = 0.0  # of the last measurement

    def load(self) -> None:
        """Load model and data, and find what is pending."""
        self.progress.loading(self.plan.title, self.device)
        recorder = self.run.recorder()
        recorder.begins("load", [])
        started = time.perf_counter()
        self.stage = uncut_stage(self.plan, self.device, whole=False)
        synchronize(self.device)
        self.run.loading = time.perf_counter() - started
        recorder.rests()
        works = works_of(self.plan, self.stage)
        pending = set().union(*(work.cells for work in works))
        self.pending = [cell for cell in self.plan.cells if cell.labels in pending]
        # A cell that has ended an earlier process of this command is not tried again.
        tried = self.watched.tried_in(self.run.store.directory) if self.watched else frozenset()
        self.cells = [cell for cell in self.pending if cell.id not in tried]
        labels = frozenset(cell.labels for cell in self.cells)
        self.works = [Workload(work.cells & labels, work.samples) for work in works if work.cells & labels]

    def estimate(self) -> JobEstimate:
        """Measure on growing numbers of samples as long as that is worth it; what all samples will take."""
        stage, batch = self.stage, self.plan.protocol.explain_batch
        if self.watched is not None:
            self.watched.measured = True
        while (size := next_size(self._sizes, stage.count, batch, self.seconds)) is not None and self._goes_on(size):
            self.progress.say(f"measuring {len(self.cells)} cells on {size} of {stage.count} samples")
            measured = self._measured(stage, size)
            if not self.measurements and self.seconds <= MOST_SECONDS_TO_REPEAT:
                self.progress.say("measuring them once more: the first time takes longer")
                measured, further = warmed(measured, self._measured(stage, size))
                self.run.loading += further
            self.measurements.append(measured)
        return self._outcome()

    def _measured(self, stage: Stage, size: int) -> Measurement:
        """Measure on so many samples, and say how long that took."""
        started = time.perf_counter()
        found = self.run.measure(stage, size, self.cells, self.alone)
        self.seconds = time.perf_counter() - started
        self.progress.say(f"{'':>9}{self.seconds:.1f} s")
        return found

    def refused(self, error: NotApplicable) -> JobEstimate:
        """The estimate for a model that does not take the data."""
        pending = self.plan.pending(finished_rows(Store(self.plan.directory), self.plan.cells))
        about = self._about(len(pending), 0)
        return replace(about, unmeasured=[("not_applicable", len(pending), one_line(error))])

    @property
    def _sizes(self) -> list[int]:
        return [each.samples for each in self.measurements]

    def _goes_on(self, size: int) -> bool:
        if not self.cells or len(self.measurements) < 2:
            return bool(self.cells)
        forecast = self._forecast()
        # At most what it would take if nothing of the last measurement had been paid once.
        further = self.seconds * size / self._sizes[-1]
        total = sum(float(forecast.taken(work)[0]) for work in self.works)
        at_most = self.seconds * sum(work.samples for work in self.works) / self._sizes[-1]
        return is_worth_it(time.perf_counter() - self.started, further, total, forecast.settled, at_most)

    def _forecast(self) -> Forecast:
        entries = {cell.explainer.label: cell.explainer.entry for cell in self.cells}
        units, in_chunk = self.stage.units.count, self.stage.chunk_size
        repeated = lambda name, samples: samples_compared(entries[name], units, samples, in_chunk)
        shape = Shape(self.plan.protocol.explain_batch, self.plan.runtime.sheet, repeated)
        return Forecast(self.measurements, shape)

    def _outcome(self) -> JobEstimate:
        about = self._about(len(self.pending), self.stage.count)
        about = replace(about, unmeasured=self.run.unmeasured(), calibration=time.perf_counter() - self.started)
        if not self.measurements:
            return about
        forecast = self._forecast()
        taken = [forecast.taken(work) for work in self.works]
        shares = sorted(forecast.shares(self.works).items(), key=lambda item: -item[1])
        _, forwards, backwards = sum(taken)
        return replace(
            about,
            sizes=self._sizes,
            parts=[float(each[0]) for each in taken],
            once=float(sum(forecast.paid_once(work)[0] for work in self.works)),
            passes=(round(forwards), round(backwards)),
            memory=forecast.memory(max(work.samples for work in self.works)),
            disk=round(forecast.disk(self.works)),
            dearest=[each for each in shares[:DEAREST] if each[1] >= LEAST_SHARE],
        )

    def _about(self, cells: int, samples: int) -> JobEstimate:
        plan = self.plan
        return JobEstimate(
            plan.title,
            device_name(self.device),
            cells,
            samples,
            uncounted=sorted(self.run.uncounted),
            alone=bool(self.alone),
            at_most=bool(plan.protocol.rounds),
            shards=plan.runtime.shards if plan.runtime.shard is None else 1,
        )
