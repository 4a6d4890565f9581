"""The level of all tests, and Holm's correction for their number."""

import numpy as np

ALPHA = 0.05


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (k,) corrected for their number by Holm's step-down procedure. NaN stay NaN and do not count."""
    p = np.asarray(p, dtype=np.float64)
    corrected, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected
