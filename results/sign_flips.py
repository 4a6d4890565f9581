"""Sign flips of samples: if two measurements are alike, the sign of every sample's difference is random."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np

FLIPS = 9_999  # with the observed signs, 10,000
MOST_ENUMERATED = 14  # up to here all patterns are used: 2^13, since opposite ones have the same statistic


def sign_flips(n: int, columns: int, *, at_once: int, draws: int = FLIPS, seed: int = 0) -> Iterator[np.ndarray]:
    """Signs (rows, n), float64, in blocks that take at most ``at_once`` numbers for ``columns`` statistics.

    All patterns for few samples, else the observed signs and ``draws`` random ones, which depend on n and the seed
    alone. The observed signs are among them, so that no p-value is 0.
    """
    signs = _sign_patterns(n, draws, seed)
    for rows in np.array_split(signs, -(-len(signs) * max(n, columns) // at_once)):
        yield rows.astype(np.float64)


@lru_cache(maxsize=4)
def _sign_patterns(n: int, draws: int, seed: int) -> np.ndarray:
    if n <= MOST_ENUMERATED:
        return np.array([(1, *signs) for signs in product((1, -1), repeat=n - 1)], dtype=np.int8)
    drawn = np.random.default_rng([seed, n, 2]).integers(0, 2, size=(draws, n), dtype=np.int8) * 2 - 1
    return np.concatenate([np.ones((1, n), dtype=np.int8), drawn])
