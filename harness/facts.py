"""What an explainer tells of its own work beside its attributions: what it saw, what it chose, how well it fitted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.errors import UserError


@dataclass
class Facts:
    """Facts of one explainer in one block, collected over its calls.

    single      name -> a number, text, list or mapping of these; told again, the last one holds
    per_sample  name -> one number per sample and call, in the order in which samples were explained
    tables      name -> rows to be kept as a file, like all repeats of a permutation importance
    """

    single: dict[str, Any] = field(default_factory=dict)
    per_sample: dict[str, list[Tensor]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Note facts by name: a tensor (n,) is one number for each sample of the call, a frame is a table."""
        for name, value in facts.items():
            if isinstance(value, Tensor):
                if value.dim() != 1:
                    raise UserError(f"fact {name!r} has shape {tuple(value.shape)}, expected a number per sample (n,)")
                self.per_sample.setdefault(name, []).append(value.detach().double().cpu())
            elif isinstance(value, pd.DataFrame):
                self.tables[name] = value
            else:
                self.single[name] = value

    def summary(self) -> dict[str, Any]:
        """Everything but the tables as plain values: numbers per sample by their least, median and largest."""
        return {**self.single, **{name: _spread(torch.cat(parts)) for name, parts in self.per_sample.items()}}


def _spread(values: Tensor) -> dict[str, float]:
    """Least, median and largest of the finite values; how many are not finite, if any."""
    finite = values[values.isfinite()]
    found = {"min": finite.min(), "median": finite.quantile(0.5), "max": finite.max()} if len(finite) else {}
    lost = len(values) - len(finite)
    return {name: float(value) for name, value in found.items()} | ({"not_finite": lost} if lost else {})
