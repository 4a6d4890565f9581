"""Metrics that rank explainers identically, such as ``aopc`` and ``deletion`` with the same options: they are one vote.

The scores of two such metrics are the same but for their scale and an offset of each sample. That is found in the
scores themselves and not declared. So it holds for any options, one's own metrics and those of other libraries.
"""

from collections.abc import Sequence

import numpy as np

from harness.results.matrices import Matrix

LEAST_EXPLAINERS, LEAST_SAMPLES = 3, 2
ROUNDING = 1e-6  # of the largest score: scores come from single precision
LARGEST_ERROR = 1e-3  # of the differences between explainers: where these are as small as rounding, nothing is shown
# Distinct steps from an explainer to the next better one of a sample, to which one slope is fitted. Scores of few
# levels have few: 0 and 1 have one step, and unrelated metrics of such scores are equal by chance.
LEAST_STEPS = 10


def rank_as(matrices: Sequence[Matrix]) -> list[str]:
    """For each matrix the first metric before it that ranks explainers identically, "" if there is none.

    Only matrices of one model, data set and protocol are compared. Two metrics rank identically if one's scores are an
    increasing affine function of the other's: one slope for all, and an offset per sample. They are compared on the
    explainers and samples that both have, of which there must be three and two, and enough that scores differ in ten
    ways. So metrics of a few levels, such as 0 and 1, are never said to rank identically. The metric that is named has
    none before it.
    """
    found: list[str] = []
    tables = _aligned(matrices)
    for place, matrix in enumerate(matrices):
        first = (i for i in range(place) if not found[i] and matrices[i].block == matrix.block)
        like = (matrices[i].names["metric"] for i in first if _rank_identically(tables[i], tables[place]))
        found.append(next(like, ""))
    return found


def _aligned(matrices: Sequence[Matrix]) -> list[np.ndarray]:
    """The signed values of all matrices with the same samples and explainers in the same order, NaN where missing."""
    samples, explainers = (
        list(dict.fromkeys(name for matrix in matrices for name in names(matrix.values)))
        for names in (lambda values: values.index, lambda values: values.columns)
    )
    return [matrix.signed.reindex(index=samples, columns=explainers).to_numpy() for matrix in matrices]


def one_vote_notes(matrices: Sequence[Matrix]) -> list[str]:
    """A text for each metric that ranks as an earlier one does: ``aopc ranks explainers as deletion does: ...``."""
    pairs = zip(matrices, rank_as(matrices), strict=True)
    return list(dict.fromkeys(one_vote(each.names["metric"], same) for each, same in pairs if same))


def one_vote(metric: str, same: str) -> str:
    """That a metric adds nothing to another one, in words."""
    return f"{metric} ranks explainers as {same} does: they count as one metric"


def _rank_identically(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the scores (samples, explainers) of one metric are an increasing affine function of the other's."""
    there = ~np.isnan(first) & ~np.isnan(second)
    explainers = there.any(0)
    samples = there[:, explainers].all(1)
    if explainers.sum() < LEAST_EXPLAINERS or samples.sum() < LEAST_SAMPLES:
        return False
    return _affine(*(values[np.ix_(samples, explainers)] for values in (first, second)))


def _affine(first: np.ndarray, second: np.ndarray) -> bool:
    one, other = (values - values.mean(1, keepdims=True) for values in (first, second))
    spread, size = np.abs(one).max(), (other**2).sum()
    slope = (one * other).sum() / size if size > 0 else 0.0
    if not slope > 0:
        return False
    rounding = ROUNDING * max(np.abs(first).max(), slope * np.abs(second).max())
    if np.abs(one - slope * other).max() > min(rounding, LARGEST_ERROR * spread):
        return False
    return _distinct_steps(one, rounding) >= LEAST_STEPS and _affine_by_pair(first, slope * second)


def _distinct_steps(scores: np.ndarray, rounding: float) -> int:
    """How many different steps lie between neighbours in the rankings of the samples (samples, explainers)."""
    steps = np.sort(np.diff(np.sort(scores, 1), axis=1), axis=None)
    return int((np.diff(steps, prepend=0.0) > rounding).sum())


def _affine_by_pair(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the differences of every two explainers are those of the other metric, in their own size.

    One explainer with scores of 10^7 would otherwise hide that all others differ. Two explainers with equal scores
    throughout show nothing.
    """
    a, b = np.triu_indices(first.shape[1], 1)
    one, other = (values[:, a] - values[:, b] for values in (first, second))
    spread = np.abs(one).max(0)
    level = np.abs(first).max(0)
    ties = np.maximum(spread, np.abs(other).max(0)) <= ROUNDING * np.maximum(level[a], level[b])
    return bool((ties | (np.abs(one - other).max(0) <= LARGEST_ERROR * spread)).all())
