"""The known right attributions of samples, as far as they are about the class that is explained."""

from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._outputs import output_count
from harness.metrics._similarity import with_reason
from harness.samples import Samples

NO_TRUTH = "the data has no truth: the right attributions are known for planted data only (give truth=)"
OTHER_CLASS = "another class than the label is explained, for which the truth is not known"


def truth_of_targets(samples: Samples) -> Tensor:
    """The right attribution (N, *units) float64 of each explained output; NaN where that is not the label's class.

    A model with a single output has only one to explain, whatever the labels are. NotApplicable where the data has no
    known right attributions.
    """
    if samples.truth is None:
        raise NotApplicable(NO_TRUTH)
    truth, labels = samples.truth.double(), samples.labels
    if labels is None or labels.is_floating_point() or bool((labels == samples.targets).all()):
        return truth
    if output_count(samples) == 1:
        return truth
    other = (labels != samples.targets).view(-1, *[1] * (truth.dim() - 1))
    return truth.masked_fill(other, float("nan"))


def maps_and_truth(batch: Batch) -> tuple[Tensor, Tensor]:
    """Attributions and truth (N, d), float64; NotApplicable where the truth is of other units."""
    truth = truth_of_targets(batch.samples)
    if truth.shape != batch.attributions.shape:
        came = tuple(batch.attributions.shape[1:])
        raise NotApplicable(f"the truth is one number for each of {tuple(truth.shape[1:])} units, these are {came}")
    return batch.attributions.flatten(1).double(), truth.flatten(1)


def truth_scores(values: Tensor, reason: str, **rest: Tensor) -> Scores:
    """Scores with the reason for values that are NaN, which may also be that another class is explained."""
    return with_reason(values, f"{reason}; or {OTHER_CLASS}", **rest)
