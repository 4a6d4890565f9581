"""When two scores are equal: the one rule of ranks, tests and agreement.

Scores come from single precision, so that two of them are equal if they differ by at most a millionth of the larger
one. It is relative to the two scores and not to all of a metric: one explainer whose scores are far away from the
others makes no two of these equal.
"""

import numpy as np

EQUAL = 1e-6  # relative: scores that differ by no more are equal


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first less the second, of any shape; 0 where they are equal but for rounding."""
    found = first - second
    return np.where(np.abs(found) > EQUAL * np.maximum(np.abs(first), np.abs(second)), found, 0.0)


def score_levels(scores: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
    """Scores (..., E) as whole numbers in their order along the last axis, one number for those that are equal.

    Neighbours in the order that are equal have the same level, so that all ranks follow from the levels. NaN stay NaN.
    ``sizes`` (..., E) are what rounding is relative to, by default the scores themselves.
    """
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(scores, axis=-1, kind="stable")
    ordered, size = (
        np.take_along_axis(each, order, -1) for each in (scores, np.abs(scores) if sizes is None else sizes)
    )
    steps = np.zeros(scores.shape)
    steps[..., 1:] = np.diff(ordered, axis=-1) > EQUAL * np.maximum(size[..., 1:], size[..., :-1])
    levels = np.empty(scores.shape)
    np.put_along_axis(levels, order, np.cumsum(steps, axis=-1), -1)
    return np.where(np.isnan(scores), np.nan, levels)


def mean_levels(scores: np.ndarray) -> np.ndarray:
    """The levels (..., E) of the means of scores (..., n, E) of n samples.

    Means near 0 of large scores have the rounding of these: it is relative to the scores of the samples.
    """
    return score_levels(scores.mean(-2), np.abs(scores).mean(-2))


def are_one_number(scores: np.ndarray) -> bool:
    """Whether finite scores (n,) are all equal but for rounding; true of none and of one."""
    return not len(scores) or not difference(np.max(scores), np.min(scores)) > 0
