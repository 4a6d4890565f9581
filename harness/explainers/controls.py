"""Controls: explainers that do not look at the model. An explainer that scores no better has shown nothing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError
from harness.randomness import normal
from harness.registry import explainer
from harness.samples import Samples


@explainer(access="none", control=True, stochastic=True)
def random(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """Standard normal noise, one number per unit, from (seed, sample): what guessing scores.

    One channel; no unit.
    """
    return context.units.as_map(normal(context.stream("random explainer"), *context.units.shape))


@explainer(access="none", control=True, stochastic=True, modalities=("image", "series", "tokens"))
def blurred_random(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, width: float = 1 / 16
) -> Tensor:
    """Standard normal noise smoothed by a Gaussian, from (seed, sample): what guessing connected regions scores.

    One channel; no unit. The Gaussian's standard deviation is ``width`` times the shortest axis of the units; its
    weights are scaled at every place, also near the edge, so that each number stays standard normal.
    """
    _check_width(width)
    noise = normal(context.stream("blurred_random explainer"), *context.units.shape)
    sigma = width * min(noise.shape[1:])
    for length in noise.shape[1:]:  # an axis is contracted and comes back last: the axes keep their order
        noise = torch.tensordot(noise, _smoother(length, sigma).to(noise), ([1], [0]))
    return context.units.as_map(noise)


@explainer(access="none", control=True, signed=False, modalities=("image",))
def edge(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The magnitude of the Sobel gradient of the mean over the channels: an edge detector (as in Adebayo et al. 2018,
    1810.03292).

    (N, 1, H, W), at least 0; the input's unit times 8 per pixel. Beyond the edge the image goes on with its last value.
    """
    grey = F.pad(inputs.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(inputs)
    return F.conv2d(grey, torch.stack([across, across.T])[:, None]).norm(dim=1, keepdim=True)


@explainer(access="none", control=True, signed=False, modalities=("image",))
def center(model: nn.Module, inputs: Tensor, targets: Tensor, *, width: float = 0.25) -> Tensor:
    """A Gaussian around the middle of the image: what knowing where photographers put objects scores.

    (N, 1, H, W), in (0, 1]; no unit. Its standard deviation is ``width`` times the shorter side.
    """
    _check_width(width)
    sigma = width * min(inputs.shape[2:])
    rows, columns = (_bell(torch.arange(length) - (length - 1) / 2, sigma) for length in inputs.shape[2:])
    return (rows[:, None] * columns).to(inputs).expand(len(inputs), 1, -1, -1)


@explainer(access="none", control=True, signed=False)
def input_magnitude(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The distance of each unit from zero in the model's input space: the Euclidean norm over its channels.

    One channel, at least 0; the input's unit. Zero is mean grey where inputs are normalised, black where they are not.
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


def _check_width(width: float) -> None:
    if not width > 0:
        raise UserError(f"width is {width}, expected a number above 0")
