"""Charges what is measured with the time and the passes of the model that it takes, piece by piece.

What something has *taken* is an array (3,): seconds, and the inputs that passed forward and backward.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from harness.engine.block import Explained, Recorder
from harness.engine.cost import PassCounter
from harness.engine.selection import Cell, Chosen

MAPS = "maps"  # what the cells of one explainer share


def of_explainer(explainer: Chosen, cells: Sequence[Cell]) -> list[Cell]:
    """The cells of one explainer."""
    return [cell for cell in cells if cell.explainer is explainer]


class Meter:
    """Reads how much time has passed and how many inputs have passed through the model since the last reading.

    What is computed once for all explainers is told to ``for_all``, with its key, and left out. What is made as time
    allows is told to ``for_none``: how many passes that are must decide nothing. A reading leaves these passes out, and
    holds their time.
    """

    def __init__(
        self,
        counter: PassCounter,
        for_all: Callable[[str, np.ndarray], None],
        for_none: Callable[[np.ndarray], None],
    ) -> None:
        self.counter, self.for_all, self.for_none, self.is_apart = counter, for_all, for_none, False
        self.last = self._now()

    def reading(self) -> np.ndarray:
        """What has been taken since the last reading."""
        before, self.last = self.last, self._now()
        return self.last - before

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
            taken, self.is_apart = self._now() - before, False
            self.last = self.last + (taken if key else taken * (0, 1, 1))
            if key:
                self.for_all(key, taken)
            else:
                self.for_none(taken)

    def _now(self) -> np.ndarray:
        return np.array([time.perf_counter(), self.counter.forwards_so_far, self.counter.backwards], dtype=np.float64)


class ChargingRecorder:
    """A recorder that charges each cell before it is recorded, so that no cell is there for nothing after a kill.

    charge          charges a cell, or none
    charge_maps     charges an explainer with its maps, apart from its cells: should only some of these be recorded when
                    the process is killed, another one explains again
    """

    def __init__(
        self, recorder: Recorder, charge: Callable[[Cell | None], None], charge_maps: Callable[[Chosen], None]
    ) -> None:
        self.recorder, self.charge, self.charge_maps, self.renewable = recorder, charge, charge_maps, recorder.renewable

    def begins(self, stage: str, cells: Sequence[Cell]) -> None:
        """Work on these cells begins; what was checked before an explainer is at work belongs to none."""
        if stage == "explain":
            self.charge(None)
        self.recorder.begins(stage, cells)

    def scored(self, cell: Cell, *results: Any) -> None:
        """Charge and record a cell that was scored."""
        self.charge(cell)
        self.recorder.scored(cell, *results)

    def failed(self, cell: Cell, *reasons: Any) -> None:
        """Charge and record a cell that has no scores."""
        self.charge(cell)
        self.recorder.failed(cell, *reasons)

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """An explainer has explained all samples."""
        self.charge_maps(explainer)
        self.recorder.explained(explainer, explained)
