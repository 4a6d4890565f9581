"""The oracle: the attribution that is known to be right, on data that was made with a known truth."""

from torch import Tensor, nn

from harness.metrics._truth import truth_of_targets
from harness.registry import explainer
from harness.samples import Samples


@explainer(access="none", stored=True)
def oracle(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The known right attribution of each sample, as the data set states it: the best that an explainer can give, to
    compare explainers with and to test metrics.

    One channel; sign, unit and sum are the truth's own, as the data set documents them. The truth is that of the
    sample's label. Where a model of several classes is explained for another class, nothing is known, and the sample's
    attribution is NaN, which counts as invalid. NotApplicable where the data has no truth, and to metrics that explain
    again: nothing is known of changed inputs, other classes or other weights.

    Example: the truth that is handed in.

    >>> harness.explain("oracle", linear, harness.Data(x, target, truth=torch.tensor([[2.0, -3.0]])))
    tensor([[ 2., -3.]])
    """
    return truth_of_targets(context).to(inputs.dtype)
