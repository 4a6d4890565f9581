"""Do metrics agree on which explainer is better? Kendall's tau-b between their rankings, with intervals.

The interval is not a bootstrap of tau: resampling adds noise to both rankings, and noise moves tau towards 0, so that
for two metrics with the same true order nearly all resamples lie below the true tau of 1. It is built from pairs of
explainers instead. First, for which pairs is the order certain? Then, which values can tau have if the order of all
other pairs is free? ``docs/claims_agreement.py`` measures how often it holds the truth.
"""

from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd

from harness.results.matrices import Matrix
from harness.results.one_vote import LEAST_EXPLAINERS, one_vote, rank_as
from harness.results.reliability import signs_of_pairs, taus_of_signs
from harness.results.ties import differences_of_columns

FLIPS = 1000
ALPHA = 0.05


def metric_agreement(matrices: Iterable[Matrix], controls: Collection[str] = (), *, seed: int = 0) -> pd.DataFrame:
    """One row per pair of metrics of one model, data set and protocol: ``first second tau low high explainers n note
    lacking``.

    Explainers are ranked by their mean over the samples that all of them have in both metrics; tau-b between the two
    rankings over the explainers that both have, and its interval by ``tau_interval``. An explainer that lacks the
    scores of more than a tenth of the samples of either metric is not compared; ``lacking`` names it. Controls are left
    out: one that is far behind by every metric makes metrics look alike that order all others differently. Metrics
    without a direction, and pairs with fewer than three explainers or two samples in common, have no row.

    A metric that ranks identically to an earlier one (``harness.results.one_vote``) has a single row, in which the
    ``note`` says so, without an interval, and none with other metrics: the two are one vote.
    """
    directed = [matrix.without(controls) for matrix in matrices if matrix.better in ("higher", "lower")]
    same = {id(matrix): metric for matrix, metric in zip(directed, rank_as(directed), strict=True)}
    pairs = ((a, b) for a, b in combinations(directed, 2) if a.block == b.block and not same[id(a)])
    rows = [
        _pair_of_metrics(a, b, same[id(b)] == a.names["metric"], seed)
        for a, b in pairs
        if same[id(b)] in ("", a.names["metric"])
    ]
    return pd.DataFrame([row for row in rows if row is not None])


def _pair_of_metrics(first: Matrix, second: Matrix, same: bool, seed: int) -> dict[str, object] | None:
    both = [name for name in first.signed if name in second.signed]
    lacking = [name for name in both if name in first.lacking or name in second.lacking]
    explainers = [name for name in both if name not in lacking]
    a, b = first.signed[explainers].dropna(), second.signed[explainers].dropna()
    common = a.index.intersection(b.index)
    if len(explainers) < LEAST_EXPLAINERS or len(common) < 2:
        return None
    names = first.names["metric"], second.names["metric"]
    a, b = a.loc[common].to_numpy(), b.loc[common].to_numpy()
    tau, low, high = (1.0, np.nan, np.nan) if same else tau_interval(a, b, seed=seed)
    return {
        **first.block,
        "first": names[0],
        "second": names[1],
        "tau": tau,
        "low": low,
        "high": high,
        "explainers": len(explainers),
        "n": len(common),
        "note": one_vote(names[1], names[0]) if same else "",
        "lacking": ", ".join(lacking),
    }


