"""Did the cost of an explainer change between some baseline runs and some new runs?

Calls within a run share the state of the machine, so that a run counts as one measurement: the median of its calls. The
machine's drift (the median change of all explainers' costs) is divided out of every run before anything is judged.
With enough runs the remaining change is tested by all ways to divide the runs in two sides: exact, whatever the
distribution, and corrected over all cells. With fewer runs the other explainers are the yardstick: a change must stand
out from theirs.
"""

from itertools import combinations
from math import comb

import numpy as np
from scipy import stats

from harness.results.level import ALPHA, holm

LEAST_CELLS = 6  # cells of one cost metric that are needed to measure the drift between two runs
# Student's degrees of freedom of the changes of costs that are no changes of code. So few, because some explainers
# drift far more than others; measured in docs/comparing.md.
TAILS = 2.5
LEAST_SPREAD = 0.03  # of the logarithm of a cost between runs, even if other costs repeat better
MOST_DIVISIONS = 4_000  # ways to divide the runs in two sides, above which as many are drawn


def without_drift(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of costs (cells, runs) of one metric without what all cells share, and the latter (runs,).

    NaN where a run lacks a cell. In a run with fewer than six cells nothing can be told apart: nothing is removed, 0.
    """
    enough = np.isfinite(logs).sum(0) >= LEAST_CELLS
    shared = np.zeros(logs.shape[1])
    if enough.any():
        shared[enough] = np.nanmedian(logs[:, enough] - np.nanmean(logs[:, enough], axis=1, keepdims=True), axis=0)
    return logs - shared, shared


def net_changes(logs: np.ndarray, base: int) -> np.ndarray:
    """Mean over the new runs less mean over the first ``base`` runs (cells,), of logarithms without drift."""
    return logs[:, base:].mean(1) - logs[:, :base].mean(1)


def divisible(base: int, new: int) -> bool:
    """Whether so many runs can be divided in enough ways: 4 and 4, 3 and 4, 2 and 6, or more."""
    return (1 + (base == new)) / comb(base + new, base) <= ALPHA


def p_of_divisions(logs: np.ndarray, base: int) -> np.ndarray:
    """p-values (cells,) by all ways to divide the runs (cells, runs), corrected for the number of cells.

    The first ``base`` runs are the baseline. The statistic is the difference of the means over the spread within the
    sides. A cell is compared with the largest of all cells under each division (max-T, Westfall and Young 1993).
    """
    sides = _divisions(logs.shape[1], base)
    statistic = _distances(logs, sides)
    largest = statistic.max(0)
    return (largest >= statistic[:, :1] * (1 - 1e-9)).mean(1)


def _divisions(runs: int, base: int) -> np.ndarray:
    """Which runs are baseline runs (runs, divisions), bool; the first division is the observed one."""
    observed = np.arange(runs) < base
    if comb(runs, base) <= MOST_DIVISIONS:
        chosen = np.array(list(combinations(range(runs), base)))
        sides = np.zeros((len(chosen), runs), dtype=bool)
        np.put_along_axis(sides, chosen, True, axis=1)
        return sides.T
    generator = np.random.default_rng([runs, base])
    drawn = generator.permuted(np.tile(observed, (MOST_DIVISIONS - 1, 1)), axis=1)
    return np.concatenate([observed[None], drawn]).T


def _distances(logs: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Differences between the means of the two sides over the spread within them: (cells, divisions)."""
    logs = logs - logs.mean(1, keepdims=True)
    first, second = sides.astype(np.float64), (~sides).astype(np.float64)
    sizes = first.sum(0), second.sum(0)
    means = logs @ first / sizes[0], logs @ second / sizes[1]
    within = (logs**2).sum(1, keepdims=True) - sizes[0] * means[0] ** 2 - sizes[1] * means[1] ** 2
    spread = np.sqrt(np.maximum(within, 0) / max(1, len(sides) - 2))
    return np.abs(means[1] - means[0]) / (spread + LEAST_SPREAD)


def p_of_yardstick(changes: np.ndarray) -> np.ndarray:
    """p-values (cells,) of net changes (cells,) of one cost metric against each other, not corrected; NaN if too few.

    The distance from the median in robust standard deviations is compared with Student's distribution of 2.5 degrees
    of freedom. It holds as long as the costs of most cells did not change.
    """
    if len(changes) < LEAST_CELLS:
        return np.full(len(changes), np.nan)
    distances = np.abs(changes - np.median(changes))
    return 2 * stats.t.sf(distances / max(1.4826 * np.median(distances), LEAST_SPREAD), TAILS)


def p_of_costs(groups: list[np.ndarray], base: int) -> list[np.ndarray]:
    """p-values of costs without drift, a group (cells, runs) per cost metric and block, corrected over all cells.

    NaN where nothing can be tested: too few runs and too few cells.
    """
    if not groups:
        return []
    ends = np.cumsum([len(group) for group in groups])[:-1]
    if divisible(base, groups[0].shape[1] - base):
        return np.split(p_of_divisions(np.concatenate(groups), base), ends)
    return np.split(holm(np.concatenate([p_of_yardstick(net_changes(group, base)) for group in groups])), ends)
