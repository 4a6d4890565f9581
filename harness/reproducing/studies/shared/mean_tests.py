"""Tests of means of independent values, such as paired differences, and verdicts on several of them.

A test by Student's t, or by signs, errs more often than it states where values are skewed. So the t that is corrected
for skewness (Hall 1992, JRSS B 54) is used beside it, and the more careful of the two decides.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy import stats

from harness.results.family import corrected_t
from harness.results.statistics import corrected_interval

LEVEL = 0.05
MOST_ENUMERATED, DRAWS = 14, 20_000  # differences whose signs are enumerated; draws for more of them
AT_ONCE = 500  # draws: all of them for 10,000 images would take gigabytes
T_TEST = "t test, with and without a correction for skewness,"
SIGNS_AND_T = "sign-flip test and t test corrected for skewness, both have to pass,"
NOT_CORRECTED = "not corrected for the number of claims of this study"


def one_sided_limits(values: np.ndarray, level: float) -> tuple[float, float, float]:
    """The mean of independent values, and its lower and upper limit, each wrong with a probability of ``level``: the
    wider of Student's and of the one that is corrected for skewness; infinite limits from fewer than two values."""
    values = values[np.isfinite(values)]
    count = len(values)
    if count < 2:
        return float(values.mean()) if count else math.nan, -math.inf, math.inf
    mean, critical = float(values.mean()), float(stats.t.isf(level, count - 1))
    reach = critical * float(values.std(ddof=1)) / math.sqrt(count)
    low, high = corrected_interval(values, critical * math.sqrt(count / (count - 1)))
    return mean, min(mean - reach, low), max(mean + reach, high)


def mean_above_p(values: np.ndarray) -> float:
    """The one-sided p-value that the mean of independent values (n,) is above 0: the larger of those of Student's t and
    of the t that is corrected for skewness. 1 where nothing can be shown: for fewer than two values, for values that
    are all 0, and where one is not a finite number.
    """
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count < 2 or not values.any() or not np.isfinite(values).all():
        return 1.0
    moments = (np.array([(values**power).mean()]) for power in (1, 2, 3))
    corrected = float(corrected_t(*moments, count)[0]) * math.sqrt((count - 1) / count)
    error = float(values.std(ddof=1)) / math.sqrt(count)
    plain = float(values.mean()) / error if np.ptp(values) else corrected
    return float(stats.t.sf(min(plain, corrected), count - 1))


def mean_differs_p(values: np.ndarray) -> float:
    """The two-sided p-value that the mean of independent values (n,) is not 0, from both of ``mean_above_p``."""
    values = np.asarray(values, dtype=float)
    return min(1.0, 2 * min(mean_above_p(values), mean_above_p(-values)))


def means_differ(first: np.ndarray, second: np.ndarray, level: float) -> bool:
    """Whether the means of two independent samples are shown to differ, wrongly with a probability of at most
    ``level``: the interval of one lies outside of that of the other, which is a careful test."""
    (_, low, high), (_, other_low, other_high) = (one_sided_limits(each, level / 4) for each in (first, second))
    return low > other_high or high < other_low


def sign_flip_p(differences: np.ndarray) -> float:
    """The one-sided p-value that a mean above 0 has if the sign of each difference (n,) is a fair coin; exact for few
    differences, else of 20,000 draws with the one that came. ValueError for a difference that is not a number."""
    differences = np.asarray(differences, dtype=float)
    if np.isnan(differences).any():
        raise ValueError("a difference is not a number: leave it out, or say that it is missing")
    count = len(differences)
    if not count:
        return float("nan")
    if count <= MOST_ENUMERATED:
        sums = np.array(list(product((1, -1), repeat=count))) @ differences
    else:
        draw, drawn = np.random.default_rng(0), [np.array([differences.sum()])]
        for _ in range(DRAWS // AT_ONCE):
            drawn.append(draw.choice((1.0, -1.0), size=(AT_ONCE, count)) @ differences)
        sums = np.concatenate(drawn)
    return float((sums >= differences.sum() - 1e-12).mean())


def means_all_above(columns: Sequence[np.ndarray]) -> tuple[bool | None, float]:
    """Whether the means of all columns are above 0, and the largest p-value.

    The p-value of a column is the larger of ``sign_flip_p`` and ``mean_above_p``. True where each passes at LEVEL: if
    one were not above 0, all would pass with a probability of at most LEVEL. False where one is below 0, corrected for
    their number. None where neither is so, as with fewer than five differences.
    """
    p_value = lambda column: max(sign_flip_p(column), mean_above_p(column))
    largest = max(p_value(each) for each in columns)
    if largest <= LEVEL:
        return True, largest
    below = min(p_value(-np.asarray(each)) for each in columns)
    return (False if below * len(columns) <= LEVEL else None), largest
