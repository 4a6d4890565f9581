"""When two scores are equal: the one rule of ranks, tests and agreement.

Scores come from single precision, so that two of them are equal if they differ by at most a millionth of the larger
one. A score near 0 is often a difference of larger numbers, whose rounding it has: 1e-8 and 3e-8 are equal where scores
are of order 1. How large these numbers are is told by the other samples. So the size of a score on one of several
samples is its own, or that which a quarter of the explainer's scores reach, if that is larger. A metric whose scores
are all of order 1e-9 is told apart as any other. It is relative to the two explainers and not to all of a metric: one
whose scores are far away from the others makes no two of these equal, and neither does a rare sample.
"""

import numpy as np

EQUAL = 1e-6  # relative: scores that differ by no more are equal
USUAL = 0.75  # the share of a column's scores that may be smaller than its usual size


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first less the second, of any shape; 0 where they are equal but for rounding."""
    return _unless_rounding(first - second, np.maximum(np.abs(first), np.abs(second)))


def _unless_rounding(differences: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.where(np.abs(differences) > EQUAL * sizes, differences, 0.0)


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


def sizes_on_samples(scores: np.ndarray) -> np.ndarray:
    """What the rounding of scores (n, ...) of n samples is relative to, of the same shape.

    It is their own size, or that which a quarter of the scores of the same column reach.
    """
    own = np.abs(np.asarray(scores, dtype=np.float64))
    usual = np.quantile(np.where(np.isfinite(own), own, 0), USUAL, axis=0, method="lower") if len(own) else 0
    return np.maximum(own, usual)


def differences_on_samples(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first less the second, scores (n, ...) of n samples; 0 where they are equal but for rounding."""
    return _unless_rounding(first - second, np.maximum(sizes_on_samples(first), sizes_on_samples(second)))


def differences_of_columns(scores: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``differences_on_samples`` (n, pairs) of the columns ``first`` and ``second`` (pairs,) of scores (n, E)."""
    sizes = sizes_on_samples(scores)
    return _unless_rounding(scores[:, first] - scores[:, second], np.maximum(sizes[:, first], sizes[:, second]))


def mean_levels(scores: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
    """The levels (..., E) of the means of scores (..., n, E) of n samples.

    Means near 0 of large scores have the rounding of these: it is relative to the scores of the samples. ``sizes``
    (..., n, E) are those where there are more samples than these (``sizes_on_samples``).
    """
    return score_levels(scores.mean(-2), (np.abs(scores) if sizes is None else sizes).mean(-2))


def are_one_number(scores: np.ndarray) -> bool:
    """Whether finite scores (n,) are all equal but for rounding; true of none and of one."""
    return not len(scores) or not difference(np.max(scores), np.min(scores)) > 0
