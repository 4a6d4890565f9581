"""Time series: how far the prediction moves, step by step, while points are removed, whichever way it moves.

The options are those of ``PointRemoval``. In the examples the two logits are f = 2 x_0 - x_1 and 0, and the baseline is
0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._outputs import all_outputs, noted_if_not_finite, outputs_of_draws
from harness.metrics._similarity import with_reason
from harness.option_types import Count, SomeShare
from harness.ordering import ranks, tied_share
from harness.registry import metric
from harness.removal.baselines import BaselineName

NOT_FINITE = "an output for a perturbed input is not finite"


@dataclass(frozen=True)
class PointRemoval:
    """Options of metrics that remove time steps one after the other.

    largest_share   how many are removed, as a share of the units, rounded, and at least 1
    steps           the most steps in which they are removed; where there are fewer units, one at a time
    baseline        what a removed unit becomes, as in ``harness.metrics._curve.Stepwise``: the paper takes zeros and
                    means, which do not say what a usual series would have had; ``train_sample`` is in the distribution
    """

    largest_share: SomeShare = 0.1
    steps: Count = 50
    baseline: BaselineName | Tensor = "typical"


@metric(
    better="higher",
    unit="probability",
    span=(0, None),
    curve_across="share removed, the most important first",
    curve_places=lambda options, count: [options["largest_share"] * (point + 1) / count for point in range(count)],
    curve_height="summed change of all probabilities",
)
def cumulative_prediction_difference(batch: Batch, *, removal: PointRemoval = PointRemoval()) -> Scores:
    """Sum of the changes of the prediction while the most important units are removed (CPD: Jang et al. 2025,
    2506.05035).

    sum over k of ||p(x_k) - p(x_k+1)||_1, where p are the probabilities of all classes and x_k is the input without the
    first k sets of units, in the order of |attribution|. A unit that speaks against the class counts as much as one
    that speaks for it; in an area under a curve of the class's score the two cancel. At least 0 and at most 2 for each
    step; higher is better. The authors' code removes single numbers, one at a time (``reduction=none`` makes each one a
    unit, enough ``steps`` remove them so), and reports the sums over all and over the first 50; compare scores at equal
    ``largest_share`` and ``steps`` only. Curves (N, steps) are the sums up to each step, of which the authors' code
    also has the area; it takes the mean over the classes where this takes the sum, the paper's L1 norm. NaN where an
    output is not finite. NotApplicable for models without probabilities.

    Without x_0 the probability of the first class falls from .73 to .27, and then without x_1 it rises to .5:

    >>> maps, options = inputs * logits.weight[0], {"largest_share": 1.0, "baseline": "zero"}
    >>> name = "cumulative_prediction_difference"
    >>> harness.score(name, logits, inputs[:1], targets[:1], maps[:1], **options).round(decimals=3).tolist()
    [1.386]
    """
    return _summed_changes(batch, removal, most_first=True)


@metric(
    better="lower",
    unit="probability",
    span=(0, None),
    curve_across="share removed, the least important first",
    curve_places=lambda options, count: [options["largest_share"] * (point + 1) / count for point in range(count)],
    curve_height="summed change of all probabilities",
)
def cumulative_prediction_preservation(batch: Batch, *, removal: PointRemoval = PointRemoval()) -> Scores:
    """Sum of the changes of the prediction while the least important units are removed (CPP: Jang et al. 2025,
    2506.05035).

    As ``cumulative_prediction_difference``, from the smallest |attribution| up; lower is better.

    x_1 alone matters less than x_0, so that the first step, which removes it, changes the prediction by little:

    >>> maps, options = inputs * logits.weight[0], {"largest_share": 0.5, "baseline": "zero"}
    >>> name = "cumulative_prediction_preservation"
    >>> harness.score(name, logits, inputs[:1], targets[:1], maps[:1], **options).round(decimals=3).tolist()
    [0.299]
    """
    return _summed_changes(batch, removal, most_first=False)


def _summed_changes(batch: Batch, removal: PointRemoval, most_first: bool) -> Scores:
    samples, count = batch.samples, batch.units.count
    samples.clean("probability")  # raises NotApplicable where there is none
    sizes = batch.attributions.flatten(1).abs()
    places = ranks(sizes if most_first else -sizes, samples.stream("ties 0"))
    most = max(1, round(removal.largest_share * count))
    # As many points for inputs of any size: where there are fewer units than steps, some steps remove none.
    removed = (torch.arange(1, removal.steps + 1, device=places.device) * most / removal.steps).round().long()
    distinct, point = removed.clamp(min=1).unique(return_inverse=True)
    intact = samples.task.probabilities(all_outputs(samples).double())[:, None]
    without = _without(batch, places, distinct, removal)[:, point]
    probabilities = torch.cat([intact, torch.where((removed > 0)[:, None], without, intact)], 1)
    curves = probabilities.diff(dim=1).abs().sum(2).cumsum(1)
    values = noted_if_not_finite(curves[:, -1])
    return with_reason(values, NOT_FINITE, curves=curves, tied=tied_share(sizes))


def _without(batch: Batch, places: Tensor, removed: Tensor, removal: PointRemoval) -> Tensor:
    """The probabilities (N, steps, classes) float64 without the ``removed`` (steps,) first units in the order."""
    samples = batch.samples
    remove, shape = samples.remover(removal.baseline), samples.units.shape
    without = lambda sample, step: remove(sample, (places[sample] >= removed[step, None]).view(-1, *shape))
    probabilities = lambda outputs, _: samples.task.probabilities(outputs.double())
    return outputs_of_draws(samples, len(removed), without, probabilities)
