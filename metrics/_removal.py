"""Removal of one group of units at a time, and how each removal alone changes the score.

If the groups do not depend on the attributions, neither do the model's outputs without them: they are computed once for
all explainers. A change of the score within the rounding of single precision counts as 0.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Scores
from harness.metrics._groups import Granularity, Grouping, Groups, make_groups
from harness.metrics._sets import rounding
from harness.metrics._similarity import spearman, with_reason
from harness.option_types import Several
from harness.predictor import pick
from harness.removal.baselines import BaselineName, is_random
from harness.removal.segments import Segmentation
from harness.samples import Samples
from harness.task import Score

FLAT = "over single removals the output or the attribution does not vary"

# Former names of the options of ``SingleRemoval``.
RENAMED = {"groups": "most_groups"}


@dataclass(frozen=True)
class SingleRemoval(Grouping):
    """Options of metrics that remove one group of units at a time, in addition to those of ``Grouping``.

    granularity   as in ``Grouping``, or ``auto``: with a ``patch`` as there; without, single units if there are at most
                  ``most_groups`` of them or if they have no neighbours (the columns of a table), else a regular grid of
                  at most ``most_groups`` equal parts
    most_groups   the largest number of groups of ``granularity="auto"`` without a ``patch``, at least 2
    baseline      what a removed unit becomes, as in ``harness.metrics._curve.Stepwise``
    score         of the explained class: ``logit``, ``probability`` or ``log_odds``
    """

    granularity: Granularity = "auto"
    most_groups: Several = 200
    baseline: BaselineName | Tensor = "typical"
    score: Score = "logit"


@dataclass(frozen=True)
class RankedRemoval(SingleRemoval):
    """The same with one more choice of groups.

    granularity   also ``ranked``: groups of equally many units in the order of their attribution
    """

    granularity: Granularity | Literal["ranked"] = "auto"


# The metrics of Nguyen and Martinez 2020 (2007.07584) are expectations over the data, and share the model's outputs.
# The number of groups is small because each costs ``draws`` model evaluations.
RESAMPLING = SingleRemoval(most_groups=64, baseline="resampled")


@dataclass(frozen=True)
class SegmentDeletion:
    """Options of metrics that delete one segment at a time.

    segments   the segmentation, by name or as labels (N, *units); ``parts:16`` is a grid of 4 x 4 on an image, 16
               windows of a sequence, and each column of a table
    baseline   what a deleted unit becomes, as in ``harness.metrics._curve.Stepwise``
    score      of the explained class: ``logit``, ``probability`` or ``log_odds``
    """

    segments: Segmentation | Tensor = "parts:16"
    baseline: BaselineName | Tensor = "typical"
    score: Score = "logit"


def chosen_grouping(samples: Samples, options: SingleRemoval) -> Grouping:
    """The grouping that the options describe, ``auto`` replaced by what it means for these samples."""
    granularity, segments = options.granularity, options.segments
    if granularity == "auto" and not options.patch:
        every = samples.units.count <= options.most_groups or samples.units.modality == "table"
        granularity, segments = ("unit", "unit") if every else ("segment", f"parts:{options.most_groups}")
    granularity = "unit" if (granularity, segments) == ("segment", "unit") else granularity
    return Grouping(granularity, options.patch, segments)


def outputs_without_each(
    samples: Samples, groups: Groups, key: Hashable, baseline: str | Tensor, draws: int = 1
) -> Tensor:
    """Tracked outputs (N, draws, G, 3) without each group, computed once for all explainers.

    ``key`` stands for the groups. A baseline that is not random has a single draw.
    """
    draws = draws if is_random(baseline) else 1
    key = ("without each", key, baseline, draws)
    return samples.outputs(key, lambda: without_each(samples, groups, baseline, draws))


def without_each(samples: Samples, groups: Groups, baseline: str | Tensor, draws: int = 1) -> Tensor:
    """Tracked outputs (N, draws, G, 3) of the inputs without one group; f(x) for group numbers a sample lacks."""
    number = torch.arange(groups.sizes.shape[1], device=samples.inputs.device)

    def keep(sample: Tensor, group: Tensor) -> Tensor:
        return groups.spread(number != group[:, None], sample)

    # Each draw's baseline is freed before the next: a hundred of them would take a hundred times the inputs' memory.
    return torch.stack(
        [replace(samples, scratch={}).masked(len(number), keep, baseline, draw) for draw in range(draws)], 1
    )


def changes(samples: Samples, tracked: Tensor, score: str) -> Tensor:
    """f(x) - f(x changed) for tracked outputs (N, ..., 3), float64; exactly 0 within single precision's rounding."""
    after = pick(tracked, score).double()
    before = samples.clean(score).double().view(-1, *[1] * (after.dim() - 1))
    change = before - after
    return change.masked_fill(change.abs() <= rounding(before), 0)


def root_mean_square_changes(samples: Samples, options: SingleRemoval, draws: int) -> tuple[Groups, Tensor]:
    """The chosen groups, and the score's root mean square change (N, G) without each, over draws."""
    grouping = chosen_grouping(samples, options)
    groups = make_groups(samples, grouping)
    tracked = outputs_without_each(samples, groups, grouping.key, options.baseline, draws)
    return groups, changes(samples, tracked, options.score).square().mean(1).sqrt()


def deletion_correlation(samples: Samples, attributions: Tensor, options: SegmentDeletion) -> Scores:
    """Spearman correlation, over segments, of attribution in maps (N, *units) and drop of the score without them."""
    grouping = Grouping("segment", segments=options.segments)
    groups = make_groups(samples, grouping)
    tracked = outputs_without_each(samples, groups, grouping.key, options.baseline)
    drops = changes(samples, tracked[:, 0], options.score)
    values = over_groups(spearman, groups.sums(attributions), drops, groups, samples.clean(options.score))
    return with_reason(values, FLAT)


def over_groups(
    correlation: Callable[[Tensor, Tensor], Tensor], values: Tensor, change: Tensor, groups: Groups, scale: Tensor
) -> Tensor:
    """The correlation (N,) of values and changes (N, G) over each sample's own groups.

    NaN where one of them does not vary. Changes vary if they differ by more than the rounding of a score of size
    ``scale`` (N,).
    """
    result = torch.full_like(scale, float("nan"), dtype=torch.float64)
    for total in groups.totals.unique().tolist():
        rows = groups.totals == total
        own, changed = values[rows, :total], change[rows, :total]
        flat = changed.amax(1) - changed.amin(1) <= rounding(scale[rows].double())
        result[rows] = correlation(own, changed).masked_fill(flat, float("nan"))
    return result
