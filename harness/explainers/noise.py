"""Explainers from the gradients at noisy copies of the input: their mean, their mean square, their variance."""

import torch
from torch import Tensor, nn

from harness.explainers._coalitions import check_number
from harness.explainers._gradients import Build, summed_gradients, visit
from harness.randomness import element, normal
from harness.registry import explainer
from harness.samples import Samples

COST = "samples F samples B"


@explainer(convention="local", stochastic=True, cost=COST)
def smoothgrad(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, samples: int = 50, noise: float = 0.15
) -> Tensor:
    """The signed gradient averaged over noisy copies of the input (Smilkov et al. 2017, 1706.03825).

    Inputs' shape; logit per unit of input. ``samples`` copies, each with Gaussian noise of standard deviation ``noise``
    times (largest - smallest value of the sample). Not applicable as ``gradient``.
    """
    return summed_gradients(model, context, targets, samples, noisy(context, samples, noise)) / samples


@explainer(convention="local", stochastic=True, signed=False, cost=COST)
def smoothgrad_squared(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, samples: int = 50, noise: float = 0.15
) -> Tensor:
    """The squared gradient averaged over noisy copies of the input (SG-SQ of Hooker et al. 2018, 1806.10758).

    Inputs' shape, at least 0; squared logit per squared unit of input. The same copies as ``smoothgrad``. Not
    applicable as ``gradient``.
    """
    build = noisy(context, samples, noise)
    return (
        summed_gradients(model, context, targets, samples, build, lambda sample, draw, gradients: gradients**2)
        / samples
    )


@explainer(convention="local", stochastic=True, signed=False, cost=COST)
def vargrad(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, samples: int = 50, noise: float = 0.15
) -> Tensor:
    """The variance of the gradient over noisy copies of the input (Adebayo et al. 2018, 1810.03292).

    Inputs' shape, at least 0; squared logit per squared unit of input; 0 where the model is linear. The mean squared
    deviation from the mean, over the same copies as ``smoothgrad``, at least 2. Not applicable as ``gradient``.
    """
    check_number("samples", samples, 2)
    mean, deviations = torch.zeros_like(inputs), torch.zeros_like(inputs)

    def use(sample: Tensor, draw: Tensor, gradients: Tensor, logits: Tensor) -> None:
        # Means and deviations of two sets joined (Chan et al. 1983): a difference of squares would drown in rounding.
        before, new = int(draw[0]), len(draw)
        own = gradients.mean(1)
        gap = own - mean[sample]
        mean[sample] += gap * new / (before + new)
        deviations[sample] += ((gradients - own[:, None]) ** 2).sum(1) + gap**2 * before * new / (before + new)

    visit(model, context, targets, samples, noisy(context, samples, noise), use)
    return deviations / samples


def noisy(context: Samples, samples: int, noise: float, use: str = "smoothgrad noise") -> Build:
    """Builds noisy copies of the inputs, with noise of ``noise`` times each sample's own range of values.

    ``use`` names the stream of random numbers it is drawn from.
    """
    check_number("samples", samples, 1)
    check_number("noise", noise, 0, whole=False)
    inputs, keys = context.inputs, context.stream(use)
    flat = inputs.flatten(1)
    sigma = (noise * (flat.amax(1) - flat.amin(1))).view(-1, *[1] * (inputs.dim() - 1))

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        if not noise:
            return inputs[sample]
        return inputs[sample] + sigma[sample] * normal(element(keys[sample], draw), *inputs.shape[1:]).to(inputs)

    return build
