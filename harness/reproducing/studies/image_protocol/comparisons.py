"""Paired comparisons of explainers over images, and what claims on them share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.reproducing.findings import PATTERN, Claim
from harness.results.family import Family, all_pairs
from harness.results.level import ALPHA
from harness.results.matrices import Matrix
from harness.results.numbers import significant

CONTROLS = ("random", "constant", "edge", "blurred_random")
TEST = (
    "sign flips of paired differences, t corrected for skewness, all pairs of the compared explainers and all scores "
    "together at 5 %"
)


@dataclass(frozen=True)
class ImageComparison:
    """That ``first`` is better than ``second`` by a metric, where ``better`` is higher or lower."""

    metric: str
    better: str
    first: str
    second: str


def compared_images(scores: pd.DataFrame, comparisons: Sequence[ImageComparison]) -> tuple[bool | None, str, int]:
    """Whether all comparisons hold, their numbers in words, and the number of images.

    True where each is shown, False where the contrary of one is shown, else None. A comparison with an explainer that
    has no scores cannot be told.
    """
    by_metric = {each.metric: [c for c in comparisons if c.metric == each.metric] for each in comparisons}
    families = {metric: _family_of_images(scores, own, len(by_metric)) for metric, own in by_metric.items()}
    shown = [_comparison_shown(families[each.metric], each) for each in comparisons]
    holds = False if False in shown else None if None in shown else True
    words = "; ".join(_comparison_in_words(families[each.metric], each) for each in comparisons)
    return holds, words, min(family.n for family in families.values())


def claim_of_comparisons(
    name: str, says: str, scores: pd.DataFrame, comparisons: Sequence[ImageComparison], source: str
) -> Claim:
    """The claim that all comparisons hold, with the verdict of ``compared_images``."""
    holds, words, n = compared_images(scores, comparisons)
    return Claim(name=name, kind=PATTERN, says=says, holds=holds, measured=words, why=TEST, source=source, n=n)


def paired_values(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The scores by a metric, images x explainers."""
    return scores[scores["metric"] == metric].pivot(index="image", columns="explainer", values="value")


def stacked_curves(scores: pd.DataFrame, metric: str, explainer: str) -> np.ndarray:
    """The curves of an explainer by a metric, (images, K)."""
    own = scores[(scores["metric"] == metric) & (scores["explainer"] == explainer)]
    return np.stack([np.asarray(each, dtype=np.float64) for each in own["curve"]])


def _family_of_images(scores: pd.DataFrame, comparisons: Sequence[ImageComparison], metrics: int) -> Family:
    """All pairs of the compared explainers by one metric; the level is shared among the metrics."""
    values = paired_values(scores, comparisons[0].metric)
    names = dict.fromkeys(name for each in comparisons for name in (each.first, each.second))
    known = [name for name in names if name in values and values[name].notna().any()]
    matrix = Matrix({"metric": comparisons[0].metric}, values[known], comparisons[0].better)
    return all_pairs(matrix, alpha=ALPHA / metrics)


def _comparison_shown(family: Family, comparison: ImageComparison) -> bool | None:
    first, second = comparison.first, comparison.second
    if not {first, second} <= set(family.names) or not family.able:
        return None
    return True if family.better(first, second) else False if family.better(second, first) else None


def _comparison_in_words(family: Family, comparison: ImageComparison) -> str:
    first, second = comparison.first, comparison.second
    if not {first, second} <= set(family.names):
        return f"{comparison.metric} of {first} or {second} is not known"
    sign = -1 if comparison.better == "lower" else 1  # a family is signed so that higher is better
    low, high = sorted(sign * end for end in family.interval(first, second))
    interval = f" [{significant(low)}, {significant(high)}]" if family.able else ""
    wanted = "below" if sign < 0 else "above"
    difference = significant(sign * family.difference(first, second))
    p = significant(family.p_of(first, second))
    return f"{comparison.metric}, {first} less {second}: {difference}{interval}, {wanted} 0 needed, p = {p}"
