"""The metrics of Liu et al. 2021 (2106.12543), from the worths of all coalitions.

What a metric resamples are columns, given the others: removing column j leaves the worth of the coalition without j. A
score that is undefined is NaN; it is counted, and is not replaced by a number.
"""

import numpy as np

from harness.reproducing.studies.xai_bench.coalitions import (
    Predict,
    all_but_one,
    gaussian_given,
    known_columns,
    outputs_in_chunks,
)

ROUNDING = 1e-9  # of outputs with a variance of about 1


def correlations_of_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlations (N,) of rows (N, D); NaN where one side of a row does not vary."""
    varies = (np.ptp(first, axis=1) > ROUNDING) & (np.ptp(second, axis=1) > ROUNDING)
    left, right = (side - side.mean(1, keepdims=True) for side in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (left * right).sum(1) / np.sqrt((left**2).sum(1) * (right**2).sum(1))
    return np.where(varies, found, np.nan)


def expected_changes(worths: np.ndarray) -> np.ndarray:
    """f(x) - E[f | all columns but j], (N, D), from worths (N, 2^D)."""
    return worths[:, -1:] - worths[:, all_but_one(worths.shape[1].bit_length() - 1)]


def drawn_changes(predict: Predict, rows: np.ndarray, covariance: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Estimates (N, D) of ``expected_changes`` of rows of N(0, covariance): each from ``draws`` random draws of column
    j given the others, which are drawn anew for each row and column."""
    count, columns = rows.shape
    normal, outputs, found = np.random.default_rng(seed), predict(rows), np.empty((count, columns))
    for column in range(columns):
        known = np.arange(columns) != column
        weights, root = gaussian_given(known, covariance)
        filled = np.repeat(rows[:, None], draws, 1)
        filled[:, :, column] = rows[:, known] @ weights + root[0, 0] * normal.normal(size=(count, draws))
        found[:, column] = outputs - outputs_in_chunks(predict, filled).mean(1)
    return found


def faithfulness_of(attributions: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Pearson correlations (N,) over columns of |a_j| with the size of the change (N, D) when column j is resampled."""
    return correlations_of_rows(np.abs(attributions), np.abs(changes))


def orders_of_insertion(attributions: np.ndarray, seed: int) -> np.ndarray:
    """The columns (N, D) in ascending order of |a_j|; equal ones in a random order."""
    chance = np.random.default_rng(seed).random(attributions.shape)
    return np.lexsort((chance, np.abs(attributions)), axis=1)


def changes_on_insertion(worths: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The size of the change (N, D) of the worth at each step, when columns become known in these ``orders`` (N, D)."""
    coalitions = np.concatenate([np.zeros((len(orders), 1), int), np.cumsum(2**orders, 1)], 1)
    return np.abs(np.diff(np.take_along_axis(worths, coalitions, 1), axis=1))


def monotonicity_of(changes: np.ndarray) -> np.ndarray:
    """The share (N,) of neighbouring changes (N, D) on insertion of which the later one is not smaller."""
    return (np.diff(changes, axis=1) >= -ROUNDING).mean(1)


def released_monotonicity(worths: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The share (N,) as the release has it (D9): worths after each insertion are stored in the order of the columns.

    Neighbours are then columns, not steps.
    """
    after = np.take_along_axis(worths, np.cumsum(2**orders, 1), 1)
    by_column = np.take_along_axis(after, np.argsort(orders, axis=1), 1)
    return monotonicity_of(np.abs(np.diff(np.concatenate([worths[:, :1], by_column], 1), axis=1)))


def infidelity_over_sets(attributions: np.ndarray, worths: np.ndarray) -> np.ndarray:
    """Mean squared error (N,) of the changes that attributions (N, D) predict, over all 2^D sets of removed columns.

    ``worths`` (N, 2^D) are those against one baseline. The attributions are first multiplied by their factor of least
    error; those that are 0 throughout predict no change.
    """
    removed = ~known_columns(attributions.shape[1])
    predicted, change = attributions @ removed.T, worths[:, -1:] - worths
    size = (predicted**2).sum(1)
    factor = np.divide((predicted * change).sum(1), size, out=np.zeros(len(size)), where=size > 0)
    return ((change - factor[:, None] * predicted) ** 2).mean(1)
