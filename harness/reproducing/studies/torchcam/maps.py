"""Class activation maps as torch-cam computes them, and what a net says of an image multiplied by its map.

A map is made on the grid of one layer, scaled there to 0..1, and only then enlarged linearly to the image. The gradient
is that of the probability, because torch-cam's metric hands its explainers the outputs of the softmax. Smooth
Grad-CAM++ alone runs the net itself and takes the logit.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.explainers._at_layer import forward_hook

EPSILON = 1e-8  # in torch-cam's scaling, and in the denominators of Grad-CAM++
EPSILON_OF_DROP = 1e-7
NOISY_COPIES, NOISE = 4, 0.3  # of Smooth Grad-CAM++, in the space of the inputs
GRAD_CAM, GRAD_CAM_PP, SMOOTH, LAYER_CAM = METHODS_OF_TOOL = ("Grad-CAM", "Grad-CAM++", "Smooth Grad-CAM++", "LayerCAM")
PLAIN_GRAD_CAM, PLAIN_PP, PLAIN_LAYER_CAM = FROM_LOGITS = (
    "Grad-CAM, logit",
    "Grad-CAM++, logit",
    "LayerCAM, logit",
)
RANDOM_MAP, ONES, EDGE_MAP, CENTER_MAP, BLURRED_MAP = CONTROL_MAPS = (
    "random",
    "ones",
    "edge",
    "center",
    "blurred random",
)
ALL_MAPS = (*METHODS_OF_TOOL, *FROM_LOGITS, *CONTROL_MAPS)


def layer_and_gradient(
    net: nn.Module, layer: str, inputs: Tensor, targets: Tensor, *, probability: bool
) -> tuple[Tensor, Tensor]:
    """Activations of a layer and the gradient of the targets' probabilities, or logits, there: both (N, C, h, w)."""
    kept: list[Tensor] = []
    with torch.enable_grad(), forward_hook(net.get_submodule(layer), lambda *call: kept.append(call[2])):
        outputs = net(inputs.detach().requires_grad_())
        scores = outputs.softmax(1) if probability else outputs
        (gradient,) = torch.autograd.grad(scores.gather(1, targets[:, None]).sum(), kept[0])
    return kept[0].detach(), gradient


def grad_cam_on_grid(values: Tensor, gradients: Tensor) -> Tensor:
    """The map (N, h, w) of Grad-CAM, rectified."""
    return (gradients.mean((2, 3), keepdim=True) * values).sum(1).relu()


def layer_cam_on_grid(values: Tensor, gradients: Tensor) -> Tensor:
    """The map (N, h, w) of LayerCAM, rectified."""
    return (gradients.relu() * values).sum(1).relu()


def grad_cam_pp_on_grid(values: Tensor, gradients: Tensor, epsilon: float = EPSILON) -> Tensor:
    """The map (N, h, w) of Grad-CAM++ with ``epsilon`` in the denominator, rectified.

    torch-cam multiplies the activations by the third powers of the gradients place by place; the paper takes the third
    power at the place whose weight it is. Both are the same where gradients are the same at all places of a channel.
    """
    second, third = gradients**2, gradients**3
    return _map_of_powers(values, second, third, gradients, epsilon)


def smooth_cam_on_grid(
    net: nn.Module, layer: str, inputs: Tensor, targets: Tensor, values: Tensor, noise: Callable[[int], Tensor]
) -> Tensor:
    """The map (N, h, w) of Smooth Grad-CAM++: second and third powers are means over noisy copies; the first is that of
    the last copy, as in torch-cam. ``noise`` gives for a copy what is added to the inputs."""
    second, third, last = torch.zeros_like(values), torch.zeros_like(values), torch.zeros_like(values)
    for copy in range(NOISY_COPIES):
        _, last = layer_and_gradient(net, layer, inputs + noise(copy), targets, probability=False)
        second, third = second + last**2 / NOISY_COPIES, third + last**3 / NOISY_COPIES
    return _map_of_powers(values, second, third, last, EPSILON)


def _map_of_powers(values: Tensor, second: Tensor, third: Tensor, first: Tensor, epsilon: float) -> Tensor:
    below = 2 * second + (third * values).sum((2, 3), keepdim=True)
    shares = torch.where(second > 0, second / (below + epsilon), 0)
    weights = (shares * first.relu()).sum((2, 3), keepdim=True)
    return (weights * values).nansum(1).relu()


def scaled_on_grid(maps: Tensor) -> Tensor:
    """Maps (N, h, w) less their smallest number, over what is then the largest; flat maps become 0."""
    above = maps - maps.amin((1, 2), keepdim=True)
    return above / (above.amax((1, 2), keepdim=True) + EPSILON)


def enlarged_weights(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Scaled maps (N, h, w) as weights (N, 1, H, W) of the image's pixels."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)


def probabilities_of(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The probabilities (N,) of the targets."""
    with torch.no_grad():
        return net(inputs).softmax(1).gather(1, targets[:, None])[:, 0]


def drop_and_increase(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """torch-cam's share of the probability that is lost, and whether it rises."""
    return (before - after).relu() / (before + EPSILON_OF_DROP), before < after


def control_weights(name: str, inputs: Tensor, seeds: list[int], grid: int) -> Tensor:
    """A control's weights (N, 1, H, W) in 0..1, made like those of a method; ``seeds`` are one for each image."""
    count, _, height, width = inputs.shape
    if name == ONES:
        return torch.ones(count, 1, height, width)
    if name == EDGE_MAP:
        grey = inputs.mean(1, keepdim=True)
        across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3)
        padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
        slopes = F.conv2d(padded, torch.cat([across, across.mT]))
        return scaled_on_grid(slopes.square().sum(1).sqrt())[:, None]
    if name == CENTER_MAP:
        rows, columns = (torch.linspace(-1, 1, length) for length in (height, width))
        square = rows[:, None] ** 2 + columns**2
        return scaled_on_grid(torch.exp(-2 * square).expand(count, height, width))[:, None]
    sides = (height, width) if name == RANDOM_MAP else (grid, grid)
    drawn = torch.stack([torch.rand(sides, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    return enlarged_weights(scaled_on_grid(drawn), (height, width))
