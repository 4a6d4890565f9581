"""Costs that grow along a line: one that is paid once, and one for each sample or batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CostLine:
    """A cost that is paid once, and one for each unit of something."""

    once: np.ndarray
    each: np.ndarray

    @classmethod
    def through(cls, points: Sequence[tuple[float, np.ndarray]]) -> "CostLine":
        """The line through the last of the points (units, taken) and the last one before it with other units.

        Neither cost is below 0: what seems to fall does not depend on the units, and what seems to begin below 0 is
        proportional to them.
        """
        units, taken = points[-1]
        others = [point for point in points if point[0] != units]
        if not others:
            return cls(taken, np.zeros_like(taken))
        before, taken_before = others[-1]
        each = np.maximum(0, (taken - taken_before) / (units - before))
        below = each * units > taken
        return cls(np.where(below, 0, taken - each * units), np.where(below, taken / units, each))

    def steadied(self, units: float, pass_seconds: float) -> "CostLine":
        """This line of seconds and passes (3,) with the same values at ``units``, its last point, steadied by counts.

        A pass of the model in full batches takes ``pass_seconds``, and about twice that backward. The part of the
        seconds which that explains grows as the passes do, whose numbers no clock disturbs; the rest stays as it is.
        """
        passes = lambda taken: float(taken[1] + 2 * taken[2])
        last = self.at(units)
        if not (last[0] > 0 and passes(last) > 0):
            return self
        explained = min(1.0, pass_seconds * passes(last) / last[0])
        by_passes = last[0] * passes(self.each) / passes(last)
        seconds = explained * by_passes + (1 - explained) * self.each[0]
        replaced = lambda taken, value: np.concatenate([[value], taken[1:]])
        return CostLine(replaced(self.once, last[0] - seconds * units), replaced(self.each, seconds))

    def at(self, units: float) -> np.ndarray:
        """What so many units take."""
        return self.once + self.each * units


@dataclass(frozen=True)
class BatchLine:
    """What making maps of samples takes: the costs of a line, and one for each call with a batch of samples."""

    line: CostLine
    call: np.ndarray
    batch: int

    @classmethod
    def through(cls, points: Sequence[tuple[int, np.ndarray]], batch: int, pass_seconds: float = 0.0) -> "BatchLine":
        """From points (samples, taken) of which those beyond a batch have full batches.

        Two points within a batch are one call each, so that what both have taken is the cost of a call. Two points of
        full batches tell calls and samples not apart, and need not. A point on each side, or a single one, shows only
        what a sample takes. ``pass_seconds`` are those of ``CostLine.steadied``.
        """
        samples, taken = points[-1]
        nothing = np.zeros_like(taken)
        full = [samples >= batch for samples, _ in points[-2:]]
        if len(full) == 1 or full == [False, True]:
            return cls(CostLine(nothing, taken / samples), nothing, batch)
        line = CostLine.through(points).steadied(samples, pass_seconds)
        return cls(line, nothing, batch) if all(full) else cls(CostLine(nothing, line.each), line.once, batch)

    def at(self, samples: int) -> np.ndarray:
        """What so many samples take."""
        return self.line.at(samples) + self.call * -(-samples // self.batch)
