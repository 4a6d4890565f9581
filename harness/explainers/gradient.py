"""Explainers from the gradient of the target's logit with respect to the input."""

import torch
from torch import Tensor, nn

from harness.checks import class_count
from harness.errors import NotApplicable, unknown
from harness.explainers._coalitions import check_number
from harness.predictor import check_outputs
from harness.randomness import element, normal
from harness.registry import explainer
from harness.samples import Samples

# captum's own "riemann_trapezoid" is left out: its n weights sum to 1 - 1/n, so it misses a share 1/n of f(x) - f(r).
QUADRATURES = ("gausslegendre", "riemann_left", "riemann_middle", "riemann_right")

# Numbers in the inputs of one forward and backward pass, 27 images of 3 x 224 x 224: bounds the memory of its graph.
MOST_NUMBERS = 2**22


def output_count(model: nn.Module, context: Samples, /, **options: object) -> int:
    """How many outputs the model has; NotApplicable where no gradient of them reaches the input."""
    one = context.inputs[:1].clone().requires_grad_()
    with torch.enable_grad():
        outputs = check_outputs(model(one), 1)
        reached = outputs.requires_grad and torch.autograd.grad(outputs.sum(), one, allow_unused=True)[0] is not None
    if not reached:
        raise NotApplicable("no gradient of the model's output reaches its input")
    return class_count(outputs)


@explainer(convention="local", prepare=output_count)
def gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: int) -> Tensor:
    """The gradient of the target's logit with respect to the input, signed (Simonyan et al. 2013, 1312.6034, without
    abs).

    Inputs' shape; logit per unit of input. One forward and one backward pass. Not applicable to models through which
    no gradient reaches the input.
    """
    return _gradient(model, inputs, targets, prepared)


@explainer(convention="local", signed=False, prepare=output_count)
def saliency(model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: int) -> Tensor:
    """The absolute value of the gradient of the target's logit (Simonyan et al. 2013, 1312.6034).

    Inputs' shape, at least 0; logit per unit of input. The paper takes the largest over the channels of a pixel: that
    is the reduction ``max_abs`` of the protocol. Not applicable as ``gradient``.
    """
    return _gradient(model, inputs, targets, prepared).abs()


@explainer(prepare=output_count)
def input_x_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: int) -> Tensor:
    """The input times the gradient of the target's logit (Shrikumar et al. 2016, 1605.01713).

    Inputs' shape; logit. The sum is f(x) on piecewise linear models without biases only. Not applicable as
    ``gradient``.
    """
    return inputs.detach() * _gradient(model, inputs, targets, prepared)


@explainer(complete_to="baseline", prepare=output_count)
def integrated_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, prepared: int,
    steps: int = 50, baseline: str | Tensor = "zero", method: str = "gausslegendre",
) -> Tensor:  # fmt: skip
    """The gradient averaged along the straight line from a baseline to the input, times their difference (Sundararajan
    et al. 2017, 1703.01365).

    Inputs' shape; logit; the sum tends to f(x) - f(baseline) as ``steps`` grow. ``steps`` forward and backward passes
    at the nodes of ``method``: ``gausslegendre``, ``riemann_left``, ``riemann_middle`` or ``riemann_right``. A random
    baseline is its draw 0. Not applicable as ``gradient``.
    """
    if method not in QUADRATURES:
        raise unknown("method", method, QUADRATURES)
    check_number("steps", steps, 1 if method == "gausslegendre" else 2)
    from captum.attr import IntegratedGradients  # half a second that listing the explainers need not take

    return IntegratedGradients(model).attribute(
        inputs, context.baseline(baseline), target=_column(targets, prepared), n_steps=steps, method=method,
        internal_batch_size=max(len(inputs), _rows_at_once(context)),
    )  # fmt: skip


@explainer(convention="local", stochastic=True, prepare=output_count)
def smoothgrad(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, prepared: int,
    samples: int = 50, noise: float = 0.15,
) -> Tensor:  # fmt: skip
    """The signed gradient averaged over noisy copies of the input (Smilkov et al. 2017, 1706.03825).

    Inputs' shape; logit per unit of input. ``samples`` copies, each with Gaussian noise of standard deviation ``noise``
    times (largest - smallest value of the sample). Not applicable as ``gradient``.
    """
    check_number("samples", samples, 1)
    check_number("noise", noise, 0, whole=False)
    flat = inputs.flatten(1)
    sigma = (noise * (flat.amax(1) - flat.amin(1))).view(-1, *[1] * inputs.dim())
    keys, total = context.stream("smoothgrad noise"), torch.zeros_like(inputs)
    for draws in torch.arange(samples, device=inputs.device).split(max(1, _rows_at_once(context) // len(inputs))):
        shape = (len(inputs), len(draws), *inputs.shape[1:])
        noisy = inputs[:, None] + sigma * normal(element(keys[:, None], draws).flatten(), *inputs.shape[1:]).view(
            shape
        ).to(inputs)
        several = targets.repeat_interleave(len(draws))
        total += _gradient(model, noisy.flatten(0, 1).to(inputs), several, prepared).view(shape).sum(1)
    return total / samples


def _gradient(model: nn.Module, inputs: Tensor, targets: Tensor, outputs: int) -> Tensor:
    from captum.attr import Saliency

    return Saliency(model).attribute(inputs.requires_grad_(), target=_column(targets, outputs), abs=False)


def _column(targets: Tensor, outputs: int) -> Tensor | None:
    """What captum calls the target: the class of each sample, or None where the model has a single output."""
    return None if outputs == 1 else targets


def _rows_at_once(context: Samples) -> int:
    """Rows of one forward and backward pass: the tuned size of forward passes, less where the graph would be large."""
    return max(1, min(context.predictor.chunk, MOST_NUMBERS // context.inputs[0].numel()))
