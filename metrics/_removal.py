"""The engine of the metrics that remove one group of units at a time: what each does to the score, by itself.

Where the groups do not depend on the attributions, neither do the model's outputs without them: they are made once for
all explainers. What the score changes by in single precision's rounding is taken for no change.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace

import torch
from torch import Tensor

from harness.errors import UserError, unknown
from harness.metrics._groups import GRANULARITIES as NAMED
from harness.metrics._groups import Groups, groups
from harness.metrics._sets import rounding
from harness.predictor import pick
from harness.removal.baselines import is_random
from harness.samples import Samples

GRANULARITIES = ("auto", *NAMED)


def chosen_groups(
    samples: Samples, granularity: str, patch: int, segments: str | Tensor, most: int
) -> tuple[Groups, Hashable]:
    """The groups that the options describe, and a key that stands for them.

    ``auto``: every unit by itself where there are at most ``most`` or they have no neighbours (the columns of a table),
    else a grid of at most ``most`` equal parts; the rest as in ``harness.metrics._groups``.
    """
    if granularity not in GRANULARITIES:
        raise unknown("granularity", granularity, GRANULARITIES)
    if most < 2:
        raise UserError(f"groups is {most}, expected at least 2")
    if granularity == "auto":
        granularity, segments = "segment", grid(samples, most)
    granularity = "unit" if (granularity, segments) == ("segment", "unit") else granularity
    key = (granularity, {"patch": patch, "segment": segments}.get(granularity))
    return groups(samples, granularity, patch, segments), key


def grid(samples: Samples, most: int) -> str:
    """The name of the finest regular segmentation into at most ``most`` groups; of a table, of its columns."""
    units = samples.units
    if units.count <= most or units.modality == "table":
        return "unit"
    side = 1
    while (side + 1) ** len(units.shape) <= most:
        side += 1
    return f"grid:{side}"


def outputs_without_each(
    samples: Samples, found: Groups, key: Hashable, baseline: str | Tensor, draws: int = 1
) -> Tensor:
    """Tracked outputs (N, M, G, 3) without each group, made once for all explainers.

    ``draws`` M of a random baseline; of any other there is one.
    """
    if draws < 1:
        raise UserError(f"samples is {draws}, expected at least 1")
    draws = draws if is_random(baseline) else 1
    return samples.outputs(
        ("without each", key, baseline, draws), lambda: without_each(samples, found, baseline, draws)
    )


def without_each(samples: Samples, found: Groups, baseline: str | Tensor, draws: int = 1) -> Tensor:
    """Tracked outputs (N, draws, G, 3) of the inputs without one group; those of numbers a sample lacks are f(x)."""
    number = torch.arange(found.sizes.shape[1], device=samples.inputs.device)

    def keep(sample: Tensor, group: Tensor) -> Tensor:
        return found.spread(number != group[:, None], sample)

    # Each draw's baseline is let go before the next: a hundred of them would be a hundred times the inputs.
    return torch.stack(
        [replace(samples, scratch={}).masked(len(number), keep, baseline, draw) for draw in range(draws)], 1
    )


def changes(samples: Samples, tracked: Tensor, score: str) -> Tensor:
    """f(x) - f(x changed) for tracked outputs (N, ..., 3), float64; exactly 0 within single precision's rounding."""
    after = pick(tracked, score).double()
    before = samples.clean(score).double().view(-1, *[1] * (after.dim() - 1))
    change = before - after
    return change.masked_fill(change.abs() <= rounding(before), 0)


def over_groups(
    correlation: Callable[[Tensor, Tensor], Tensor], values: Tensor, change: Tensor, found: Groups, scale: Tensor
) -> Tensor:
    """The correlation (N,) of values and changes (N, G) over each sample's own groups.

    NaN where one does not vary: changes of a score of size ``scale`` (N,) vary if by more than its rounding.
    """
    result = torch.full_like(scale, float("nan"), dtype=torch.float64)
    for total in found.totals.unique().tolist():
        rows = found.totals == total
        own, changed = values[rows, :total], change[rows, :total]
        flat = changed.amax(1) - changed.amin(1) <= rounding(scale[rows].double())
        result[rows] = correlation(own, changed).masked_fill(flat, float("nan"))
    return result
