"""One-sided tests that mean differences are above 0, by the signs of paired differences, and verdicts on several."""

from collections.abc import Sequence
from itertools import product

import numpy as np

LEVEL = 0.05
MOST_ENUMERATED, DRAWS = 14, 20_000  # differences whose signs are enumerated; draws for more of them
AT_ONCE = 500  # draws: all of them for 10,000 images would take gigabytes
NOT_CORRECTED = "not corrected for the number of claims of this study"


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

    True where each passes at LEVEL: if one were not above 0, all would pass with a probability of at most LEVEL. False
    where one is below 0, corrected for their number. None where neither is so, as with fewer than five differences.
    """
    largest = max(sign_flip_p(each) for each in columns)
    if largest <= LEVEL:
        return True, largest
    below = min(sign_flip_p(-np.asarray(each)) for each in columns)
    return (False if below * len(columns) <= LEVEL else None), largest
