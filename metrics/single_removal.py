"""Faithfulness by single removals: attribution against what the score does when one group of units goes by itself.

Shared options: ``granularity`` what goes at once: a unit, a ``patch`` (side in units), a segment of ``segments``, or
``auto``: every unit where there are at most ``groups``, else a regular grid of at most so many parts; ``baseline`` what
it becomes; ``score`` of the explained class. A group's attribution is the sum over its units. Such groups do not depend
on the attributions: the model's outputs without them are made once for all explainers and metrics.
"""

from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError, unknown
from harness.metrics._groups import Groups, groups
from harness.metrics._removal import (
    GRANULARITIES,
    changes,
    chosen_groups,
    outputs_without_each,
    over_groups,
    without_each,
)
from harness.metrics._similarity import pearson, spearman, with_reason
from harness.ordering import ranks
from harness.registry import metric
from harness.samples import Samples
from harness.units import segment_sizes

REASON = "over single removals the output or the attribution does not vary"


@metric(better="higher", unit="correlation", kind="faithfulness", expects="contribution")
def faithfulness_estimate(
    batch: Batch,
    *,
    granularity: str = "auto",
    groups: int = 200,
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    baseline: str | Tensor = "zero",
    score: str = "logit",
) -> Scores:
    """Correlation of attribution and drop over units removed one at a time (Alvarez-Melis and Jaakkola 2018,
    1806.07538).

    Pearson per sample between each group's summed attribution and f(x) - f(x without it). In [-1, 1], higher is better;
    over an additive model it is the correlation of attributions and contributions. ``granularity="ranked"`` takes
    disjoint groups of equally many units in the order of their attribution, at most ``groups`` of them, as Quantus
    does: these differ from explainer to explainer and share nothing. NaN where the drops, or the attributions, do not
    vary. NotApplicable with a single unit. Expects contributions; for local maps, like gradients, a flag says so.
    """
    samples = batch.samples
    if granularity not in (*GRANULARITIES, "ranked"):
        raise unknown("granularity", granularity, (*GRANULARITIES, "ranked"))
    if granularity == "ranked":
        if groups < 2:
            raise UserError(f"groups is {groups}, expected at least 2")
        found = _ranked(batch, groups)
        key = ("without each", "ranked", groups, baseline)
        tracked = batch.remember(key, lambda: without_each(samples, found, baseline))
    else:
        found, key = chosen_groups(samples, granularity, patch, segments, groups)
        tracked = outputs_without_each(samples, found, key, baseline)
    drops = changes(samples, tracked[:, 0], score)
    values = over_groups(pearson, found.sums(batch.attributions), drops, found, samples.clean(score))
    return with_reason(values, REASON)


@metric(better="higher", unit="correlation", kind="faithfulness", expects="contribution")
def single_deletion(
    batch: Batch,
    *,
    segments: str | Tensor = "grid:4",
    baseline: str | Tensor = "zero",
    score: str = "logit",
) -> Scores:
    """Rank correlation of attribution and drop over 16 patches deleted one at a time (Hesse et al. 2024, 2407.11910).

    Spearman per sample between each patch's summed attribution and f(x) - f(x without it), ties at average ranks. In
    [-1, 1], higher is better. It is the paper's score without its fine-tuning: to the model as it is, an input with a
    patch missing may be a strange one; ``idsds`` has that step. ``segments`` names other parts (``unit`` for the
    columns of a table). NaN where the drops, or the attributions, do not vary. NotApplicable for a grid on a table.
    Expects contributions; for local maps, like gradients, a flag says so.
    """
    return deletion_correlation(batch.samples, batch.attributions, segments, baseline, score)


@metric(better="lower", unit="share", kind="axiom")
def non_sensitivity(
    batch: Batch,
    *,
    attribution_eps: float = 1e-3,
    output_eps: float = 1e-4,
    samples: int = 100,
    granularity: str = "auto",
    groups: int = 200,
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    baseline: str | Tensor = "zero",
    score: str = "logit",
) -> Scores:
    """Share of units that only one of map and model holds to be without effect (Nguyen and Martinez 2020, 2007.07584).

    The paper's symmetric difference of {i: a_i = 0} and {i: f does not react to i}, over the number of units. A group
    counts as 0 in the map up to ``attribution_eps`` times the root mean square of the sample's groups, and as 0 in the
    model up to an absolute ``output_eps`` of the score, for the root mean square over ``samples`` draws of a random
    baseline (the paper resamples: ``train_sample``); any other baseline has one. With both at 0 the sets are the
    paper's, save that changes within single precision's rounding are none. In [0, 1], lower is better. It is blind to
    signs, and thresholds have scales: compare at equal ones. NotApplicable with a single unit.
    """
    for name, value in (("attribution_eps", attribution_eps), ("output_eps", output_eps)):
        if not value >= 0:
            raise UserError(f"{name} is {value}, expected at least 0")
    found, reaction = root_mean_square_changes(
        batch.samples, granularity, patch, segments, groups, baseline, samples, score
    )
    sums, total = found.sums(batch.attributions), found.totals
    typical = (sums.square().sum(1) / total).sqrt()
    silent = sums.abs() <= attribution_eps * typical[:, None]
    differ = (silent != (reaction <= output_eps)) & found.present
    undefined = (reaction.isnan() & found.present).any(1)
    values = (differ.sum(1) / total.double()).masked_fill(undefined, float("nan"))
    return with_reason(values, "the output without a unit is not a number")


def root_mean_square_changes(
    samples: Samples,
    granularity: str,
    patch: int,
    segments: str | Tensor,
    most: int,
    baseline: str | Tensor,
    draws: int,
    score: str,
) -> tuple[Groups, Tensor]:
    """The chosen groups, and by how much the score changes (N, G) where one is removed to a baseline's draws."""
    found, key = chosen_groups(samples, granularity, patch, segments, most)
    tracked = outputs_without_each(samples, found, key, baseline, draws)
    return found, changes(samples, tracked, score).square().mean(1).sqrt()


def deletion_correlation(
    samples: Samples, attributions: Tensor, segments: str | Tensor, baseline: str | Tensor, score: str
) -> Scores:
    """Spearman over segments deleted one at a time, of attributions (N, *units)."""
    found = groups(samples, "segment", patch=1, segments=segments)
    drops = changes(samples, outputs_without_each(samples, found, ("segment", segments), baseline)[:, 0], score)
    values = over_groups(spearman, found.sums(attributions), drops, found, samples.clean(score))
    return with_reason(values, REASON)


def _ranked(batch: Batch, most: int) -> Groups:
    """Disjoint groups of as equally many units as can be, in descending order of attribution, ties by lot."""
    units = groups(batch.samples, "unit", patch=1, segments="unit")
    count = units.sizes.shape[1]
    place = ranks(batch.attributions.flatten(1), batch.samples.stream("ties 0"))
    labels = (place * min(most, count) // count).view(-1, *batch.units.shape)
    return Groups(labels, segment_sizes(labels, min(most, count)).double(), batch.units.shape, alike=False)
