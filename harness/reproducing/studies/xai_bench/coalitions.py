"""The worths of all coalitions of columns: what a model is expected to give where only these columns are known.

A coalition is a set of known columns. Its number has a bit for each of them, so that 0 is the empty coalition and the
last one, 2^D - 1, knows all columns. Worths are arrays (N, 2^D) for N rows.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc

from harness.explainers.shapley import all_coalitions, values_from_worths

Predict = Callable[[np.ndarray], np.ndarray]  # rows (M, D) -> outputs (M,)
CHUNK = 20_000  # rows that a model is given at once, so that its hidden layer stays in the cache


def known_columns(columns: int) -> np.ndarray:
    """Which columns each coalition knows, (2^columns, columns) bool."""
    return all_coalitions(columns).numpy()


def all_but_one(columns: int) -> np.ndarray:
    """The numbers (columns,) of the coalitions that know all columns but one."""
    return 2**columns - 1 - 2 ** np.arange(columns)


def shapley_of_worths(worths: np.ndarray) -> np.ndarray:
    """Exact Shapley values (N, D) from the worths (N, 2^D) of all coalitions; they sum to the last less the first."""
    columns = worths.shape[1].bit_length() - 1
    return values_from_worths(all_coalitions(columns), torch.from_numpy(worths)).numpy()


def symmetric_normals(count: int, columns: int, seed: int) -> np.ndarray:
    """Evenly spread standard normal points (count, columns), each together with its negative.

    They are a scrambled Sobol sequence. Because of the symmetry a linear function has its exact mean over them.
    """
    if count % 2:
        raise ValueError(f"count is {count}, expected an even number: points come in pairs")
    points = ndtri(qmc.Sobol(columns, seed=seed).random(count // 2))
    return np.concatenate([points, -points])


def gaussian_given(known: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distribution of the other columns of N(0, covariance) given those that are ``known`` (D,) bool.

    Returns weights (K, D - K) and a root (D - K, D - K): given x it is N(x weights, root root^T).
    """
    across = covariance[known][:, ~known]
    weights = np.linalg.solve(covariance[known][:, known], across)
    return weights, np.linalg.cholesky(covariance[~known][:, ~known] - across.T @ weights)


def conditional_worths(predict: Predict, rows: np.ndarray, covariance: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Worths (N, 2^D) of ``rows`` (N, D) where unknown columns are resampled given the known ones, under
    N(0, covariance).

    Each is the mean over the standard normal points ``normals`` (M, D), of which D - K columns are used.
    """
    count, columns = rows.shape
    worths = np.empty((count, 2**columns))
    for number, known in enumerate(known_columns(columns)):
        if known.all():
            worths[:, number] = predict(rows)
            continue
        weights, root = gaussian_given(known, covariance)
        filled = np.repeat(rows[:, None], len(normals), 1)
        filled[:, :, ~known] = (rows[:, known] @ weights)[:, None] + normals[:, : (~known).sum()] @ root.T
        worths[:, number] = outputs_in_chunks(predict, filled).mean(1)
    return worths


def marginal_outputs(predict: Predict, rows: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Outputs (N, 2^D, R) where unknown columns have their values in each row of ``background`` (R, D).

    Their mean over the background is the worth under an intervention, which does not look at the known columns.
    """
    columns = rows.shape[1]
    found = np.empty((len(rows), 2**columns, len(background)))
    for number, known in enumerate(known_columns(columns)):
        found[:, number] = outputs_in_chunks(predict, np.where(known, rows[:, None], background[None]))
    return found


def outputs_in_chunks(predict: Predict, filled: np.ndarray) -> np.ndarray:
    """The model's outputs (N, M) for rows (N, M, D)."""
    flat = filled.reshape(-1, filled.shape[-1])
    parts = [predict(flat[start : start + CHUNK]) for start in range(0, len(flat), CHUNK)]
    return np.concatenate(parts).astype(np.float64).reshape(filled.shape[:-1])
