"""Where does a series of runs change its level? The exact piecewise constant fit, and how many levels it needs.

For every number of levels the best fit in absolute deviations is found by dynamic programming; the number itself by an
information criterion for Laplace noise, which pays for each level and each place of a step. A level lasts at least two
runs: a single odd run is noise. Whether a step is more than wandering is tested by ``harness.results.step_test``. A
series whose values repeat bit for bit needs neither: each change of its value is a step.
"""

from dataclasses import dataclass

import numpy as np

from harness.results.level import ALPHA

LEAST_RUNS = 2
MOST_LEVELS = 12
PRICE = 2.0  # of a level and of a step, in units of log n: what keeps false steps of flat series below 5 %
LEAST_LOG = 3.0  # of n: a handful of runs can show only large steps
EXACT = 1e-9  # relative differences below it are rounding


@dataclass(frozen=True)
class Level:
    """Runs ``start`` to ``end`` (excluded) around one ``value``, their median."""

    start: int
    end: int
    value: float


def levels(values: np.ndarray, p: np.ndarray | None = None) -> list[Level]:
    """The levels of a series (n,) without gaps that the criterion chooses; none of no runs.

    ``p`` (n,) of a step before each run (``harness.results.step_test``): steps with none of at most 0.05 within one run
    are left out, and those that stay have the medians of what lies between them.
    """
    if not len(values):
        return []
    ends = _best_ends(values)
    if p is not None:
        ends = [end for end in ends if end == len(values) or np.nanmin(p[end - 1 : end + 2]) <= ALPHA]
    return _levels_with_ends(values, ends)


def exact_levels(values: np.ndarray) -> list[Level]:
    """The levels of a series (n,) whose values repeat bit for bit: a step wherever the value changes."""
    return _levels_with_ends(values, [*np.flatnonzero(_level_changes(values)) + 1, len(values)])


def repeats(values: np.ndarray) -> bool:
    """Whether a series (n,) repeats bit for bit but for steps: most runs equal the one before, and no value returns."""
    changes = _level_changes(values)
    distinct = 1 + int(_level_changes(np.sort(values)).sum())
    return len(values) > 1 and 2 * changes.sum() <= len(changes) and distinct == 1 + changes.sum()


def _level_changes(values: np.ndarray) -> np.ndarray:
    """Whether each run but the first has another value than the run before (n - 1,)."""
    return np.abs(np.diff(values)) > EXACT * np.abs(values).max(initial=0.0)


def _levels_with_ends(values: np.ndarray, ends: list[int]) -> list[Level]:
    pairs = zip([0, *ends[:-1]], ends, strict=True)
    return [Level(int(start), int(end), float(np.median(values[start:end]))) for start, end in pairs]


def _best_ends(values: np.ndarray) -> list[int]:
    """The ends of the levels that the criterion chooses."""
    n = len(values)
    most = min(MOST_LEVELS, n // LEAST_RUNS)
    if n < 2 * LEAST_RUNS or np.ptp(values) == 0:
        return [n]
    best, cuts = _best_fits(_stretch_costs(values), most)
    # A fit cannot be closer than the noise that neighbouring runs show. Noise below a ten-thousandth of the range
    # counts as none.
    least = max(np.abs(np.diff(values)).mean() / 2, 1e-4 * np.ptp(values))
    price = PRICE * 2 * max(np.log(n), LEAST_LOG)
    criterion = np.array([2 * n * np.log(max(best[k] / n, least)) + price * k for k in range(1, most + 1)])
    return cuts[int(np.argmin(criterion)) + 1]


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
