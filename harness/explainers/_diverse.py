"""Rows that are near a sample and far from one another: the set that DiCE's loss asks for, chosen row by row."""

import torch
from torch import Tensor

from harness.explainers._row_changes import RowChanges

JITTER = 1e-4  # on the diagonal, as in the authors' code


def diverse_rows(
    changes: RowChanges, pool: Tensor, usable: Tensor, near: Tensor, most: int, proximity: float, diversity: float
) -> tuple[Tensor, Tensor]:
    """Up to ``most`` different rows of each pool (n, M, D): their places (n, most), and a mask (n, most) of those that
    were found.

    Each next one adds most to ``diversity`` det(K) - ``proximity`` / most sum of ``near`` (n, M), the distances from
    the sample as means over the columns. K has 1 / (1 + d) for two rows that are d apart, summed over the columns. The
    determinant grows by a factor for each row, which follows from its Cholesky factor (Chen et al. 2018, 1709.05135).
    """
    every = torch.arange(len(pool), device=pool.device)
    left, gain = usable.clone(), torch.full(usable.shape, 1 + JITTER, dtype=torch.float64, device=pool.device)
    factor = gain.new_zeros(*usable.shape, most)
    determinant, chosen, there = gain.new_ones(len(pool)), [], []
    for number in range(most):
        worth = diversity * determinant[:, None] * gain - proximity / most * near
        best = worth.masked_fill(~left, -torch.inf).argmax(1)
        found = left[every, best]
        chosen.append(best)
        there.append(found)
        apart = changes.column_distances(pool, pool[every, best][:, None]).sum(-1)
        own, scale = factor[every, best], gain[every, best]
        along = (1 / (1 + apart) - (factor * own[:, None]).sum(-1)) / scale.sqrt()[:, None]
        factor[:, :, number] = along
        determinant = determinant * scale
        gain = (gain - along**2).clamp(min=JITTER)
        left &= apart > 0
    return torch.stack(chosen, 1), torch.stack(there, 1)
