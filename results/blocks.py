"""Do explainers differ across models and data sets? Ranks over blocks, one block a model on a data set (Demšar 2006).

Friedman's test of ranks with the F form of Iman and Davenport (1980), and Nemenyi's critical difference of mean ranks.
Below eight blocks nothing is tested: the mean ranks are only descriptive.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from harness.results.matrices import Matrix
from harness.results.one_vote import rank_as
from harness.results.ties import mean_levels

LEAST_BLOCKS = 8


@dataclass(frozen=True)
class Across:
    """Explainers over blocks, for one metric.

    ranks        (blocks x explainers) 1 is best, ties share their mean rank
    mean_ranks   per explainer, the best first
    statistic    F of Iman and Davenport with ``degrees`` of freedom, and its p-value; NaN where it is refused
    critical     Nemenyi's critical difference of mean ranks at 5 %; NaN where it is refused
    refused      why nothing is tested, or ""
    ranks_as     an earlier metric that ranks identically in all blocks, "" for none: both are one vote
    left_out     explainers and blocks that are not ranked, each with the reason
    """

    metric: str
    ranks: pd.DataFrame
    mean_ranks: pd.Series
    statistic: float
    degrees: tuple[int, int]
    p: float
    critical: float
    refused: str
    ranks_as: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def groups(self) -> list[list[str]]:
        """The longest runs of explainers whose mean ranks lie within the critical difference; [] where refused."""
        if self.refused:
            return []
        names, ranks = list(self.mean_ranks.index), self.mean_ranks.to_numpy()
        ends = [int(np.searchsorted(ranks, rank + self.critical, side="right")) for rank in ranks]
        runs = [(start, end) for start, end in enumerate(ends) if end - start > 1]
        longest = [run for i, run in enumerate(runs) if i == 0 or run[1] > runs[i - 1][1]]
        return [names[start:end] for start, end in longest]


def across_blocks(matrices: Iterable[Matrix]) -> list[Across]:
    """One ``Across`` per metric that has a direction and at least two explainers in common in all its blocks.

    A block's explainers are ranked by their means over the samples that all of them have. Several protocols of one
    model on one data set, such as seeds, count as one block: their ranks are averaged and ranked again. An explainer
    that a block lacks is left out of the metric, for missing values have no rank; and so is one that lacks the scores
    of more than a tenth of a block's samples (``Matrix.lacking``), which would leave the others only the samples that
    it has. ``left_out`` names them, and blocks without a sample that all explainers have.
    """
    directed = [matrix for matrix in matrices if matrix.better in ("higher", "lower")]
    by_metric: dict[str, list[tuple[Matrix, str]]] = {}
    for matrix, same in zip(directed, rank_as(directed), strict=True):
        by_metric.setdefault(matrix.names["metric"], []).append((matrix, same))
    found = [_across_metric(metric, *map(list, zip(*each, strict=True))) for metric, each in by_metric.items()]
    return [each for each in found if each is not None]


def _across_metric(metric: str, blocks: list[Matrix], same: list[str]) -> Across | None:
    names = list(dict.fromkeys(name for block in blocks for name in block.values))
    common = [name for name in names if all(name in block.values and name not in block.lacking for block in blocks)]
    shared = [replace(block, values=block.values[common]).complete for block in blocks]
    empty = [_pair_name(block) for block, values in zip(blocks, shared, strict=True) if values.empty]
    rows = {}
    for block, values in zip(blocks, shared, strict=True):
        if not values.empty:
            rows.setdefault(_pair_name(block), []).append(_ranks_of_means(values))
    if len(common) < 2 or not rows:
        return None
    ranks = pd.DataFrame({pair: pd.DataFrame(each).mean() for pair, each in rows.items()}).T.rank(axis=1)
    mean_ranks = ranks.mean().sort_values(kind="stable")
    refused = "" if len(ranks) >= LEAST_BLOCKS else f"descriptive only: {len(ranks)} blocks, tests need {LEAST_BLOCKS}"
    nan = float("nan")
    statistic, degrees, p = (nan, (0, 0), nan) if refused else iman_davenport(ranks.to_numpy())
    critical = nan if refused else critical_difference(len(common), len(ranks))
    ranks_as = same[0] if len(set(same)) == 1 else ""
    left_out = [_why_left_out(name, blocks) for name in names if name not in common]
    left_out += [f"{pair} (no sample on which all explainers have a score)" for pair in dict.fromkeys(empty)]
    return Across(metric, ranks, mean_ranks, statistic, degrees, p, critical, refused, ranks_as, tuple(left_out))


def _ranks_of_means(values: pd.DataFrame) -> pd.Series:
    """The rank of each explainer by its mean of signed values (samples, explainers), 1 is best, ties share theirs."""
    return pd.Series(mean_levels(values.to_numpy()), values.columns).rank(ascending=False)


def _why_left_out(name: str, blocks: list[Matrix]) -> str:
    """An explainer that is not ranked, with the first block that is the reason."""
    for block in blocks:
        if name in block.lacking:
            most = int(block.values.notna().sum().max())
            return f"{name} ({_pair_name(block)}: a score on {block.lacking[name]} of {most} samples)"
    lacks = next(block for block in blocks if name not in block.values)
    return f"{name} ({_pair_name(lacks)}: no score)"


def _pair_name(block: Matrix) -> str:
    return " | ".join(text for name, text in block.names.items() if name in ("model", "dataset"))


def iman_davenport(ranks: np.ndarray) -> tuple[float, tuple[int, int], float]:
    """F, its degrees of freedom and the p-value of ranks (blocks, explainers), from Friedman's statistic with ties.

    F is infinite and p is 0 where all blocks rank alike; NaN where all explainers tie in every block.
    """
    blocks, count = ranks.shape
    degrees = (count - 1, (count - 1) * (blocks - 1))
    spread = ((ranks - (count + 1) / 2) ** 2).sum()
    if spread == 0:
        return float("nan"), degrees, float("nan")
    chi = (count - 1) * ((ranks.sum(0) - blocks * (count + 1) / 2) ** 2).sum() / spread
    left = blocks * (count - 1) - chi
    statistic = (blocks - 1) * chi / left if left > 1e-9 * blocks else float("inf")
    return float(statistic), degrees, float(stats.f.sf(statistic, *degrees))


def critical_difference(explainers: int, blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks: q sqrt(k (k + 1) / (6 N)), q of the studentised range / sqrt 2."""
    q = stats.studentized_range.ppf(1 - alpha, explainers, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(explainers * (explainers + 1) / (6 * blocks)))
