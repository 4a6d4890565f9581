"""Explainers from the gradient of the target's logit at the input itself."""

from torch import Tensor, nn

from harness.explainers._gradients import gradients_at
from harness.registry import explainer
from harness.samples import Samples


@explainer(convention="local", cost="1 F 1 B")
def gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The gradient of the target's logit with respect to the input, signed (Simonyan et al. 2013, 1312.6034, without
    the absolute value).

    Inputs' shape; logit per unit of input. One forward and one backward pass. Not applicable to models through which
    no gradient reaches the input.

    Example: the gradient of f(x) = x1 x2 is (x2, x1), at x = (1, 3) it is (3, 1).

    >>> harness.explain("gradient", product, x, target)
    tensor([[3., 1.]])
    """
    return gradients_at(model, context, targets, inputs)


@explainer(convention="local", signed=False, cost="1 F 1 B")
def saliency(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The absolute value of the gradient of the target's logit (Simonyan et al. 2013, 1312.6034).

    Inputs' shape; at least 0; logit per unit of input. The paper takes the largest value over the channels of a pixel:
    the protocol's ``reduction=max_abs`` does that. Not applicable as ``gradient``.

    Example: the gradient of f(x) = 2 x1 - x2 is (2, -1).

    >>> harness.explain("saliency", linear, x, target)
    tensor([[2., 1.]])
    """
    return gradients_at(model, context, targets, inputs).abs()


@explainer(cost="1 F 1 B")
def input_x_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The input times the gradient of the target's logit (Shrikumar et al. 2016, 1605.01713).

    Inputs' shape; logit. It sums to f(x) only on piecewise linear models without biases. Not applicable as
    ``gradient``.

    Example: of f(x) = x1 x2 at x = (1, 3), whose gradient is (3, 1). The sum is 6, not f(x) = 3.

    >>> harness.explain("input_x_gradient", product, x, target)
    tensor([[3., 3.]])
    """
    return inputs * gradients_at(model, context, targets, inputs)
