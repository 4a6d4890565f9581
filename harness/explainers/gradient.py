"""Explainers from the gradient of the target's logit at the input itself."""

from torch import Tensor, nn

from harness.explainers._gradients import gradients_at
from harness.registry import explainer
from harness.samples import Samples


@explainer(convention="local", cost="1 F 1 B")
def gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The gradient of the target's logit with respect to the input, signed (Simonyan et al. 2013, 1312.6034, without
    abs).

    Inputs' shape; logit per unit of input. One forward and one backward pass. Not applicable to models through which
    no gradient reaches the input.
    """
    return gradients_at(model, context, targets, inputs)


@explainer(convention="local", signed=False, cost="1 F 1 B")
def saliency(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The absolute value of the gradient of the target's logit (Simonyan et al. 2013, 1312.6034).

    Inputs' shape, at least 0; logit per unit of input. The paper takes the largest over the channels of a pixel: that
    is the reduction ``max_abs`` of the protocol. Not applicable as ``gradient``.
    """
    return gradients_at(model, context, targets, inputs).abs()


@explainer(cost="1 F 1 B")
def input_x_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The input times the gradient of the target's logit (Shrikumar et al. 2016, 1605.01713).

    Inputs' shape; logit. The sum is f(x) on piecewise linear models without biases only. Not applicable as
    ``gradient``.
    """
    return inputs * gradients_at(model, context, targets, inputs)
