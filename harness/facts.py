"""Facts that an explainer reports besides its attributions, such as how well its surrogate model fits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Facts:
    """Facts of one explainer in one block, collected over its calls.

    single      name -> a number, text, list or mapping of these; a later value replaces an earlier one
    per_sample  name -> one number per sample and call, in the order in which samples were explained
    tables      name -> rows that are saved as a file, like all repeats of a permutation importance; a table with a
                column ``sample`` has the rows of all calls
    pairs       for each call: numbers of the samples (n,), segments (n, *units), interactions (n, K, K); None (the
                default): not collected
    """

    single: dict[str, Any] = field(default_factory=dict)
    per_sample: dict[str, list[Tensor]] = field(default_factory=dict)
    tables: dict[str, "pd.DataFrame"] = field(default_factory=dict)
    pairs: list[tuple[Tensor, Tensor, Tensor]] | None = None

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Add facts by name: a tensor (n,) is one number per sample of the call, a DataFrame is a table."""
        import pandas as pd  # takes half a second to import, which a plan or a list does not need

        for name, value in facts.items():
            if isinstance(value, Tensor):
                if value.dim() != 1:
                    raise UserError(f"fact {name!r} has shape {tuple(value.shape)}, expected a number per sample (n,)")
                self.per_sample.setdefault(name, []).append(value.detach().double().cpu())
            elif isinstance(value, pd.DataFrame):
                former = [self.tables[name]] if name in self.tables and "sample" in value else []
                self.tables[name] = pd.concat([*former, value], ignore_index=True)
            else:
                self.single[name] = value

    def summary(self) -> dict[str, Any]:
        """All facts except the tables as plain values; numbers per sample by minimum, median and maximum."""
        return {**self.single, **{name: _quantile_summary(torch.cat(parts)) for name, parts in self.per_sample.items()}}


def _quantile_summary(values: Tensor) -> dict[str, float]:
    """Minimum, median and maximum of the finite values, and the number of values that are not finite, if any."""
    finite = values[values.isfinite()]
    summary = {"min": finite.min(), "median": finite.quantile(0.5), "max": finite.max()} if len(finite) else {}
    not_finite = len(values) - len(finite)
    return {name: float(value) for name, value in summary.items()} | ({"not_finite": not_finite} if not_finite else {})
