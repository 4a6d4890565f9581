"""Statistics within one model and data set: a metric's mean over samples, its interval, and ranks of explainers.

The interval of a mean is the union of Student's and of the one that is corrected for skewness (Hall 1992, "On the
removal of skewness by transformation", JRSS B 54): the first covers scores with heavy tails, the second skewed ones. It
draws no random numbers. Means of yes-or-no scores have the exact binomial interval (Clopper and Pearson 1934).
docs/claims.py measures how often the interval covers the true mean.

Scores that are all one number say nothing of how far others lie from it, so that no interval has a width of zero. That
holds for metrics too that are constant by construction: the program cannot tell them from others, and nothing is
decided by their intervals. Counts of passes and the other costs have no interval in any case.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from harness.results.footnotes import without_cost
from harness.results.frames import audit_of, protocols
from harness.results.ties import are_one_number, difference, score_levels

A_CHECK = "a check of whether a property holds; maps that know nothing of the model can have the best score"
OTHER_SAMPLES = "explainers have scores on different samples; letters use the samples that all of them have"
LEVEL = 0.95
NO_LIMITS = (float("-inf"), float("inf"))

Limits = tuple[float, float]  # the least and the largest score that a metric can have, infinite where there is no limit


def limits_in(row: Mapping[str, Any]) -> Limits:
    """The limits of the scores of a row of a cell, or of a sample; none where it does not tell them, as in a run of an
    earlier version."""
    least, most = (row.get(name) for name in ("least", "most"))
    return (NO_LIMITS[0] if pd.isna(least) else float(least), NO_LIMITS[1] if pd.isna(most) else float(most))


def summarise(
    values: np.ndarray, valid: np.ndarray | None = None, *, limits: Limits = NO_LIMITS
) -> dict[str, float | int]:
    """Mean, standard deviation (n - 1) and 95 % interval of scores (N,), in the columns of a cell's row.

    Scores that are not ``valid`` (N,) bool, NaN or infinite are counted in ``n_invalid`` and enter nothing else. What
    is undefined is NaN: all of it for no valid score, all but the mean for one. The interval is ``interval_on_scale``.
    """
    values = np.asarray(values, dtype=np.float64)
    usable = np.isfinite(values) if valid is None else np.isfinite(values) & np.asarray(valid, dtype=bool)
    scores, nan = values[usable], float("nan")
    low, high = interval_on_scale(scores, limits)
    return {
        "value": _mean_in_range(scores),
        "std": _deviation(scores) if len(scores) > 1 else nan,
        "ci_low": low,
        "ci_high": high,
        "n": len(scores),
        "n_invalid": len(values) - len(scores),
    }


def cell_statistics(
    values: np.ndarray, valid: np.ndarray, *, kind: str, limits: Limits
) -> dict[str, float | int | None]:
    """The columns of a cell's row that ``summarise`` gives, for a metric of this kind.

    Samples of one call share its cost and are not independent: a mean cost has no interval.
    """
    return summarise(values, valid, limits=limits) | ({"ci_low": None, "ci_high": None} if kind == "cost" else {})


def interval_on_scale(scores: np.ndarray, limits: Limits, *, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean of finite scores (n,) at a level, within the limits of the metric if the scores are.

    The binomial one for scores from 0 to 1 that are all 0 or 1. If scores are all one number, it is the interval for
    the share of samples that have this number; the others may be at either limit. NaN twice without a limit at both
    ends, and for fewer than two scores.
    """
    least, most = limits
    if len(scores) < 2 or not (scores.min() >= least and scores.max() <= most):
        return interval(scores, level=level)
    if limits == (0, 1) and np.isin(scores, (0, 1)).all():
        return binomial_interval(int(scores.sum()), len(scores), level=level)
    if are_one_number(scores):
        return _interval_of_one_number(_mean_in_range(scores), len(scores), limits, level)
    low, high = interval(scores, level=level)
    return max(low, least), min(high, most)


def _interval_of_one_number(score: float, n: int, limits: Limits, level: float) -> tuple[float, float]:
    """The interval of the mean where all of n scores are one number, by the lower limit of its share (Clopper and
    Pearson)."""
    if not np.isfinite(limits).all():
        return float("nan"), float("nan")
    share = binomial_interval(n, n, level=level)[0]
    low, high = (share * score + (1 - share) * limit for limit in limits)
    return low, high


def _deviation(scores: np.ndarray) -> float:
    """The standard deviation (n - 1) of scores of any size."""
    spread = float(scores.max() - scores.min())
    return spread * float(((scores - scores.min()) / spread).std(ddof=1)) if spread > 0 else 0.0


def interval(scores: np.ndarray, *, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean of finite scores (n,) at a level.

    NaN twice for fewer than two, and for scores that are all one number but for rounding.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) < 2 or are_one_number(scores):
        return float("nan"), float("nan")
    mean, n = _mean_in_range(scores), len(scores)
    critical = float(special.stdtrit(n - 1, (1 + level) / 2))
    student = critical * _deviation(scores) / np.sqrt(n)
    low, high = corrected_interval(scores, critical * np.sqrt(n / (n - 1)))
    return min(mean - student, low), max(mean + student, high)


def side_of(scores: np.ndarray, bound: float, limits: Limits = NO_LIMITS, *, level: float = LEVEL) -> int:
    """1 where the mean of scores (n,) is shown to be above a bound, -1 where it is shown to be below, else 0.

    By ``interval_on_scale``. Scores that are all one number have none without limits; a test of signs decides: that n
    of them lie on one side by chance has a probability of 2 / 2^n.
    """
    low, high = interval_on_scale(scores, limits, level=level)
    if len(scores) > 1 and np.isnan(low):
        apart = float(difference(_mean_in_range(scores), bound))
        return int(np.sign(apart)) if 2.0 ** (1 - len(scores)) <= 1 - level else 0
    return int(low > bound) - int(high < bound)


