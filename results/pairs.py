"""Tests of paired differences one by one, and Holm's correction for their number: what two runs are compared by.

The sign-flip permutation test of the mean difference: under the hypothesis that two measurements are alike, the sign of
every sample's difference is random. The explainers of one run are compared by ``harness.results.family``.
"""

from functools import lru_cache
from itertools import product

import numpy as np

FLIPS = 10_000
MOST_ENUMERATED = 13  # 2^13 sign patterns are fewer than the draws, so up to here all patterns are used
ALPHA = 0.05
MOST_AT_ONCE = 1 << 22  # numbers at once


def flip_test(differences: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Two-sided p-values (k,) of the mean of differences (n, k) by flipping signs of samples.

    Exact for at most 13 samples, else from 10,000 draws. The observed signs count as one of them, so that no p-value is
    0. 1 where all differences are 0. The draws depend on n and the seed alone.
    """
    differences = np.asarray(differences, dtype=np.float64).reshape(len(differences), -1)
    if not len(differences):
        return np.ones(differences.shape[1])
    scale = np.abs(differences).max(0)
    differences = differences / np.where(scale > 0, scale, 1)
    observed = np.abs(differences.sum(0)) * (1 - 1e-9)  # so that sums which are equal but for rounding count as equal
    flips, drawn = _sign_patterns(len(differences), seed)
    as_large = np.zeros(differences.shape[1])
    for rows in np.array_split(flips, -(-flips.shape[0] * max(differences.shape) // MOST_AT_ONCE)):
        as_large += (np.abs(rows.astype(np.float64) @ differences) >= observed).sum(0)
    return (1 + as_large) / (1 + len(flips)) if drawn else as_large / len(flips)


@lru_cache(maxsize=4)
def _sign_patterns(n: int, seed: int) -> tuple[np.ndarray, bool]:
    """Sign patterns (draws, n), and whether they are a random draw rather than all patterns."""
    if n <= MOST_ENUMERATED:
        return np.array(list(product((-1, 1), repeat=n)), dtype=np.int8), False
    generator = np.random.default_rng([seed, n, 2])
    return generator.integers(0, 2, size=(FLIPS, n), dtype=np.int8) * 2 - 1, True


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (k,) corrected for their number by Holm's step-down procedure. NaN stay NaN and do not count."""
    p = np.asarray(p, dtype=np.float64)
    corrected, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected
