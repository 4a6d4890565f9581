"""Dynamask: masks of series of several areas, of which the smallest sufficient one is the map."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from harness.explainers._gradients import in_chunks
from harness.explainers._learned_masks import Perturb, area_loss, descend, parameter, score_loss, units_shown
from harness.option_types import Count, InnerShare, NotNegative, Sigma, SizeOrZero
from harness.registry import explainer
from harness.samples import Samples
from harness.task import Score

# The constants of the released code's class Mask.
RATE, MOMENTUM = 0.1, 0.9
AREA_WEIGHT, GROWTH = 0.5, 100.0  # of the area loss at the first step, and how much larger at the last
START = 0.5  # of all masks
STEPS_PER_ROW = 16  # time steps whose filters take about as much memory as a pass of one more row


@explainer(
    modalities=("series",),
    signed=False,
    cost="areas x ((steps + 1) F, steps B)",
    tunable={"keep": (False,), "operator": ("moving_average",)},
)
def dyna_mask(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    areas: tuple[InnerShare, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
    steps: Count = 500,
    keep: bool = True,
    operator: Literal["gaussian_blur", "moving_average"] = "gaussian_blur",
    max_sigma: Sigma = 2.0,
    half_window: SizeOrZero = 2,
    change_weight: NotNegative = 1.0,
    tolerance: NotNegative = 0.01,
    score: Score = "probability",
) -> Tensor:
    """Dynamask: the mask of the smallest area that leaves the score as it is, for each channel and time step (Crabbe
    and van der Schaar 2021, 2106.05303; constants of the released code).

    Inputs' shape, 0 to 1. Each of ``areas``, shares of the numbers of a series, has one mask, found in ``steps`` steps
    of gradient descent. The loss is minus the logarithm of the ``score`` if that is a probability, else its squared
    difference from the score of the input; it adds the squared distance of the sorted mask from (0, ..., 0, 1, ..., 1),
    weighted by 0.5 up to 50, and ``change_weight`` times the mean change from one time step to the next (the released
    code leaves out the last one). A number of the mask m is the average of its channel around it: ``gaussian_blur`` has
    the standard deviation ``max_sigma`` (1 - m) time steps, ``moving_average`` mixes m of the number with 1 - m of the
    mean of ``half_window`` steps on each side (of those that exist; the released code divides by their full number).
    The map is the mask of the smallest area whose loss is at most ``tolerance`` above that of the input, else that of
    the lowest loss. With ``keep=False`` the mask shows what to perturb so that the loss rises: the map is the mask of
    the smallest area whose loss is at most ``tolerance`` below that of the fully perturbed series, else the mask of the
    highest loss. Not applicable as ``gradient``.

    Example: the score is the second of three time steps; a mask of a third of the series shows it.

    >>> second = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1, bias=False)).eval()
    >>> second[1].weight.data = torch.tensor([[0.0, 1.0, 0.0]])
    >>> series = harness.Data(torch.tensor([[[0.0, 1.0, 0.0]]]), target, modality="series", task="regression")
    >>> harness.explain("dyna_mask", second, series, areas=0.3).round(decimals=1)
    tensor([[[0., 1., 0.]]])
    """
    perturbing = operator_of(operator, max_sigma, half_window)
    areas = sorted(areas)
    shape = inputs.shape[1:]
    shown = units_shown(areas, shape.numel()).to(inputs.device)

    def work(rows: Tensor) -> Tensor:
        masks = parameter(inputs, START, len(rows) * len(areas), *shape)
        perturb, sample = perturbing(inputs[rows].to(masks)), rows.repeat_interleave(len(areas))
        loss = score_loss(context, sample, score)

        def series(masks: Tensor) -> Tensor:
            each = masks.unflatten(0, (len(rows), len(areas)))
            return perturb(each if keep else 1 - each).flatten(0, 1)

        def propose(step: int) -> tuple[Tensor, Tensor]:
            area = AREA_WEIGHT * GROWTH ** (step / steps) * area_loss(masks.flatten(1), shown.repeat(len(rows)))
            return series(masks), area + change_weight * _mean_change(masks)

        optimiser = torch.optim.SGD([masks], lr=RATE, momentum=MOMENTUM)
        signed = loss if keep else lambda tracked: -loss(tracked)
        descend(model, context, sample, propose=propose, loss=signed, optimiser=optimiser, steps=steps, masks=masks)
        found = masks.detach()
        reference = context.intact()[sample] if keep else _tracked(context, sample, series(torch.ones_like(found)))
        excess = (signed(_tracked(context, sample, series(found))) - signed(reference)).view(len(rows), len(areas))
        chosen = _first_sufficient(excess, tolerance)
        masks_found = found.unflatten(0, excess.shape)[torch.arange(len(rows), device=rows.device), chosen]
        # Where the loss of an area is not known, neither is which of the areas is the smallest sufficient one.
        return masks_found.masked_fill(excess.isnan().any(1)[:, None, None], float("nan"))

    passes = len(areas) * math.ceil(shape[-1] / STEPS_PER_ROW)
    return torch.cat([*in_chunks(context, work, passes)])


def operator_of(name: str, max_sigma: float, half_window: int) -> Callable[[Tensor], Perturb]:
    """UserError for an unknown operator; else a function of series (n, C, T) that returns a ``Perturb``."""
    makers = {
        "gaussian_blur": partial(_gaussian_blur, max_sigma=max_sigma),
        "moving_average": partial(_moving_average, half_window=half_window),
    }
    return makers[name]


def _gaussian_blur(series: Tensor, max_sigma: float) -> Perturb:
    """Each number becomes the average of its channel with Gaussian weights, the wider the smaller its mask."""
    apart = _apart(series).square()

    def perturb(masks: Tensor) -> Tensor:
        sigma = max_sigma * (1 + 1e-7 - masks)  # above 0, as in the released code
        weights = (-apart / (2 * sigma.square().clamp(min=1e-20)[..., None])).softmax(-1)
        return torch.einsum("nacts,ncs->nact", weights, series)

    return perturb


def _moving_average(series: Tensor, half_window: int) -> Perturb:
    """Each number fades to the mean of its neighbours and itself as its mask goes to 0."""
    near = (_apart(series) <= half_window).to(series)
    means = (series @ near / near.sum(0))[:, None]
    return lambda masks: torch.lerp(means, series[:, None], masks)


def _apart(series: Tensor) -> Tensor:
    """How many time steps lie between two of them, (T, T)."""
    time = torch.arange(series.shape[-1], device=series.device, dtype=series.dtype)
    return (time[:, None] - time).abs()


def _mean_change(masks: Tensor) -> Tensor:
    """The mean absolute change (rows,) of masks (rows, C, T) from one time step to the next; 0 of a single step."""
    changes = masks.diff(dim=2).abs().flatten(1)
    return changes.sum(1) / max(changes.shape[1], 1)


def _tracked(context: Samples, sample: Tensor, points: Tensor) -> Tensor:
    """Tracked outputs (rows, 3) of perturbed inputs (rows, ...) of the samples (rows,)."""
    return context.track_rows(sample, lambda rows: points[rows].to(context.inputs))


def _first_sufficient(excess: Tensor, tolerance: float) -> Tensor:
    """The first of several masks (n, masks) that is good enough, else the best one: numbers (n,)."""
    enough = excess <= tolerance
    return torch.where(enough.any(1), enough.int().argmax(1), excess.argmin(1))
