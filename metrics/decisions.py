"""What the most important units do to the model's decision, not to its score: the class that it predicts.

The options are the baseline that a removed unit becomes, and what each metric names. Units of equal attribution are
ordered at random.

In the examples class 1 is where x_0 is above 0.
"""

from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._outputs import decisions_of, is_predicted
from harness.metrics._percents import rounded_up
from harness.metrics._similarity import with_reason
from harness.metrics._smallest_number import smallest_number
from harness.option_types import Several, SomeShare
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.samples import Samples

OTHER = "another class is predicted than the explained one"


@metric(better="lower", unit="share", span=(0, 1))
def minimal_subset(
    batch: Batch,
    *,
    subset: Literal["necessary", "sufficient"] = "sufficient",
    steps: Several = 16,
    baseline: BaselineName | Tensor = "typical",
) -> Scores:
    """Smallest share of the units, most important first, that decides the prediction (smallest sufficient and smallest
    destroying region: Dabkowski and Gal 2017, 1705.07857).

    ``subset="sufficient"``: the smallest k for which an input of the top k units alone, with all others removed, is
    predicted as the explained class; 0 if the baseline is predicted as that class. ``"necessary"``: the smallest k for
    which the input without its top k units is not predicted as it. The score is k as a share of the units, in [0, 1];
    lower is better. Numbers 1, 2, 4, ... and ``steps`` evenly spaced ones are tried first, then ``steps`` between the
    first that decides and the number before it, and so on down to single units. If every number above one that decides
    decides too, this finds the smallest k; otherwise it finds a k that decides while k - 1 does not.

    NaN where the input itself is not predicted as the explained class, where an output that decides is not a number
    and, for ``necessary``, where the baseline is predicted as that class. NotApplicable to models that do not choose
    one of several classes; ValueError unless ``steps`` is at least 2.

    Alone, x_0 keeps class 1; the second map has x_1 first:

    >>> points, maps = torch.tensor([[2.0, 5.0]]).expand(2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> same = points, torch.tensor([1, 1]), maps
    >>> harness.score("minimal_subset", classes, *same, baseline=torch.tensor([-1.0, 0.0])).tolist()
    [0.5, 1.0]
    """
    samples, count = batch.samples, batch.units.count
    values = batch.attributions.flatten(1)
    place = ranks(values, samples.stream("ties 0")).view(-1, *batch.units.shape)
    keeps = subset == "sufficient"
    every = torch.arange(len(samples), device=place.device)
    own, empty = _is_class_itself(samples), _is_class_when_empty(samples, baseline)
    searched = (own == 1) & (empty == 0)
    shares = torch.full((len(samples),), float("nan"), dtype=torch.float64, device=place.device)
    decides = lambda sample, k: _decides(samples, place, sample, k, keeps, baseline)
    # Powers of two find small subsets in few trials; even steps cover the rest.
    powers, even = {2**power for power in range(count.bit_length())}, {-(-k * count // steps) for k in range(1, steps)}
    found = smallest_number(every[searched], count, steps, decides, samples.predictor.chunk, powers | even)
    shares[searched] = found / count
    if keeps:
        shares[(own == 1) & (empty == 1)] = 0
    return with_reason(shares, OTHER if keeps else f"{OTHER}, or the baseline is of it too", tied=tied_share(values))


@metric(better="higher", unit="share", span=(0, 1))
def impact_score(
    batch: Batch,
    *,
    top_share: SomeShare = 0.1,
    lost_share: SomeShare = 0.5,
    baseline: BaselineName | Tensor = "typical",
) -> Scores:
    """Whether the removal of the most important units changes the decision or takes much of its confidence (impact
    score: Lin et al. 2019, 1910.07387).

    1 where, without the top ``top_share`` of the units (rounded up), another class is predicted or the probability of
    the explained class is at most 1 - ``lost_share`` times what it was, else 0; the mean over samples is the paper's
    share of samples with an impact. ``lost_share=1`` counts changed decisions alone (the paper's strict score). Higher
    is better. The paper's second figure is ``impact_coverage``.
    NaN where the input itself is not predicted as the explained class, and where an output without the units is not a
    number. NotApplicable to models that do not choose one of several classes; ValueError unless 0 < top_share <= 1 and
    0 < lost_share <= 1.

    >>> points, maps = torch.tensor([[2.0, 5.0]]).expand(2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> data = harness.Data(points, torch.tensor([1, 1]), task="classes")
    >>> harness.score("impact_score", classes, data, maps, top_share=0.5, baseline=torch.tensor([-1.0, 0.0])).tolist()
    [1.0, 0.0]
    """
    samples, values = batch.samples, batch.attributions.flatten(1)
    place = ranks(values, samples.stream("ties 0")).view(-1, *batch.units.shape)
    every, top = torch.arange(len(samples), device=place.device), rounded_up(top_share, batch.units.count)
    without = samples.remover(baseline)(every, place >= top)
    lost = 1 - is_predicted(decisions_of(samples, every, lambda rows: without[rows]), samples.targets)
    if lost_share < 1:
        after = pick(samples.track(1, lambda sample, _: without[sample])[:, 0], "probability").double()
        least = (1 - lost_share) * samples.clean("probability").double()
        # The larger one is NaN where either is: a probability that is not a number is not small.
        lost = torch.maximum(lost, (after <= least).double().masked_fill(after.isnan(), float("nan")))
    return with_reason(lost.where(_is_class_itself(samples) == 1, float("nan")), OTHER, tied=tied_share(values))


def _is_class_itself(samples: Samples) -> Tensor:
    """Whether the samples are predicted as the explained class (N,): 1, 0 or NaN."""
    every = torch.arange(len(samples), device=samples.inputs.device)
    predict = lambda: decisions_of(samples, every, lambda rows: samples.inputs[rows])
    return is_predicted(samples.shared("predicted", predict), samples.targets)


def _is_class_when_empty(samples: Samples, baseline: str | Tensor) -> Tensor:
    """Whether the baseline is predicted as the explained class (N,): 1, 0 or NaN."""
    every, remove = torch.arange(len(samples), device=samples.inputs.device), samples.remover(baseline)
    nothing = lambda rows: samples.inputs.new_zeros(len(rows), *samples.units.shape, dtype=torch.bool)
    predict = lambda: decisions_of(samples, every, lambda rows: remove(rows, nothing(rows)))
    return is_predicted(samples.shared(("predicted when empty", baseline), predict), samples.targets)


def _decides(samples: Samples, place: Tensor, sample: Tensor, k: Tensor, keeps: bool, baseline: str | Tensor) -> Tensor:
    """Whether the top k units (rows,) of samples (rows,) keep the class alone or, if not ``keeps``, removed lose it: 1,
    0 or NaN.
    """
    remove = samples.remover(baseline)

    def build(rows: Tensor) -> Tensor:
        top = place[sample[rows]] < k[rows].view(-1, *[1] * (place.dim() - 1))
        return remove(sample[rows], top if keeps else ~top)

    kept = is_predicted(decisions_of(samples, sample, build), samples.targets[sample])
    return kept if keeps else 1 - kept
