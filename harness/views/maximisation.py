"""Inputs that make an output or a channel as large as possible: gradient ascent from noise, with regularisers.

Activation maximisation: Erhan et al. 2009 (Visualizing Higher-Layer Features of a Deep Network), Simonyan et al. 2014
(1312.6034), with the regularisers of Yosinski et al. 2015 (1506.06579) and Mordvintsev et al. 2015 (jitter).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicable
from harness.explainers._one_row_norms import right_norm_gradients
from harness.guards import frozen
from harness.option_kinds import check_fields
from harness.option_types import Count, NotNegative, Positive, Range, Size, SizeOrZero

Objective = Callable[[Tensor], Tensor]  # inputs (K, ...) -> the value that each of them is to make large (K,)
LAST_RATE = 0.01  # of the rate, at the last step


@dataclass(frozen=True)
class Ascent:
    """The settings of the gradient ascent.

    steps      of gradient ascent
    rate       length of the first step, as a share of the scale of inputs: the radius where there is one, else the root
               of the number of values times half the value range; it falls along a cosine to a hundredth of that
    radius     of the L2 ball around the centre in which inputs stay, or None for no ball
    l2         weight of half the squared distance from the centre, against the objective
    variation  weight of the sum of the absolute differences of neighbours in space or time (total variation)
    jitter     places by which the input is rolled at random along each axis of space or time before each step
    blur       standard deviation, in places, of the Gaussian that smooths the input every ``every`` steps; 0 for none
    every      steps between two blurs
    """

    steps: Count = 128
    rate: NotNegative = 0.1
    radius: Positive | None = None
    l2: NotNegative = 0.0
    variation: NotNegative = 0.0
    jitter: SizeOrZero = 0
    blur: Annotated[float, Range(0, 1000)] = 0.0
    every: Size = 4

    def __post_init__(self) -> None:
        check_fields("ascent", self)


def maximise(
    objective: Objective,
    shape: tuple[int, ...],
    count: int,
    ascent: Ascent,
    *,
    module: nn.Module,
    value_range: tuple[Any, Any] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    axes: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor]:
    """``count`` inputs (count, *shape), each of which makes its objective large, and the values reached (count,).

    ``objective`` maps a batch to one number per input, which must not depend on the other inputs. The ascent starts
    from Gaussian noise around the middle of ``value_range`` (or zero) and stays within it. ``axes`` are the batch's
    axes of space or time, along which jitter, blur and variation work. The same seed gives the same inputs on the CPU.
    Raises NotApplicable where no gradient reaches the input, or where it is zero.
    """
    low, high = (None, None) if value_range is None else (_as_bound(bound, device) for bound in value_range)
    centre = torch.zeros((), device=device) if low is None else (low + high) / 2
    spread = torch.ones((), device=device) if low is None else (high - low) / 2
    noise = torch.Generator().manual_seed(seed)
    start = torch.randn(count, *shape, generator=noise).to(device)
    inputs = centre + 0.1 * spread * start
    scale = ascent.radius or float((spread.expand(shape) ** 2).sum().sqrt())
    with torch.inference_mode(False), frozen(module), right_norm_gradients(inputs.device):
        for step in range(ascent.steps):
            shift = _jitter_shift(ascent.jitter, len(axes), noise)
            inputs = torch.roll(inputs, shift, axes) if axes else inputs
            gradient = _ascent_direction(objective, inputs, ascent, centre, axes, first=step == 0)
            size = scale * ascent.rate * (LAST_RATE + (1 - LAST_RATE) * _cosine_decay(step, ascent.steps))
            inputs = inputs + size * gradient
            inputs = torch.roll(inputs, [-by for by in shift], axes) if axes else inputs
            if ascent.blur and axes and step % ascent.every == ascent.every - 1 and step < ascent.steps - ascent.every:
                inputs = _blurred(inputs, ascent.blur, axes)
            inputs = _within_bounds(inputs, centre, ascent.radius, low, high)
        with torch.no_grad():
            return inputs, objective(inputs)


def _ascent_direction(
    objective: Objective, inputs: Tensor, ascent: Ascent, centre: Tensor, axes: tuple[int, ...], first: bool
) -> Tensor:
    """The gradient of the objective minus the penalties, scaled to length 1 for each input."""
    inputs = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        values = objective(inputs)
        if not values.requires_grad:
            raise NotApplicable("no gradient of the model reaches its input")
        penalty = ascent.l2 * ((inputs - centre) ** 2).sum() / 2 + ascent.variation * _total_variation(inputs, axes)
        penalised = values.sum() - penalty
        (gradient,) = torch.autograd.grad(penalised, inputs)
    length = gradient.flatten(1).norm(dim=1)
    if first and not length.any():
        raise NotApplicable("the gradient of the model is zero at the start, so there is no direction to follow")
    return gradient / length.clamp(min=1e-12).view(-1, *[1] * (inputs.dim() - 1))


def _total_variation(inputs: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The sum of the absolute differences of neighbours along the axes."""
    return sum((inputs.diff(dim=axis).abs().sum() for axis in axes), inputs.new_zeros(()))


def _within_bounds(inputs: Tensor, centre: Tensor, radius: float | None, low: Any, high: Any) -> Tensor:
    if radius is not None:
        away = inputs - centre
        length = away.flatten(1).norm(dim=1).view(-1, *[1] * (inputs.dim() - 1))
        inputs = centre + away * (radius / length.clamp(min=radius))
    return inputs if low is None else torch.minimum(torch.maximum(inputs, low), high)


def _jitter_shift(most: int, axes: int, noise: torch.Generator) -> list[int]:
    return torch.randint(-most, most + 1, (axes,), generator=noise).tolist()


def _cosine_decay(step: int, steps: int) -> float:
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / max(steps - 1, 1)))))


def _blurred(inputs: Tensor, deviation: float, axes: tuple[int, ...]) -> Tensor:
    """Inputs convolved with a Gaussian along each axis; values at the border are repeated."""
    reach = max(1, round(3 * deviation))
    places = torch.arange(-reach, reach + 1, device=inputs.device, dtype=inputs.dtype)
    kernel = torch.exp(-0.5 * (places / deviation) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    for axis in axes:
        moved = inputs.movedim(axis, -1)
        padded = F.pad(moved.reshape(-1, 1, moved.shape[-1]), (reach, reach), mode="replicate")
        inputs = F.conv1d(padded, kernel).view(moved.shape).movedim(-1, axis)
    return inputs


def _as_bound(bound: Any, device: torch.device | str) -> Tensor:
    return torch.as_tensor(bound, dtype=torch.float32, device=device)
