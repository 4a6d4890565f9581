"""Explainers from gradients at noisy copies of the input: their mean, their mean square, their variance."""

from dataclasses import dataclass

from torch import Tensor, nn

from harness.explainers._gradients import Build, summed_gradients, visit, zeros_to_sum
from harness.explainers._scales import scales
from harness.option_types import TRIED_NOISE, ChangeOfInput, ChangeOrNone, Count, Several
from harness.randomness import element, normal
from harness.registry import explainer
from harness.samples import Samples


@dataclass(frozen=True)
class NoisyCopies:
    """Options of the noisy copies of an input.

    samples   the number of copies of each input, one forward and one backward pass each
    noise     the standard deviation of the Gaussian noise, as a share of the input's own range (its largest value less
              its smallest); for a series of each channel's range; for a table of each column's standard deviation in
              the training inputs, so that the unit of a column does not matter (``harness.explainers._scales``)
    """

    samples: Count = 50
    noise: ChangeOrNone = 0.15


@dataclass(frozen=True)
class SeveralNoisyCopies(NoisyCopies):
    """The same where a single copy has no spread.

    samples   the number of copies, at least 2
    noise     as for ``NoisyCopies``, but not 0, with which all copies are the same
    """

    samples: Several = 50
    noise: ChangeOfInput = 0.15


COPIES, SEVERAL_COPIES = NoisyCopies(), SeveralNoisyCopies()

_GRADIENT_STATISTIC = {"convention": "local", "stochastic": True, "cost": "samples F samples B"}


@explainer(**_GRADIENT_STATISTIC, tunable={"samples": (200,), "noise": TRIED_NOISE})
def smoothgrad(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, copies: NoisyCopies = COPIES
) -> Tensor:
    """SmoothGrad: the signed gradient averaged over noisy copies of the input (Smilkov et al. 2017, 1706.03825).

    Inputs' shape; logit per unit of input. Noise is drawn from (seed, sample). Not applicable as ``gradient``.

    Example: the gradient of f(x) = 2 x1 - x2 is the same everywhere, so noise does not change it.

    >>> harness.explain("smoothgrad", linear, x, target)
    tensor([[ 2., -1.]])
    """
    return summed_gradients(model, context, targets, copies.samples, noisy(context, copies)) / copies.samples


@explainer(signed=False, **_GRADIENT_STATISTIC, tunable={"samples": (200,), "noise": TRIED_NOISE})
def smoothgrad_squared(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, copies: NoisyCopies = COPIES
) -> Tensor:
    """SmoothGrad-Squared: the squared gradient averaged over noisy copies of the input (SG-SQ of Hooker et al. 2018,
    1806.10758).

    Inputs' shape; at least 0; squared logit per squared unit of input, so that columns of different units cannot be
    compared (multiply by the squares of their spreads). The copies are those of ``smoothgrad``. Not
    applicable as ``gradient``.

    Example: the squares of the gradient (2, -1) of f(x) = 2 x1 - x2.

    >>> harness.explain("smoothgrad_squared", linear, x, target)
    tensor([[4., 1.]])
    """
    square = lambda sample, draw, gradients: gradients**2
    return summed_gradients(model, context, targets, copies.samples, noisy(context, copies), square) / copies.samples


@explainer(signed=False, **_GRADIENT_STATISTIC, tunable={"samples": (200,), "noise": TRIED_NOISE})
def vargrad(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, copies: SeveralNoisyCopies = SEVERAL_COPIES
) -> Tensor:
    """VarGrad: the variance of the gradient over noisy copies of the input (Adebayo et al. 2018, 1810.03292).

    Inputs' shape; at least 0; squared logit per squared unit of input; 0 where the model is linear. The mean squared
    deviation from the mean, over the same copies as ``smoothgrad``, of which it needs at least 2. Not applicable as
    ``gradient``.

    Example: the gradient of f(x) = x1 x2 is (x2, x1), so that its variance is that of the noise. At x = (1, 3) the
    noise has the standard deviation 0.15 (3 - 1) = 0.3, whose square is 0.09.

    >>> harness.explain("vargrad", product, x, target, samples=10_000).round(decimals=2)
    tensor([[0.0900, 0.0900]])
    """
    mean, deviations = zeros_to_sum(inputs), zeros_to_sum(inputs)

    def use(sample: Tensor, draw: Tensor, gradients: Tensor, logits: Tensor) -> None:
        # The mean and the sum of squared deviations of two sets joined (Chan et al. 1983): the difference of the mean
        # square and the squared mean would be lost in rounding.
        before, new = int(draw[0]), len(draw)
        gradients = gradients.to(mean)
        own = gradients.mean(1)
        gap = own - mean[sample]
        mean[sample] += gap * new / (before + new)
        deviations[sample] += ((gradients - own[:, None]) ** 2).sum(1) + gap**2 * before * new / (before + new)

    visit(model, context, targets, copies.samples, noisy(context, copies), use)
    return deviations / copies.samples


def noisy(context: Samples, copies: NoisyCopies, use: str = "smoothgrad noise") -> Build:
    """A function that builds the noisy copies of the inputs numbered by sample and draw.

    ``use`` names the stream of random numbers from which the noise is drawn.
    """
    inputs, keys = context.inputs, context.stream(use)
    if not copies.noise:
        return lambda sample, draw: inputs[sample]
    sigma = (copies.noise * scales(context)).expand_as(inputs)

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        return inputs[sample] + sigma[sample] * normal(element(keys[sample], draw), *inputs.shape[1:]).to(inputs)

    return build
