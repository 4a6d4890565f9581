"""The oracle: the attribution that is known to be right, on data into which the truth was planted."""

from torch import Tensor, nn

from harness.metrics._truth import truth_of_targets
from harness.registry import explainer
from harness.samples import Samples


@explainer(access="none", stored=True)
def oracle(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The known right attribution of each sample, as the data set states it: the best that can be given, a yardstick
    for explainers and a test of metrics.

    One channel; sign, unit and sum are the truth's own, as the data set documents them. The truth is that of the
    sample's label: where a model of several classes is explained for another one, nothing is known, and the sample's
    attribution is NaN, which counts as invalid. NotApplicable where the data says no truth, and to metrics that explain
    again: of changed inputs, other classes and other weights nothing is known.
    """
    return truth_of_targets(context).to(inputs.dtype)
