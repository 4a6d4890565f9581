"""Controls: explainers that do not look at the model; one that scores no better than these has explained nothing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.option_types import Width
from harness.randomness import normal
from harness.registry import explainer
from harness.samples import Samples


@explainer(access="none", control=True, per_class=False, stochastic=True)
def random(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """Standard normal noise, one number per unit, drawn from (seed, sample): the score of guessing.

    One channel; no unit.

    Example: the numbers depend on the seed and the sample, not on the model.

    >>> (harness.explain("random", linear, x, target) == harness.explain("random", product, x, target)).all()
    tensor(True)
    >>> harness.explain("random", linear, x, target)
    tensor([[-2.7325,  0.1034]])
    """
    return context.units.as_map(normal(context.stream("random explainer"), *context.units.shape))


@explainer(
    access="none", control=True, per_class=False, stochastic=True, modalities=("image", "series", "tokens", "volume")
)
def blurred_random(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, width: Width = 1 / 16
) -> Tensor:
    """Standard normal noise smoothed by a Gaussian, drawn from (seed, sample): the score of guessing connected regions.

    One channel; no unit. The Gaussian's standard deviation is ``width`` times the shortest axis of the units. Its
    weights are scaled at every place, also near the edge, so that each number is standard normal.

    Example: with a width of many times the image's side, all pixels get almost the same number.

    >>> harness.explain("blurred_random", pooled, image, target, width=10.0).round(decimals=2)
    tensor([[[[2.2000, 2.2000],
              [2.2000, 2.2000]]]])
    """
    noise = normal(context.stream("blurred_random explainer"), *context.units.shape)
    sigma = width * min(noise.shape[1:])
    for length in noise.shape[1:]:  # an axis is contracted and comes back last: the axes keep their order
        noise = torch.tensordot(noise, _smoother(length, sigma).to(noise), ([1], [0]))
    return context.units.as_map(noise)


@explainer(access="none", control=True, per_class=False, signed=False, modalities=("image",))
def edge(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """An edge detector: the magnitude of the Sobel gradient of the mean over the channels (as in Adebayo et al. 2018,
    1810.03292).

    (N, 1, H, W); at least 0; in the input's unit, 8 for a slope of 1 per pixel. Beyond its edge the image is continued
    with its last value.

    Example: a step from 0 to 1, whose Sobel gradient is 4 on both sides of the step.

    >>> harness.explain("edge", pooled, torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]]), target)
    tensor([[[[0., 4., 4., 0.]]]])
    """
    grey = F.pad(inputs.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(inputs)
    return F.conv2d(grey, torch.stack([across, across.T])[:, None]).norm(dim=1, keepdim=True)


@explainer(access="none", control=True, per_class=False, signed=False, modalities=("image", "volume"))
def center(model: nn.Module, inputs: Tensor, targets: Tensor, *, width: Width = 0.25) -> Tensor:
    """A Gaussian around the middle of the image or volume: the score of knowing that objects are put there.

    (N, 1, H, W), of a volume (N, 1, D, H, W); in (0, 1]; no unit. Its standard deviation is ``width`` times the
    shortest side.

    Example: on 1 x 3 pixels a width of 1 is a deviation of 1 pixel, so that the outer pixels get exp(-1/2).

    >>> harness.explain("center", pooled, torch.zeros(1, 1, 1, 3), target, width=1.0)
    tensor([[[[0.6065, 1.0000, 0.6065]]]])
    """
    sigma = width * min(inputs.shape[2:])
    bell = torch.ones((), dtype=torch.float64)
    for length in inputs.shape[2:]:
        bell = bell[..., None] * _bell(torch.arange(length) - (length - 1) / 2, sigma)
    return bell.to(inputs).expand(len(inputs), 1, *bell.shape)


@explainer(access="none", control=True, per_class=False, signed=False)
def input_magnitude(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The distance of each unit from zero in the model's input space: the Euclidean norm over its channels.

    One channel; at least 0; in the input's unit. Zero is mean grey where inputs are normalised, black where they are
    not.

    Example: of the columns of a table it is the absolute value.

    >>> harness.explain("input_magnitude", linear, torch.tensor([[-1.0, 3.0]]), target)
    tensor([[1., 3.]])
    """
    axis = context.units.channel_axis
    return inputs.abs() if axis is None else inputs.norm(dim=axis, keepdim=True)


def _smoother(length: int, sigma: float) -> Tensor:
    """Gaussian weights (length, length), each column of Euclidean norm 1."""
    places = torch.arange(length, dtype=torch.float64)
    weights = _bell(places[:, None] - places, sigma)
    return weights / weights.norm(dim=0)


def _bell(distance: Tensor, sigma: float) -> Tensor:
    return torch.exp(-(distance.double() ** 2) / (2 * sigma**2))
