"""Statistics of how reliable a metric's ranking of explainers is: agreement of samples, and stability.

Krippendorff's alpha (ordinal) treats samples as raters of explainers, as Tomsett et al. (2020, 1912.01451) do. If it is
low, samples rank the explainers differently, and only the mean over the data set has a meaning.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from harness.results.matrices import Matrix
from harness.results.sample_size import enough_samples
from harness.results.ties import mean_levels, score_levels, sizes_on_samples

SUBSAMPLES = 500
HALVES = 100
RELIABLE_ALPHA = 0.4


def krippendorff_alpha(values: np.ndarray) -> float:
    """Krippendorff's ordinal alpha of samples (n) that order explainers (k): 1 perfect, 0 chance, below 0 opposed.

    ``values`` (n, k); samples with a NaN are left out. Each sample's values count by their ranks, mid-ranks at ties, so
    that alpha measures the order within a sample and not its level (Krippendorff 2011, ordinal distances).
    NaN where fewer than two samples or explainers can be compared, or nothing differs.
    """
    known = pd.DataFrame(np.asarray(values, dtype=np.float64)).dropna().to_numpy()
    ranks = pd.DataFrame(score_levels(known, sizes_on_samples(known))).rank(axis=1).to_numpy()
    return ordinal_alpha(ranks) if len(ranks) > 1 and ranks.shape[1] > 1 else float("nan")


def ordinal_alpha(ratings: np.ndarray) -> float:
    """Krippendorff's alpha of ratings (raters, units) on an ordinal scale, NaN where a rater gave none."""
    rated = ~np.isnan(ratings)
    columns = rated.sum(0) > 1  # a unit rated once carries no information on agreement
    levels = np.unique(ratings[:, columns][rated[:, columns]])
    counts = (ratings[:, columns, None] == levels).sum(0).astype(np.float64)
    margins = counts.sum(0)
    distance = _ordinal_distances(margins)
    within = (np.einsum("uc,cd,ud->u", counts, distance, counts) / (counts.sum(1) - 1)).sum()
    expected = margins @ distance @ margins / (margins.sum() - 1)
    return float(1 - within / expected) if expected > 0 else float("nan")


def _ordinal_distances(margins: np.ndarray) -> np.ndarray:
    """Squared ordinal distances between levels: how many values lie between them, half of their own included."""
    middle = np.cumsum(margins) - margins / 2
    return (middle[:, None] - middle[None]) ** 2


def split_half(matrix: Matrix, *, seed: int = 0) -> float:
    """Mean Spearman correlation of the rankings of explainers that two random halves of the samples give; NaN if fewer
    than four samples or three explainers are complete."""
    values = matrix.complete.to_numpy()
    if len(values) < 4 or values.shape[1] < 3:
        return float("nan")
    generator, half = np.random.default_rng([seed, len(values), 3]), len(values) // 2
    orders, sizes = (generator.permutation(len(values)) for _ in range(HALVES)), sizes_on_samples(values)
    levels = lambda rows: mean_levels(values[rows], sizes[rows])
    pairs = ((levels(order[:half]), levels(order[half : 2 * half])) for order in orders)
    found = [stats.spearmanr(first, second).statistic for first, second in pairs if np.ptp(first) and np.ptp(second)]
    return float(np.mean(found)) if found else float("nan")


@dataclass(frozen=True)
class Stability:
    """How stable a ranking becomes as samples are added.

    curve    rows n, tau (mean Kendall tau-b to the ranking by all samples), top_stays (share with the same first); of
             these very samples, so that the last is 1 by definition, and those before it are too high
    enough   a number of samples with which the best explainer comes first in 95 % of data sets, by ``enough_samples``
    """

    curve: pd.DataFrame
    enough: int | None


def stability(matrix: Matrix, *, seed: int = 0) -> Stability:
    """Rankings by 500 random subsamples for each n of a grid up to all samples, and how many samples are enough."""
    values = matrix.complete.to_numpy()
    full = mean_levels(values) if len(values) else np.zeros(values.shape[1])
    generator = np.random.default_rng([seed, len(values), 4])
    rows = [{"n": n, **_agreement_of_subsamples(values, full, n, generator)} for n in _sample_counts(len(values))]
    curve = pd.DataFrame(rows, columns=["n", "tau", "top_stays"])
    return Stability(curve, enough_samples(values))


def _sample_counts(count: int) -> list[int]:
    """About a dozen numbers of samples, evenly spaced in their logarithm, up to all."""
    return sorted({int(n) for n in np.geomspace(2, count, 12).round()}) if count >= 2 else []


def _agreement_of_subsamples(
    values: np.ndarray, full: np.ndarray, n: int, generator: np.random.Generator
) -> dict[str, float]:
    order = generator.random((SUBSAMPLES, len(values))).argpartition(n - 1, axis=1)[:, :n]
    sizes = sizes_on_samples(values)
    levels = np.stack([mean_levels(values[rows], sizes[rows]) for rows in order])
    found = taus(levels, full[None])
    return {
        "tau": float(np.nanmean(found)) if np.isfinite(found).any() else float("nan"),
        "top_stays": float((levels.argmax(1) == full.argmax()).mean()),
    }


def taus(first: np.ndarray, second: np.ndarray, *, equal: float = 0.0) -> np.ndarray:
    """Kendall's tau-b (B,) between the rankings in the rows of two arrays (B, E), of which one may have a single row.

    Values of a row that are equal but for rounding are tied (``harness.results.ties``), and so are those that differ by
    no more than ``equal`` times its range, for scores with larger errors. NaN where all values of a row tie.
    """
    return taus_of_signs(*(signs_of_pairs(np.asarray(values), equal=equal) for values in (first, second)))


def taus_of_signs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Kendall's tau-b (B,) from the signs of all pairs (B, P) in two rankings; NaN where all pairs of one are tied."""
    size = np.sqrt((one != 0).sum(1) * (other != 0).sum(1))
    return (one * other).sum(1) / np.where(size > 0, size, np.nan)


def signs_of_pairs(values: np.ndarray, sizes: np.ndarray | None = None, *, equal: float = 0.0) -> np.ndarray:
    """Which of every two values in a row (B, E) is larger: 1, -1 or 0 where they are tied, as in ``taus``; ``sizes``
    (B, E) as in ``score_levels``."""
    first, second = np.triu_indices(values.shape[1], 1)
    levels, apart = score_levels(values, sizes), np.abs(values[:, first] - values[:, second])
    return np.sign(levels[:, first] - levels[:, second]) * (apart > equal * np.ptp(values, axis=1)[:, None])


def variance_split(values: np.ndarray) -> dict[str, float]:
    """Variance of scores (samples, seeds) split into the variance between samples and between the seeds of one sample.

    One-way random effects by analysis of variance: ``sample``, ``seed`` (both at least 0) and the ``share`` of the
    samples. NaN for fewer than two of either.
    """
    values = np.asarray(values, dtype=np.float64)
    n, seeds = values.shape
    if n < 2 or seeds < 2:
        return dict.fromkeys(("sample", "seed", "share"), float("nan"))
    within = values.var(1, ddof=1).mean()
    between = max(0.0, values.mean(1).var(ddof=1) - within / seeds)
    whole = within + between
    return {"sample": float(between), "seed": float(within), "share": float(between / whole) if whole else float("nan")}
