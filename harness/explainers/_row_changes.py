"""What changes between two rows of a table, in units of the columns' spreads, and which values a column can have."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from harness.explainers._decisions import BackgroundRows
from harness.explainers._tabular import MOST_KINDS, deviations, values_repeat

VALUES_TRIED = 10  # of a continuous column, at even quantiles


class RowChanges:
    """The columns of background rows, by which changes of rows are measured and made.

    A continuous column's change is measured in median absolute deviations from the median, or where that is 0 in
    standard deviations; a category (a column of several numbers) has changed by 1 or not at all.
    """

    def __init__(self, rows: BackgroundRows) -> None:
        self.rows, self.inputs = rows, rows.inputs
        on = lambda values: torch.from_numpy(values).to(self.inputs.device)
        values = self.inputs.double().cpu().numpy()
        self.columns, self.categorical = on(rows.columns), on(rows.categorical)
        deviation = np.median(np.abs(values - np.median(values, 0)), 0)
        self.spread = on(np.where(deviation > 0, deviation, deviations(values)))
        kinds = [len(np.unique(each)) for each in values.T]
        repeat = np.array([values_repeat(each, len(values)) for each in kinds])
        self.continuous = ~self.categorical & ~on(repeat)

    @property
    def count(self) -> int:
        """The number of columns, C."""
        return len(self.rows.names)

    def column_distances(self, rows: Tensor, others: Tensor) -> Tensor:
        """How much each column differs between rows (..., D), which broadcast: (..., C) float64, at least 0."""
        apart = (rows.double() - others.double()).abs()
        if not self.categorical.any():
            return apart / self.spread
        sizes = torch.where(self.categorical, (apart > 0).double(), apart / self.spread)
        places = self.columns.expand(sizes.shape)
        found = sizes.new_zeros(*sizes.shape[:-1], self.count)
        return found.scatter_reduce(-1, places, sizes, "amax")

    def with_own(self, rows: Tensor, own: Tensor, column: Tensor) -> Tensor:
        """Rows (n, D) whose ``column`` (n,) is that of ``own`` (n, D)."""
        return torch.where(self.columns == column[:, None], own, rows)

    @cached_property
    def values_to_try(self) -> tuple[Tensor, Tensor]:
        """Values to try in each column by itself: rows (S, D) that hold them, and the column of each (S,).

        Of a continuous column 10 quantiles, of others each value, the most frequent 20 where there are more.
        """
        rows, of = [], []
        for column in range(self.count):
            mine = self.columns == column
            if self.continuous[mine].all():
                places = (
                    (torch.arange(VALUES_TRIED, device=mine.device) * 2 + 1) * len(self.inputs) // (2 * VALUES_TRIED)
                )
                kinds = self.inputs[:, mine].sort(0).values[places]
            else:
                kinds, counts = self.inputs[:, mine].unique(dim=0, return_counts=True)
                kinds = kinds[counts.argsort(descending=True, stable=True)[:MOST_KINDS]]
            row = self.inputs.new_zeros(len(kinds), len(mine))
            row[:, mine] = kinds
            rows.append(row)
            of += [column] * len(kinds)
        return torch.cat(rows), torch.tensor(of, device=self.inputs.device)
