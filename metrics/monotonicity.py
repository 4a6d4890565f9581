"""Two different scores called monotonicity. Both use the sizes of attributions and ignore their signs."""

from dataclasses import replace

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._curve import Curve, Removal, heights, rank
from harness.metrics._removal import RENAMED, RESAMPLING, SingleRemoval, over_groups, root_mean_square_changes
from harness.metrics._similarity import spearman, with_reason
from harness.option_types import Count, Share
from harness.registry import metric
from harness.task import Score


@metric(
    better="higher",
    unit=lambda options: "verdict" if options["verdict"] else "share",
    span=(0, 1),
    kind="check",
    renamed={"tolerance": "rounding"},
    curve_across="share inserted",
    curve_places=(0, 1),
    curve_height="{score}",
)
def monotonicity(
    batch: Batch,
    *,
    verdict: bool = False,
    rounding: Share = 1e-6,
    removal: Removal = Removal(),
    score: Score = "probability",
) -> Scores:
    """Share of steps at which the score does not fall while units are inserted, least important first (Arya et al.
    2019, 1909.03012).

    Starting from the baseline (draw 0 of a random one), units are inserted in increasing order of |a|, in ``steps``
    steps of at least one unit; a segment or patch is ranked by the mean of |a|, ties at random. The paper's answer is
    yes or no: ``verdict`` gives 1 where no step falls, else 0. A step falls if the score decreases by more than
    ``rounding`` times its largest absolute value on the way, which excludes rounding. The authors' toolbox AIX360
    inserts in the order of a with its sign, asks nothing of the first step, and has no tolerance.

    It is a check, by which explainers have no rank: of an additive model every order of single units has the same
    score, and a random order, in which the score rises bit by bit, can have a better one than a true map, which leaves
    what matters to the last steps. In [0, 1], higher is better; a score that never moves does not fall. For regression
    a step falls if it leads away from f(x), seen from f(baseline): neither direction is better for a number. Curves
    (N, K + 1) are the scores from the baseline to the input. NaN where the score is not a number, and where a sample
    has a single segment. NotApplicable as for ``deletion``.

    For f = 2 x_0 - x_1 the score goes 0, -1, 1 for the first input, which falls once, and 0, 0, 4 for the second:

    >>> maps = inputs * linear.weight[0]
    >>> harness.score("monotonicity", linear, inputs, targets, maps, baseline="zero", score="logit").tolist()
    [0.5, 1.0]
    """
    curve = Curve(**vars(removal))
    sizes = replace(batch, attributions=batch.attributions.abs(), own={})
    ranking = rank(sizes, curve)
    # To remove the largest first, read backwards, is to insert the smallest first.
    restored = batch.remember(("restored", curve, score), lambda: heights(sizes, curve, "morf", score).flip(1))
    ahead = 1.0 if batch.samples.task.classed else _sign(restored[:, -1:] - restored[:, :1])
    falls = ahead * restored.diff(dim=1) < -rounding * restored.abs().amax(1, keepdim=True)
    moves = ranking.counts.diff(dim=1).flip(1) > 0  # with fewer groups than steps, some steps insert nothing
    values = 1 - (falls & moves).sum(1) / moves.sum(1).double()
    values = (values == 1).double() if verdict else values
    undefined = ~restored.isfinite().all(1) | (ranking.totals < 2)
    reason = "the sample has a single segment, or the score is not a number"
    return with_reason(values.masked_fill(undefined, float("nan")), reason, curves=restored, tied=ranking.tied)


def _sign(differences: Tensor) -> Tensor:
    """1 or -1 for each difference; 1 for 0."""
    return torch.where(differences < 0, -1.0, 1.0)


@metric(better="higher", unit="correlation", span=(-1, 1), chance=0, renamed={**RENAMED, "samples": "draws"})
def monotonicity_correlation(batch: Batch, *, draws: Count = 100, removal: SingleRemoval = RESAMPLING) -> Scores:
    """Rank correlation of the attribution's magnitude and the squared change of the score when units are resampled
    (Nguyen and Martinez 2020, 2007.07584).

    Spearman correlation per sample over units between |a_i| and e_i = E[(f(x with x_i' for x_i) - f(x))^2], the mean
    over ``draws`` draws of x' from the training inputs, or without them from the data's range of values
    (``resampled``); ``baseline`` names another distribution, and one that is not random has a single draw. A group is
    resampled together, and its size is |sum of a|. The draws are those of ``non_sensitivity``, with which the model's
    outputs are shared. Ties take average ranks. In [-1, 1], higher is better; signs of attributions do not matter. NaN
    where e, or |a|, does not vary. NotApplicable for inputs of a single unit, and for a table with neither training
    inputs nor a declared range.

    For f = 2 x_0 - x_1, resampling x_0 changes f more, and only the second map says so:

    >>> maps, train = torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([[0.0, 0.0], [3.0, 3.0]])
    >>> scores = harness.score("monotonicity_correlation", linear, inputs, targets, maps, train=train)
    >>> scores.round(decimals=4).tolist()
    [-1.0, 1.0]
    """
    groups, reaction = root_mean_square_changes(batch.samples, removal, draws)
    sizes = groups.sums(batch.attributions).abs()
    # The root of e has the ranks of e, and is on the scale of the score, in which rounding is judged.
    values = over_groups(spearman, sizes, reaction, groups, batch.samples.clean(removal.score))
    return with_reason(values, "over the units the output's reaction or the attribution's size does not vary")
