"""Statistics within one model and data set: a metric's mean over samples, its interval, and ranks of explainers.

The interval is the bias-corrected and accelerated (BCa) bootstrap of the mean (Efron 1987, "Better Bootstrap Confidence
Intervals", JASA 82). Its resamples depend on the number of samples and the seed alone, so all explainers are resampled
alike. They are drawn by numpy's generator.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from harness.results.frames import audit_of, protocols

A_CHECK = "a check of whether a property holds; maps that know nothing of the model can have the best score"
OTHER_SAMPLES = "not all have a score on the same samples; letters compare them on those that all have"
RESAMPLES = 10_000
MOST_KEPT_BYTES = 128 << 20  # resamples kept; above it (n > 13,421) they are drawn again for every cell
MOST_NUMBERS_AT_ONCE = 1 << 17  # a block of resamples that stays in the processor's cache

_resamples_in_memory: dict[tuple[int, int], np.ndarray] = {}


def summarise(values: np.ndarray, valid: np.ndarray | None = None, *, seed: int = 0) -> dict[str, float | int]:
    """Mean, standard deviation (n - 1) and 95 % interval of scores (N,), in the columns of a cell's row.

    Scores that are not ``valid`` (N,) bool, NaN or infinite are counted in ``n_invalid`` and enter nothing else. What
    is undefined is NaN: all of it for no valid score, all but the mean for one.
    """
    values = np.asarray(values, dtype=np.float64)
    usable = np.isfinite(values) if valid is None else np.isfinite(values) & np.asarray(valid, dtype=bool)
    scores, nan = values[usable], float("nan")
    mean, (low, high) = _mean_in_range(scores), interval(scores, seed=seed)
    return {
        "value": mean,
        "std": float(np.sqrt(((scores - mean) ** 2).sum() / (len(scores) - 1))) if len(scores) > 1 else nan,
        "ci_low": low,
        "ci_high": high,
        "n": len(scores),
        "n_invalid": len(values) - len(scores),
    }


def interval(scores: np.ndarray, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """BCa bootstrap interval of the mean of finite scores (n,), from 10,000 resamples.

    The mean itself twice where the scores do not vary, NaN twice for fewer than two.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) < 2:
        return float("nan"), float("nan")
    mean, spread = _mean_in_range(scores), scores.max() - scores.min()
    if spread == 0:
        return mean, mean
    deviations = (scores - mean) / spread  # so that scores of 1e-200 or 1e200 have an interval too
    deviations -= deviations.mean()  # the mean of scores that differ only in their last digit is rounded too
    means = _resampled_means(deviations, seed)
    low, high = mean + spread * np.quantile(means, _bca_shares(means, deviations, level))
    return float(low), float(high)


def _mean_in_range(scores: np.ndarray) -> float:
    """The mean, limited to the range of the scores: so rounding cannot change the mean of equal scores."""
    return float(np.clip(scores.mean(), scores.min(), scores.max())) if len(scores) else float("nan")


def _bca_shares(means: np.ndarray, deviations: np.ndarray, level: float) -> np.ndarray:
    """The two shares of the resampled means between which the interval lies."""
    # Resamples that tie with the observed mean, as of yes-or-no scores, count half; rounding must not decide them.
    tie = 1e-9 * np.sqrt((deviations**2).mean() / len(deviations))
    bias = ndtri(((means < -tie).mean() + (means <= tie).mean()) / 2)
    # Leaving out score i moves the mean by -deviation_i / (n - 1): the jackknife in closed form.
    acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    normal = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    return ndtr(bias + normal / (1 - acceleration * normal))


def _resampled_means(deviations: np.ndarray, seed: int) -> np.ndarray:
    """Means (10,000,) of the resamples of scores (n,)."""
    sums = [block.astype(np.float64) @ deviations for block in _resamples(len(deviations), seed)]
    return np.concatenate(sums) / len(deviations)