def tau_interval(
    first: np.ndarray, second: np.ndarray, *, equal: float = 0.0, seed: int = 0
) -> tuple[float, float, float]:
    """tau-b between the orders of explainers by their means in two metrics, and the ends of its 95 % interval.

    ``first`` and ``second`` (n, E): the scores of the same n samples by the two metrics. The interval holds every tau-b
    that the population means can have if all pairs whose order is certain keep it, and every other pair has any order
    or is tied. The order of all pairs called certain, in both metrics, is right with a probability of 95 %, so that
    tau-b lies in the interval with at least this probability. It is [-1, 1] where no order is certain. Ties are never
    certain: scores that are equal on these samples may differ on others.

    Scores and means that are equal but for rounding are tied (``harness.results.ties``), and so are means that differ
    by no more than ``equal`` times their range, for scores with larger errors. NaN three times where a metric ties all.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (first, second))
    tau = float(taus_of_signs(_order_of_means(first, equal), _order_of_means(second, equal))[0])
    if np.isnan(tau):
        return tau, tau, tau
    one, other = _certain_orders(first, second, equal, seed)
    sure, free = (one * other).sum(), ((one == 0) | (other == 0)).sum()
    # A tie takes a pair from the numerator and from the root of the denominator: it is never as extreme as an order.
    return tau, float((sure - free) / len(one)), float((sure + free) / len(one))


def _order_of_means(values: np.ndarray, equal: float) -> np.ndarray:
    """Which of every two explainers has the higher mean (1, P), from scores (n, E): 1, -1 or 0 where they are tied."""
    return signs_of_pairs(values.mean(0)[None], np.abs(values).mean(0)[None], equal=equal)


def _certain_orders(first: np.ndarray, second: np.ndarray, equal: float, seed: int) -> np.ndarray:
    """Per metric (2, P): 1 or -1 for each pair of explainers whose order is certain, else 0."""
    flips = _flips(len(first), seed)
    found = [_statistics(values, flips, equal) for values in (first, second)]
    observed, drawn = (np.concatenate(each, axis=-1) for each in zip(*found, strict=True))
    if 2.0 ** (1 - len(first)) * len(observed) > ALPHA:  # where all differences are equal, only signs can be tested
        observed = np.where(np.isinf(observed), 0, observed)
    return (np.sign(observed) * _step_down(np.abs(observed), np.abs(drawn))).reshape(2, -1)


def _statistics(values: np.ndarray, flips: np.ndarray, equal: float) -> tuple[np.ndarray, np.ndarray]:
    """Studentised mean differences of all pairs (P,) of explainers (n, E), and those of the centred differences whose
    signs are flipped (F, P)."""
    n, (i, j) = len(values), np.triu_indices(values.shape[1], 1)
    means, differences = values.mean(0), differences_of_columns(values, i, j)
    spread = np.where(np.ptp(differences, axis=0) > 0, differences.std(0, ddof=1), 0)
    centred = (values - means) * np.sqrt(n / (n - 1))  # so that flipped means have the variance of means
    flipped = flips @ centred / n
    flipped, size = flipped[:, i] - flipped[:, j], means[i] - means[j]
    left = np.maximum(n * (spread**2 - flipped**2), 0)  # the sum of squares around the flipped mean
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = flipped * np.sqrt(n * (n - 1) / left)
        observed = np.where(_order_of_means(values, equal)[0] != 0, size * np.sqrt(n) / spread, 0)
    return observed, np.where(spread > 0, drawn, 0)


def _step_down(observed: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Which statistics (P,) exceed the largest of (F, P) drawn ones at 5 %; then again among the rest, until none does
    (Westfall and Young 1993, step-down max-T)."""
    certain = np.zeros(len(observed), dtype=bool)
    while not certain.all():
        critical = np.quantile(drawn[:, ~certain].max(1), 1 - ALPHA, method="higher")
        more = ~certain & (observed > critical)
        if not more.any():
            break
        certain |= more
    return certain


@lru_cache(maxsize=2)
def _flips(n: int, seed: int) -> np.ndarray:
    """Signs of n samples in each of 1,000 draws, the same for all pairs of metrics."""
    return np.random.default_rng([seed, n, 5]).integers(0, 2, size=(FLIPS, n)) * 2.0 - 1


def as_square(pairs: pd.DataFrame, value: str = "tau") -> pd.DataFrame:
    """The pairs of one block as a symmetric table of metrics, 1 on the diagonal, NaN for pairs that are not there."""
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    square = pd.DataFrame(np.where(np.eye(len(names)), 1.0, np.nan), names, names)
    for row in pairs.itertuples():
        square.loc[row.first, row.second] = square.loc[row.second, row.first] = getattr(row, value)
    return square
