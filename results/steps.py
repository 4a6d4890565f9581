"""Where does a series of runs change its level? The exact piecewise constant fit, and how many levels it needs.

For every number of levels the best fit in absolute deviations is found by dynamic programming; the number itself by an
information criterion for Laplace noise, which pays for each level and each place of a step. A level lasts at
least two runs: a single odd run is noise. Whether there is a step at all is tested by the order of the runs: the same
values in random orders must hardly ever be fitted as well, whatever their distribution.
"""

from dataclasses import dataclass

import numpy as np

LEAST_RUNS = 2
MOST_LEVELS = 12
PRICE = 2.0  # of a level and of a step, in units of log n: what keeps false steps of flat series below 5 %
LEAST_LOG = 3.0  # of n: a handful of runs can show only large steps
OTHER_ORDERS = 39  # random orders of the runs, of which at most one may be fitted as well: p <= 0.05


@dataclass(frozen=True)
class Level:
    """Runs ``start`` to ``end`` (excluded) around one ``value``, their median."""

    start: int
    end: int
    value: float


def levels(values: np.ndarray) -> list[Level]:
    """The levels of a series (n,), NaN where a run has no value; one level where no step is shown."""
    values = np.asarray(values, dtype=np.float64)
    there = np.flatnonzero(np.isfinite(values))
    if not len(there):
        return []
    found = _levels_without_gaps(values[there])
    starts = [int(there[level.start]) for level in found]
    return [
        Level(start, end, level.value)
        for start, end, level in zip(starts, [*starts[1:], len(values)], found, strict=True)
    ]


def _levels_without_gaps(values: np.ndarray) -> list[Level]:
    n = len(values)
    most = min(MOST_LEVELS, n // LEAST_RUNS)
    if n < 2 * LEAST_RUNS or np.ptp(values) == 0:
        return [Level(0, n, float(np.median(values)))]
    gain, ends = _best_levels(values, most)
    if len(ends) == 1 or not _in_order(values, most, gain):
        ends = [n]
    return [Level(a, b, float(np.median(values[a:b]))) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _best_levels(values: np.ndarray, most: int) -> tuple[float, list[int]]:
    """The ends of the levels that the criterion chooses, and what they gain over a single one."""
    n = len(values)
    best, cuts = _best_fits(_stretch_costs(values), most)
    # A fit cannot be closer than the noise that neighbouring runs show. Noise below a ten-thousandth of the range
    # counts as none.
    least = max(np.abs(np.diff(values)).mean() / 2, 1e-4 * np.ptp(values))
    price = PRICE * 2 * max(np.log(n), LEAST_LOG)
    criterion = np.array([2 * n * np.log(max(best[k] / n, least)) + price * k for k in range(1, most + 1)])
    return float(criterion[0] - criterion.min()), cuts[int(np.argmin(criterion)) + 1]


def _in_order(values: np.ndarray, most: int, gain: float) -> bool:
    """Whether at most one of the random orders of the runs gains as much; they depend on the number of runs alone."""
    generator, as_good = np.random.default_rng(len(values)), 0
    for _ in range(OTHER_ORDERS):
        as_good += _best_levels(generator.permutation(values), most)[0] >= gain * (1 - 1e-9)
        if as_good > 1:
            return False
    return True


def _stretch_costs(values: np.ndarray) -> np.ndarray:
    """Summed absolute deviations from the median of every stretch [i, j): (n + 1, n + 1), infinite where too short."""
    n = len(values)
    costs = np.full((n + 1, n + 1), np.inf)
    for length in range(LEAST_RUNS, n + 1):
        ordered = np.sort(np.lib.stride_tricks.sliding_window_view(values, length), axis=1)
        half = length // 2
        deviations = ordered[:, length - half :].sum(1) - ordered[:, :half].sum(1)
        starts = np.arange(n - length + 1)
        costs[starts, starts + length] = deviations
    return costs


def _best_fits(costs: np.ndarray, most: int) -> tuple[dict[int, float], dict[int, list[int]]]:
    """For every number of levels the least cost, and the ends of the levels that have it."""
    n = len(costs) - 1
    so_far, came_from = costs[0].copy(), []
    best, cuts = {1: float(costs[0, n])}, {1: [n]}
    for number in range(2, most + 1):
        through = so_far[:, None] + costs
        came_from.append(through.argmin(0))
        so_far = through.min(0)
        best[number], cuts[number] = float(so_far[n]), _ends_of_levels(came_from, n)
    return best, cuts


def _ends_of_levels(came_from: list[np.ndarray], n: int) -> list[int]:
    ends = [n]
    for places in reversed(came_from):
        ends.append(int(places[ends[-1]]))
    return ends[::-1]