def corrected_interval(scores: np.ndarray, critical: float) -> tuple[float, float]:
    """The means for which the t of scores (n,), corrected for their skewness, is at most ``critical``.

    The t is that of ``harness.results.family``: in standard deviations of the sample, not of the population. NaN twice
    for scores that are all one number.
    """
    if not np.isfinite(critical):
        return -np.inf, np.inf
    if are_one_number(scores):
        return float("nan"), float("nan")
    n, mean = len(scores), float(scores.mean())
    scale = float(np.abs(scores - mean).max())
    centred = (scores - mean) / scale
    deviation = np.sqrt((centred**2).mean())
    skewness = (centred**3).mean() / deviation**3
    low, high = (mean - scale * deviation * _uncorrected(end, skewness, n) for end in (critical, -critical))
    return float(low), float(high)


def _uncorrected(corrected: float, skewness: float, n: int) -> float:
    """The mean in standard deviations whose corrected t is ``corrected``."""
    size = corrected / np.sqrt(n) - skewness / (6 * n)
    tilt = skewness * size
    if abs(tilt) < 1e-3:  # the series of the cube root, where it would lose digits
        return size * (1 - tilt / 3 + 5 * tilt**2 / 27)
    return 3 / skewness * (np.cbrt(1 + tilt) - 1)


def binomial_interval(hits: int, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a share of which ``hits`` of n were observed (Clopper and Pearson 1934)."""
    beyond = (1 - level) / 2
    low = special.betaincinv(hits, n - hits + 1, beyond) if hits else 0.0
    high = special.betaincinv(hits + 1, n - hits, 1 - beyond) if hits < n else 1.0
    return float(low), float(high)


def _mean_in_range(scores: np.ndarray) -> float:
    """The mean, limited to the range of the scores: so rounding cannot change the mean of equal scores."""
    return float(np.clip(scores.mean(), scores.min(), scores.max())) if len(scores) else float("nan")


def cell_ranks(cells: pd.DataFrame, unranked: pd.Series | None = None) -> pd.Series:
    """Rank of each cell among the explainers of its model, data set, protocol and metric: 1 is best, ties share a rank.

    Values that are equal but for rounding tie (``harness.results.ties``). NaN where the cell is not ok, the metric has
    no direction, the explainer is a library's row with a caveat, or the cells are not comparable
    (``unranked``, by default ``not_comparable``). The column ``valid``, if there is one, says on which samples a cell
    has a score.
    """
    unranked = not_comparable(cells) if unranked is None else unranked
    sign = cells["better"].map({"lower": 1.0, "higher": -1.0}).astype("float64")
    ranked = (cells["status"] == "ok") & ~with_caveat(cells)
    signed = (cells["value"].where(ranked) * sign).where(unranked == "")
    together = _together(cells)
    return signed.groupby(together).transform(score_levels).groupby(together).rank(method="min")


def not_comparable(cells: pd.DataFrame) -> pd.Series:
    """Why each ok cell cannot be ranked within its model, data set, protocol and metric: a text for each cell.

    It is "" where it can be ranked, and for cells that are not ok; of several reasons it is the first of the list
    below. Cells with a caveat are never ranked, and do not keep others from being ranked; nor do costs that were not
    measured. The columns ``valid`` (the samples with a score) and ``protocol`` are used if they are there.
    """
    ok = cells[(cells["status"] == "ok") & ~with_caveat(cells) & ~without_cost(cells)]
    if ok.empty:
        return pd.Series("", index=cells.index)
    groups = _together(ok)
    any_of_group = lambda flags: flags.astype(float).groupby(groups).transform("max") > 0
    differs = lambda name: ok[name].groupby(groups).transform("nunique") > 1
    group_and_explainer = pd.concat(
        [each.rename(place) for place, each in enumerate([*groups, ok["explainer"]])], axis=1
    )
    # Without the scores it is not known which samples have a valid one: two cells with invalid ones may differ.
    several = ok["explainer"].groupby(groups).transform("size") > 1
    other_valid = differs("valid") if "valid" in ok else several & any_of_group(ok["n_invalid"].fillna(0) > 0)
    reasons = {
        A_CHECK: any_of_group(ok["kind"] == "check"),
        "an explainer has several cells, whose options differ": any_of_group(group_and_explainer.duplicated()),
        OTHER_SAMPLES: differs("n") | other_valid,
        "the code versions of the measurement differ": differs("stick"),
        "measured on different devices": any_of_group(ok["kind"] == "cost") & differs("device"),
    }
    found = pd.Series(np.select(list(reasons.values()), list(reasons), default=""), index=ok.index, dtype=object)
    return found.reindex(cells.index, fill_value="")


def with_caveat(cells: pd.DataFrame) -> pd.Series:
    """Which cells belong to an implementation that is known to differ from its publication (bool)."""
    audits = cells["audit"] if "audit" in cells else [None] * len(cells)
    return pd.Series([bool(audit_of(audit).get("caveat")) for audit in audits], index=cells.index, dtype=bool)


def _together(cells: pd.DataFrame) -> list[pd.Series]:
    protocol = cells["protocol"] if "protocol" in cells else protocols(cells)
    return [cells["model"], cells["dataset"], protocol, cells["metric"]]
