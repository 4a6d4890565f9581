"""Explainers of Liu et al. 2021 (2106.12543) that are not registered."""

from math import comb

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from harness.reproducing.studies.xai_bench.coalitions import known_columns, shapley_of_worths

# MAPLE's settings in the authors' code.
SPLIT, LEAF, COLUMNS_PER_SPLIT, PENALTY = 0.8, 10, 0.5, 0.001
HEAVY = 1e6  # the released regression's weight of the empty and the whole coalition


def shapr(outputs: np.ndarray, rows: np.ndarray, background: np.ndarray, width: float, fewest: int = 1) -> np.ndarray:
    """Shapley values (N, D) with the empirical conditional distribution (Aas et al. 2021, 1903.10464).

    ``outputs`` (N, 2^D, R) are those of ``marginal_outputs``. A row of the ``background`` (R, D) counts for a coalition
    by its Mahalanobis distance d to x over the K known columns: exp(-d^2 / (2 K width^2)). With fewer than ``fewest``
    known columns all rows count alike.
    """
    worths = outputs.mean(2)
    for number, known in enumerate(known_columns(rows.shape[1])):
        if known.sum() >= fewest:
            precision = np.linalg.pinv(np.atleast_2d(np.cov(background[:, known], rowvar=False)))
            apart = rows[:, None, known] - background[None][:, :, known]
            exponent = -np.einsum("nrk,kl,nrl->nr", apart, precision, apart) / (2 * known.sum() * width**2)
            weights = np.exp(exponent - exponent.max(1, keepdims=True))
            worths[:, number] = (weights * outputs[:, number]).sum(1) / weights.sum(1)
    return shapley_of_worths(worths)


def released_regression(worths: np.ndarray) -> np.ndarray:
    """Coefficients (N, D) of weighted least squares of the worths (N, 2^D) on which columns are known (D11).

    There is no intercept, and the worth of the empty coalition is not subtracted.
    """
    known = known_columns(worths.shape[1].bit_length() - 1)
    sizes, columns = known.sum(1), known.shape[1]
    inside = (sizes > 0) & (sizes < columns)
    weights = np.full(len(known), HEAVY)
    weights[inside] = [(columns - 1) / (comb(columns, s) * s * (columns - s)) for s in sizes[inside]]
    roots = np.sqrt(weights)[:, None]
    return np.linalg.lstsq(roots * known, roots * worths.T, rcond=None)[0].T


def break_down(worths: np.ndarray) -> np.ndarray:
    """Contributions (N, D) along one order of columns (Staniak and Biecek 2018, 1804.01955, step-down).

    From all columns on, the one is forgotten next whose loss leaves the worth (N, 2^D) closest to f(x). Its
    contribution is what the worth loses in this step.
    """
    count, columns = len(worths), worths.shape[1].bit_length() - 1
    each, bits = np.arange(count), 2 ** np.arange(columns)
    coalition, values = np.full(count, 2**columns - 1), np.zeros((count, columns))
    for _ in range(columns):
        known = (coalition[:, None] & bits) > 0
        left = np.take_along_axis(worths, np.where(known, coalition[:, None] - bits, 0), 1)
        chosen = np.where(known, np.abs(worths[:, -1:] - left), np.inf).argmin(1)
        values[each, chosen] = worths[each, coalition] - left[each, chosen]
        coalition = coalition - bits[chosen]
    return values


def maple(rows: np.ndarray, background: np.ndarray, responses: np.ndarray, trees: int, seed: int) -> np.ndarray:
    """Coefficients of local linear models times x - mean, (N, D) (MAPLE: Plumb et al. 2018, 1807.02910).

    A forest learns the model's ``responses`` (R,) to the ``background`` (R, D). A background row counts for x as often
    as it shares a leaf with it, each leaf's rows with a weight of 1 in all. The columns of most first splits are used,
    as many as predict held-out responses best.
    """
    order = np.random.default_rng(seed).permutation(len(background))
    fit, held = np.split(order, [int(SPLIT * len(order))])
    forest = RandomForestRegressor(trees, min_samples_leaf=LEAF, max_features=COLUMNS_PER_SPLIT, random_state=seed)
    forest.fit(background[fit], responses[fit])
    ranking = np.argsort(-_first_splits(forest), kind="stable")
    of_held, of_rows = (_leaf_weights(forest, background[fit], each) for each in (background[held], rows))
    errors = []
    for number in range(1, len(ranking) + 1):
        kept = ranking[:number]
        slopes, offsets = _local_models(of_held, background[fit][:, kept], responses[fit])
        predicted = (background[held][:, kept] * slopes).sum(1) + offsets
        errors.append(((predicted - responses[held]) ** 2).mean())
    kept = ranking[: int(np.argmin(errors)) + 1]
    values = np.zeros_like(rows)
    slopes, _ = _local_models(of_rows, background[fit][:, kept], responses[fit])
    values[:, kept] = slopes * (rows - background.mean(0))[:, kept]
    return values


def _first_splits(forest: RandomForestRegressor) -> np.ndarray:
    """For each column (D,), the impurity at the roots that split on it."""
    scores = np.zeros(forest.n_features_in_)
    for each in forest.estimators_:
        if each.tree_.feature[0] >= 0:
            scores[each.tree_.feature[0]] += each.tree_.impurity[0]
    return scores


def _leaf_weights(forest: RandomForestRegressor, fitted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How much each row of ``fitted`` (R, D) counts for each of ``rows`` (N, D): (N, R)."""
    weights = np.zeros((len(rows), len(fitted)))
    for theirs, mine in zip(forest.apply(fitted).T, forest.apply(rows).T, strict=True):
        shared = mine[:, None] == theirs
        weights += shared / np.maximum(shared.sum(1, keepdims=True), 1)
    return weights


def _local_models(weights: np.ndarray, inputs: np.ndarray, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (N, K) and offsets (N,) of ridge regressions of ``responses`` (R,) on ``inputs`` (R, K), one for each row
    of ``weights`` (N, R)."""
    shares = weights / weights.sum(1, keepdims=True)
    centre, level = shares @ inputs, shares @ responses
    apart, rest = inputs[None] - centre[:, None], responses[None] - level[:, None]
    gram = np.einsum("nr,nrk,nrl->nkl", weights, apart, apart) + PENALTY * np.eye(inputs.shape[1])
    slopes = np.linalg.solve(gram, np.einsum("nr,nrk,nr->nk", weights, apart, rest)[..., None])[..., 0]
    return slopes, level - (centre * slopes).sum(1)