def _resamples(n: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n samples is drawn (uint8) in each of 10,000 resamples, in blocks of rows, kept while they fit.

    A resample draws one sample about ten times at most, far from the 255 that a byte can count.
    """
    if n * RESAMPLES > MOST_KEPT_BYTES:
        yield from _drawn_resamples(n, seed)
        return
    if (n, seed) not in _resamples_in_memory:
        fresh = np.concatenate(list(_drawn_resamples(n, seed)))
        while (
            _resamples_in_memory
            and sum(counts.nbytes for counts in _resamples_in_memory.values()) + fresh.nbytes > MOST_KEPT_BYTES
        ):
            del _resamples_in_memory[next(iter(_resamples_in_memory))]
        _resamples_in_memory[n, seed] = fresh
    counts, rows = _resamples_in_memory[n, seed], _rows_at_once(n)
    yield from (counts[start : start + rows] for start in range(0, RESAMPLES, rows))


def _drawn_resamples(n: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng([seed, n])
    for start in range(0, RESAMPLES, _rows_at_once(n)):
        rows = min(_rows_at_once(n), RESAMPLES - start)
        places = generator.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * n).reshape(rows, n).astype(np.uint8)


def _rows_at_once(n: int) -> int:
    return max(1, MOST_NUMBERS_AT_ONCE // n)


def cell_ranks(cells: pd.DataFrame) -> pd.Series:
    """Rank of each cell among the explainers of its model, data set, protocol and metric: 1 is best, ties share a rank.

    Values equal to six significant digits tie, for scores come from single precision. NaN where the cell is not ok,
    the metric has no direction, the explainer is a library's row with a caveat, or the cells are not comparable
    (``not_comparable``). The column ``valid``, if there is one, says on which samples a cell has a score.
    """
    sign = cells["better"].map({"lower": 1.0, "higher": -1.0}).astype("float64")
    ranked = (cells["status"] == "ok") & ~with_caveat(cells)
    signed = _six_digits(cells["value"].where(ranked) * sign).where(not_comparable(cells) == "")
    return signed.groupby(_together(cells)).rank(method="min")


def _six_digits(values: pd.Series) -> pd.Series:
    with np.errstate(divide="ignore"):  # zero has no first digit
        step = 10.0 ** (np.floor(np.log10(values.abs())) - 5)
    return (values / step).round().mul(step).where(step > 0, values)


def not_comparable(cells: pd.DataFrame) -> pd.Series:
    """Why the ok cells of one model, data set, protocol and metric cannot be ranked; "" if they can.

    Cells with a caveat are never ranked, and do not keep others from being ranked.
    """
    reasons = pd.Series("", index=cells.index)
    ok = cells[(cells["status"] == "ok") & ~with_caveat(cells)]
    for _, group in ok.groupby(_together(ok)):
        reasons[group.index] = _reason(group)
    return reasons


def with_caveat(cells: pd.DataFrame) -> pd.Series:
    """Which cells belong to an implementation that is known to differ from its publication (bool)."""
    audits = cells["audit"] if "audit" in cells else [None] * len(cells)
    return pd.Series([bool(audit_of(audit).get("caveat")) for audit in audits], index=cells.index, dtype=bool)


def _together(cells: pd.DataFrame) -> list[pd.Series]:
    return [cells["model"], cells["dataset"], protocols(cells), cells["metric"]]


def _reason(group: pd.DataFrame) -> str:
    if (group["kind"] == "check").any():
        return A_CHECK
    if group["explainer"].duplicated().any():
        return "an explainer has several cells, whose options differ"
    if group["n"].nunique() > 1 or _other_samples(group):
        return OTHER_SAMPLES
    if group["stick"].nunique() > 1:
        return "the code versions of the measurement differ"
    if (group["kind"] == "cost").any() and group["device"].nunique() > 1:
        return "measured on different devices"
    return ""


def _other_samples(group: pd.DataFrame) -> bool:
    """Whether the cells have, or without their scores may have, valid scores on different samples."""
    if "valid" in group:
        return group["valid"].nunique() > 1
    return len(group) > 1 and bool((group["n_invalid"] > 0).any())
