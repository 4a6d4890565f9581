"""Faithfulness by single removals: attributions against how the score changes when one group of units is removed.

A group's attribution is the sum over its units. Groups that do not depend on the attributions are the same for all
explainers: the model's outputs without them are made once, for all explainers and metrics. The options are those of
``harness.metrics._removal.SingleRemoval``.

In the examples f = 2 x_0 - x_1, and the baseline is 0.
"""

from harness.batch import Batch, Scores
from harness.metrics._groups import Grouping, Groups, make_groups
from harness.metrics._removal import (
    FLAT,
    RENAMED,
    RESAMPLING,
    RankedRemoval,
    SegmentDeletion,
    SingleRemoval,
    changes,
    chosen_grouping,
    deletion_correlation,
    outputs_without_each,
    over_groups,
    root_mean_square_changes,
    without_each,
)
from harness.metrics._similarity import pearson, with_reason
from harness.option_types import Count, NotNegative
from harness.ordering import ranks
from harness.registry import metric
from harness.units import segment_sizes


@metric(better="higher", unit="correlation", span=(-1, 1), chance=0, expects="contribution", renamed=RENAMED)
def faithfulness_estimate(batch: Batch, *, removal: RankedRemoval = RankedRemoval()) -> Scores:
    """Correlation of a unit's attribution and the drop of the score without it, over units removed one at a time
    (Alvarez-Melis and Jaakkola 2018, 1806.07538).

    Pearson correlation per sample between each group's summed attribution and f(x) - f(x without it). In [-1, 1],
    higher is better; for an additive model it is the correlation of attributions and contributions.
    ``granularity="ranked"`` takes disjoint groups of equally many units in the order of their attribution, at most
    ``most_groups`` of them, as Quantus does: these differ from explainer to explainer and share nothing. NaN where the
    drops, or the attributions, do not vary. NotApplicable for inputs of a single unit. Expects contributions; local
    maps, like gradients, are flagged.

    The drops are 2 and -1 for the first input and 4 and 0 for the second:

    >>> maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> scores = harness.score("faithfulness_estimate", linear, inputs, targets, maps, baseline="zero")
    >>> scores.round(decimals=4).tolist()
    [1.0, -1.0]
    """
    samples = batch.samples
    if removal.granularity == "ranked":
        groups = _ranked_groups(batch, removal.most_groups)
        key = ("without each", "ranked", removal.most_groups, removal.baseline)
        tracked = batch.remember(key, lambda: without_each(samples, groups, removal.baseline))
    else:
        grouping = chosen_grouping(samples, removal)
        groups = make_groups(samples, grouping)
        tracked = outputs_without_each(samples, groups, grouping.key, removal.baseline)
    drops = changes(samples, tracked[:, 0], removal.score)
    values = over_groups(pearson, groups.sums(batch.attributions), drops, groups, samples.clean(removal.score))
    return with_reason(values, FLAT)


@metric(better="higher", unit="correlation", span=(-1, 1), chance=0, expects="contribution")
def single_deletion(batch: Batch, *, deletion: SegmentDeletion = SegmentDeletion()) -> Scores:
    """Rank correlation of a patch's attribution and the drop of the score without it, over 16 patches deleted one at a
    time (Hesse et al. 2024, 2407.11910).

    Spearman correlation per sample between each patch's summed attribution and f(x) - f(x without it), ties at average
    ranks. In [-1, 1], higher is better. It is the paper's score without its fine-tuning: the model as it is may never
    have seen an input with a patch missing; ``idsds`` has that step. On a sequence there are 16 windows, on a table all
    columns; ``segments`` names other parts. NaN where the drops, or the attributions, do not vary. NotApplicable for a
    grid on a table, and where ``baseline`` has none of the data it needs. Expects contributions; local maps, like
    gradients, are flagged.

    The drops are 2 and -1 for the first input and 4 and 0 for the second:

    >>> maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> harness.score("single_deletion", linear, inputs, targets, maps, baseline="zero").round(decimals=4).tolist()
    [1.0, -1.0]
    """
    return deletion_correlation(batch.samples, batch.attributions, deletion)


@metric(better="lower", unit="share", span=(0, 1), kind="axiom", renamed={**RENAMED, "samples": "draws"})
def non_sensitivity(
    batch: Batch,
    *,
    attribution_eps: NotNegative = 1e-3,
    output_eps: NotNegative = 1e-4,
    draws: Count = 100,
    removal: SingleRemoval = RESAMPLING,
) -> Scores:
    """Share of units that have no effect according to either the map or the model, but not both (Nguyen and Martinez
    2020, 2007.07584).

    The size of the paper's symmetric difference of {i: a_i = 0} and {i: f does not react to i}, over the number of
    units. A group counts as 0 in the map up to ``attribution_eps`` times the root mean square of the sample's groups.
    It counts as 0 in the model if the score changes by at most an absolute ``output_eps`` when the group is resampled,
    taken as the root mean square over ``draws`` draws from the training inputs, or without them from the data's range
    of values (``resampled``). ``baseline`` names another distribution. A fixed one, such as ``zero``, has one draw, and
    calls a unit that has this value already one to which f does not react. With both thresholds at 0 the sets are the
    paper's, except that changes within single precision's rounding count as none. In [0, 1], lower is better. Signs do
    not matter, and thresholds have scales: compare scores at equal ones. By default it costs up to 64 groups x 100
    draws = 6,400 evaluations per sample, once for all explainers, which ``monotonicity_correlation`` shares. NaN where
    a sample has a single segment. NotApplicable for inputs of a single unit, and for a table with neither training
    inputs nor a declared range.

    The gradient of f says that f reacts to both units, gradient times input not to the second unit of (2, 0), which is
    0 itself:

    >>> for maps in (linear.weight.expand(2, 2), inputs * linear.weight):
    ...     harness.score("non_sensitivity", linear, inputs, targets, maps, value_range=(0.0, 3.0)).tolist()
    [0.0, 0.0]
    [0.0, 0.5]
    """
    groups, reaction = root_mean_square_changes(batch.samples, removal, draws)
    sums, total = groups.sums(batch.attributions), groups.totals
    typical = (sums.square().sum(1) / total).sqrt()
    silent = sums.abs() <= attribution_eps * typical[:, None]
    differ = (silent != (reaction <= output_eps)) & groups.present
    undefined = (reaction.isnan() & groups.present).any(1) | (total < 2)
    values = (differ.sum(1) / total.double()).masked_fill(undefined, float("nan"))
    return with_reason(values, "the sample has a single segment, or the output without a unit is not a number")


def _ranked_groups(batch: Batch, most: int) -> Groups:
    """Disjoint groups of equally many units, as far as possible, in descending order of attribution, ties at random."""
    count = make_groups(batch.samples, Grouping()).sizes.shape[1]
    place = ranks(batch.attributions.flatten(1), batch.samples.stream("ties 0"))
    labels = (place * min(most, count) // count).view(-1, *batch.units.shape)
    return Groups(labels, segment_sizes(labels, min(most, count)).double(), batch.units.shape, False, False)
