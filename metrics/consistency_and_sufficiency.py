"""Consistency and sufficiency of explanations as statements about predictions (Dasgupta et al. 2022, 2202.00734).

An explanation says which few parts of the input matter: it is the set of the parts of highest attribution. Parts are
the columns of a table, and cells of a regular grid of other inputs, so that explanations can be equal. The paper draws
the other inputs from the distribution of the data; here they are training inputs, explained for the class that the
model predicts for them. So a score does not depend on which samples are scored together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._groups import Grouping, Groups, make_groups
from harness.metrics._outputs import (
    all_outputs,
    is_predicted,
    output_count,
    predicted_class,
    predicted_for_training,
)
from harness.metrics._similarity import with_reason
from harness.option_types import Count, NotNegative, Several, SomeShare
from harness.ordering import ranks, tied_share
from harness.predictor import UNDECIDED
from harness.randomness import permutations, stream
from harness.registry import metric
from harness.samples import Samples

AT_ONCE = 2**24  # numbers that are compared at a time, which bounds the memory


@dataclass(frozen=True)
class TopParts:
    """Options of metrics that read an explanation as the set of its most important parts.

    top_share     size of the set, as a share of the parts, rounded, and at least 1
    most_groups   the largest number of parts of an image, a sequence or a volume; each column of a table is a part
    rows          the most training inputs that are used; where there are more, the seed draws which
    """

    top_share: SomeShare = 0.1
    most_groups: Several = 16
    rows: Count = 1000

    def parts(self, samples: Samples) -> Groups:
        """The parts of samples, the same for all of them."""
        if samples.ragged:
            raise NotApplicable("compares parts of inputs, which differ in their number of units here")
        return make_groups(samples, Grouping("segment", segments=f"parts:{self.most_groups}"))

    def of(self, maps: Tensor, samples: Samples) -> Tensor:
        """The sets (N, G) bool of maps (N, *units), ties at random."""
        values = self.sums(maps, samples)
        size = max(1, round(self.top_share * values.shape[1]))
        return ranks(values, samples.stream("ties 0")) < size

    def sums(self, maps: Tensor, samples: Samples) -> Tensor:
        """The attributions (N, G) of the parts, float64, by which maps (N, *units) rank them."""
        return self.parts(samples).sums(maps)


@metric(better="higher", unit="share", span=(0, 1), needs=("explainer", "train"))
def explanation_consistency(batch: Batch, *, top: TopParts = TopParts(rows=100)) -> Scores:
    """Share of the inputs with the same explanation that have the same prediction (consistency: Dasgupta et al. 2022,
    2202.00734).

    Pr[f(x') = f(x) | e(x') = e(x)] over training inputs x', where e is the set of the ``top_share`` parts of highest
    attribution and f the predicted class. In [0, 1], higher is better; compare it with the share of the class, which is
    its value for an explanation that is the same for all inputs. The paper's value is the mean over inputs. Slow: every
    explainer explains ``rows`` training inputs beside the samples, once for all of them, which takes minutes to hours
    for explainers of thousands of evaluations per input. NaN where no training input has the same explanation; where
    that is often so, raise ``rows`` or lower ``top_share`` and ``most_groups``. NotApplicable without training inputs,
    for attributions given without their explainer, for models without classes, and for inputs that differ in their
    number of units.

    Class 1 is where x_0 is above 0. A map that is x_0 there and 0 elsewhere has another top column for each class, and
    one that is the same for all inputs tells nothing:

    >>> train = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, 2.0], [-1.0, 2.0]])
    >>> signs = lambda model, inputs, targets: torch.stack([inputs[:, 0], inputs[:, 0] * 0], 1)
    >>> flat = lambda model, inputs, targets: torch.tensor([[1.0, 0.0]]).expand(len(inputs), 2)
    >>> given = classes, train[:2], torch.tensor([1, 0])
    >>> maps = [by(*given) for by in (signs, flat)]
    >>> harness.score("explanation_consistency", *given, maps[0], explainer=signs, train=train).tolist()
    [1.0, 1.0]
    >>> harness.score("explanation_consistency", *given, maps[1], explainer=flat, train=train).tolist()
    [0.5, 0.5]
    """
    others = _training_samples(batch, top.rows)
    sets = batch.for_explainer(("top parts", top), lambda: top.of(batch.reduced(batch.explain(others)), others))
    own = top.of(batch.attributions, batch.samples)
    common = own.to(torch.float32) @ sets.to(torch.float32).T  # sets of one size are equal if they share all
    values = _share_of_same_class(batch, others, common == own.sum(1, keepdim=True))
    tied = tied_share(top.sums(batch.attributions, batch.samples))
    return with_reason(values, "no training input has the same explanation", tied=tied)


@metric(better="higher", unit="share", span=(0, 1), needs=("train",))
def explanation_sufficiency(batch: Batch, *, top: TopParts = TopParts(), closeness: NotNegative = 0.5) -> Scores:
    """Share of the inputs to which the explanation applies that have the same prediction (sufficiency: Dasgupta et al.
    2022, 2202.00734).

    Pr[f(x') = f(x) | x' in C(e(x))] over training inputs x'. The explanation e(x) is the set of the ``top_share`` parts
    of highest attribution; it applies to the inputs that agree with x in these parts, as a highlighted word applies to
    the texts that contain it. Numbers agree if they differ by at most ``closeness`` standard deviations of the training
    inputs; the paper's are discrete, which is ``closeness=0``. Of an image, a sequence or a volume the numbers of a
    part are its means per channel. In [0, 1], higher is better; f is the predicted class. The paper's value is the mean
    over inputs. NaN where the explanation applies to no training input. NotApplicable without training inputs, for
    models without classes, and for inputs that differ in their number of units.

    Class 1 is where x_0 is above 0, so that it suffices to know x_0, but not x_1:

    >>> train = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, 2.0], [-1.0, 2.0]])
    >>> given = classes, train[:1].expand(2, 2), torch.tensor([1, 1])
    >>> maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> harness.score("explanation_sufficiency", *given, maps, train=train).tolist()
    [1.0, 0.5]
    """
    samples, others = batch.samples, _training_samples(batch, top.rows)
    own = top.of(batch.attributions, samples)
    (values, part), (known, _) = (_numbers_of_parts(each, top.parts(each)) for each in (samples, others))
    applies = _agreeing(values, known, own[:, part], closeness)
    reason = "the explanation applies to no training input"
    scores = _share_of_same_class(batch, others, applies)
    return with_reason(scores, reason, tied=tied_share(top.sums(batch.attributions, samples)))


def _numbers_of_parts(samples: Samples, parts: Groups) -> tuple[Tensor, Tensor]:
    """What inputs are compared by (N, K) float64, and the part (K,) of each number.

    The numbers of a table's columns, and of other inputs each part's mean per channel.
    """
    units, inputs = samples.units, samples.inputs.double()
    if units.modality == "table":
        columns = torch.arange(units.count, device=inputs.device).view(1, *units.shape)
        return inputs.flatten(1), units.expand(columns).expand_as(inputs[:1]).flatten()
    channels = [inputs] if units.channel_axis is None else inputs.unbind(units.channel_axis)
    means = torch.stack([parts.sums(channel) / parts.sizes for channel in channels], 2)
    return means.flatten(1), torch.arange(means.shape[1], device=inputs.device).repeat_interleave(len(channels))


def _agreeing(inputs: Tensor, train: Tensor, chosen: Tensor, closeness: float) -> Tensor:
    """Which training inputs (R, K) agree with inputs (N, K) in the chosen numbers (N, K): (N, R) bool."""
    reach = closeness * train.std(0, correction=0)
    parts = []
    for rows in torch.arange(len(inputs), device=inputs.device).split(max(1, AT_ONCE // train.numel())):
        near = (train - inputs[rows, None]).abs() <= reach
        parts.append((near | ~chosen[rows, None]).all(2))
    return torch.cat(parts)


def _training_samples(batch: Batch, rows: int) -> Samples:
    """Training inputs as samples, at most ``rows``, each with the class that the model predicts for targets.

    Those for which it predicts none, since all outputs are the same, are left out.
    """
    samples = batch.samples
    if samples.train is None:
        raise NotApplicable("compares with training inputs; the data has none (give train=)")
    if not samples.task.classed or output_count(samples) < 2:
        raise NotApplicable("compares predicted classes, which this model does not have")
    return samples.for_block(("training inputs with predictions", rows), lambda: _with_predictions(samples, rows))


def _with_predictions(samples: Samples, rows: int) -> Samples:
    train = samples.train
    if len(train) > rows:
        key = stream(torch.zeros(1, dtype=torch.long), samples.seed, "training inputs to compare with")
        train = train[permutations(key, 1, len(train))[0, 0, :rows].sort().values.to(train.device)]
    inputs = train.to(samples.inputs)
    predicted = predicted_for_training(samples, inputs)
    known = predicted != UNDECIDED
    if not known.any():
        raise NotApplicable("the model decides for no class on any training input: its outputs are all the same")
    return samples.other_inputs(inputs[known], predicted[known])


def _share_of_same_class(batch: Batch, others: Samples, alike: Tensor) -> Tensor:
    """The share (N,) of the training inputs that are ``alike`` (N, R) whose predicted class is that of the sample."""
    same = is_predicted(predicted_class(all_outputs(batch.samples))[:, None], others.targets)
    return (alike * same).sum(1) / alike.sum(1)
