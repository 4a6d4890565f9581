"""Charges what is measured with the time and the model evaluations that it takes, piece by piece."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.engine.block import Explained, Recorder
from harness.engine.cost import PassCounter
from harness.engine.selection import Chosen, Job

MAPS = "maps"  # what the cells of one explainer share


def of_explainer(explainer: Chosen, jobs: Sequence[Job]) -> list[Job]:
    """The cells of one explainer."""
    return [job for job in jobs if job.explainer is explainer]


class Meter:
    """Reads how much time has passed and how many inputs have passed through the model since the last reading.

    What is computed once for all explainers is told to ``for_all``, with its key, and left out. Evaluations that are
    made as time allows are told to ``for_none``: how many there are must decide nothing.
    """

    def __init__(
        self,
        counter: PassCounter,
        for_all: Callable[[str, float, float], None],
        for_none: Callable[[float, float], None],
    ) -> None:
        self.counter, self.for_all, self.for_none, self.is_apart = counter, for_all, for_none, False
        self.last = self._now()

    def reading(self) -> tuple[float, float]:
        """Seconds and model evaluations."""
        before, self.last = self.last, self._now()
        return self.last[0] - before[0], self.last[1] - before[1]

    @contextmanager
    def apart(self, key: str) -> Iterator[None]:
        """Inside, something is computed once for all, or without a key for nobody; parts of it belong to it."""
        if self.is_apart:
            yield
            return
        self.is_apart, before = True, self._now()
        try:
            yield
        finally:
            now, self.is_apart = self._now(), False
            seconds, evaluations = now[0] - before[0] if key else 0.0, now[1] - before[1]
            self.last = self.last[0] + seconds, self.last[1] + evaluations
            if key:
                self.for_all(key, seconds, evaluations)
            else:
                self.for_none(seconds, evaluations)

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), float(self.counter.forwards_so_far + self.counter.backwards)


class ChargingRecorder:
    """A recorder that charges each cell before it is recorded, so that no cell is there for nothing after a kill.

    charge          charges a cell, or none
    charge_maps     charges an explainer with its maps, apart from its cells: should only some of these be recorded when
                    the process is killed, another one explains again
    """

    def __init__(
        self, recorder: Recorder, charge: Callable[[Job | None], None], charge_maps: Callable[[Chosen], None]
    ) -> None:
        self.recorder, self.charge, self.charge_maps, self.renewable = recorder, charge, charge_maps, recorder.renewable

    def begins(self, stage: str, jobs: Sequence[Job]) -> None:
        """Work on these cells begins; what was checked before an explainer is at work belongs to none."""
        if stage == "explain":
            self.charge(None)
        self.recorder.begins(stage, jobs)

    def scored(self, job: Job, *results: Any) -> None:
        """Charge and record a cell that was scored."""
        self.charge(job)
        self.recorder.scored(job, *results)

    def failed(self, job: Job, *reasons: Any) -> None:
        """Charge and record a cell that has no scores."""
        self.charge(job)
        self.recorder.failed(job, *reasons)

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """An explainer has explained all samples."""
        self.charge_maps(explainer)
        self.recorder.explained(explainer, explained)
