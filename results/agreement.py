"""Do metrics agree on which explainer is better? Kendall's tau-b between their rankings, with intervals."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd

from harness.results.matrices import Matrix
from harness.results.reliability import taus

RESAMPLES = 1000
LEAST_EXPLAINERS = 3


def metric_agreement(matrices: Iterable[Matrix], *, seed: int = 0) -> pd.DataFrame:
    """One row per pair of metrics of one model, data set and protocol: ``first second tau low high explainers n``.

    Explainers are ranked by their mean over the samples that all of them have in both metrics; tau-b between the two
    rankings over the explainers that both have, and its 95 % percentile interval over bootstrap resamples of the
    samples, the same for both. Metrics without a direction, and pairs with fewer than three explainers or two samples
    in common, have no row.
    """
    directed = [matrix for matrix in matrices if matrix.better in ("higher", "lower")]
    rows = [_pair_of_metrics(a, b, seed) for a, b in combinations(directed, 2) if _block_names(a) == _block_names(b)]
    return pd.DataFrame([row for row in rows if row is not None])


def _block_names(matrix: Matrix) -> dict[str, str]:
    return {name: text for name, text in matrix.names.items() if name != "metric"}


def _pair_of_metrics(first: Matrix, second: Matrix, seed: int) -> dict[str, object] | None:
    explainers = [name for name in first.signed if name in second.signed]
    a, b = first.signed[explainers].dropna(), second.signed[explainers].dropna()
    common = a.index.intersection(b.index)
    if len(explainers) < LEAST_EXPLAINERS or len(common) < 2:
        return None
    a, b = a.loc[common].to_numpy(), b.loc[common].to_numpy()
    weights = _resampled_weights(len(a), seed)
    resampled = taus(weights @ a, weights @ b)
    low, high = np.nanquantile(resampled, [0.025, 0.975]) if np.isfinite(resampled).any() else (np.nan, np.nan)
    return {
        **_block_names(first),
        "first": first.names["metric"],
        "second": second.names["metric"],
        "tau": float(taus(a.mean(0)[None], b.mean(0)[None])[0]),
        "low": float(low),
        "high": float(high),
        "explainers": len(explainers),
        "n": len(common),
    }


@lru_cache(maxsize=2)
def _resampled_weights(n: int, seed: int) -> np.ndarray:
    """The share of each of n samples in each resample, the same for all pairs of metrics."""
    generator = np.random.default_rng([seed, n, 5])
    return generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def as_square(pairs: pd.DataFrame, value: str = "tau") -> pd.DataFrame:
    """The pairs of one block as a symmetric table of metrics, 1 on the diagonal."""
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    square = pd.DataFrame(np.eye(len(names)), names, names)
    for row in pairs.itertuples():
        square.loc[row.first, row.second] = square.loc[row.second, row.first] = getattr(row, value)
    return square
