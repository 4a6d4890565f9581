"""Did scores change between two measurements of the same samples? Tests of a whole block of cells as one family.

Under the hypothesis that nothing changed, the sign of every sample's difference is random. All cells of a block get the
same flips, and each is compared with the largest statistic of all under each flip (max-T, Westfall and Young 1993).
Cells that changed together do not take certainty from each other, as they would with a correction by their number. The
block as a whole is tested beside its cells: half of the 5 % is for the block, half for the cells.
"""

import numpy as np

from harness.results.sign_flips import sign_flips

MOST_AT_ONCE = 1 << 20  # numbers at once
LEAST_CHANGED = 7  # with fewer samples that changed, no p-value can be below 0.025: 2 / 2^7


def p_of_block(differences: np.ndarray) -> np.ndarray:
    """Two-sided p-values (cells,) of the mean of differences (samples, cells), corrected for the number of cells.

    A NaN is a sample that a cell lacks. The p-value is NaN where fewer than seven samples changed: such cells cannot be
    tested, and others need not pay for them.
    """
    known = np.nan_to_num(np.asarray(differences, dtype=np.float64))
    p = np.full(known.shape[1], np.nan)
    testable = (known != 0).sum(0) >= LEAST_CHANGED
    if testable.any():
        p[testable] = _largest_of_flips(known[:, testable])
    return p


def p_of_cells_and_whole(differences: np.ndarray, together: np.ndarray) -> tuple[np.ndarray, float]:
    """p-values of the cells (cells,) and of the block as a whole, so that any is below 5 % with a chance of 5 %.

    ``differences`` (samples, cells) are signed so that positive is better, ``together`` (samples,) is ``of_the_whole``
    of them. A block of one cell is not tested as a whole: NaN.
    """
    if differences.shape[1] == 1:
        return p_of_block(differences), float("nan")
    whole = p_of_block(together[:, None])[0]
    return np.minimum(1, 2 * p_of_block(differences)), float(np.minimum(1, 2 * whole))


def _largest_of_flips(differences: np.ndarray) -> np.ndarray:
    scaled = differences / np.abs(differences).max(0)
    scaled /= np.sqrt((scaled**2).sum(0))
    observed, as_large, count = np.abs(scaled.sum(0)) * (1 - 1e-9), 0, 0
    for flips in sign_flips(*scaled.shape, at_once=MOST_AT_ONCE):
        largest = np.sort(np.abs(flips @ scaled).max(1))
        as_large = as_large + len(largest) - np.searchsorted(largest, observed)
        count += len(largest)
    return as_large / count


def of_the_whole(differences: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The mean change of all cells per sample (samples,), each as a share of its ``scales`` (cells,), NaN left out.

    Differences (samples, cells) are signed so that positive is better.
    """
    shares = differences / scales
    there = np.isfinite(shares)
    return np.where(there, shares, 0).sum(1) / np.maximum(1, there.sum(1))


def of_the_controls(differences: list[np.ndarray]) -> np.ndarray:
    """What the controls of a metric changed by (samples,), the median over controls; 0 where none has a score.

    Controls do not look at the model. What changes their scores is the data, the metric, the model or the machine.
    """
    stacked = np.stack(differences)
    none = ~np.isfinite(stacked).any(0)
    stacked[:, none] = 0
    return np.nanmedian(stacked, axis=0)
