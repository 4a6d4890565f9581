"""The known right attributions of samples, where they are those of what is explained."""

import torch
from torch import Tensor

from harness.checks import class_count
from harness.errors import NotApplicable
from harness.samples import Samples

NO_TRUTH = "the data says no truth: which attribution is right is known of planted data alone (give truth=)"
OTHER_CLASS = "another class than the label is explained, of which the truth is not known"


def truth_of_targets(samples: Samples) -> Tensor:
    """The truth (N, *units) float64 of each explained output; NaN where that is of another class than the label.

    A model with a single output has one thing to explain, whatever the labels are. NotApplicable where the data says no
    truth.
    """
    if samples.truth is None:
        raise NotApplicable(NO_TRUTH)
    truth, labels = samples.truth.double(), samples.labels
    if labels is None or labels.is_floating_point() or bool((labels == samples.targets).all()):
        return truth
    if samples.for_block("count of outputs", lambda: _outputs(samples)) == 1:
        return truth
    other = (labels != samples.targets).view(-1, *[1] * (truth.dim() - 1))
    return truth.masked_fill(other, float("nan"))


def _outputs(samples: Samples) -> int:
    with torch.no_grad():
        return class_count(samples.predictor.logits(samples.inputs[:1]))
