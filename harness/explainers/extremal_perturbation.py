"""Extremal perturbations: smooth masks of fixed areas that let the score be as high as possible."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.explainers._gradients import in_chunks, zeros_to_sum
from harness.explainers._learned_masks import Perturb, area_loss, descend, parameter, units_shown
from harness.explainers.blur_ig import blur_matrices
from harness.option_types import Count, InnerShare, Width
from harness.predictor import pick
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.samples import Samples
from harness.task import Score

# The constants of the released code.
RATE, MOMENTUM = 0.01, 0.9
AREA_WEIGHT, GROWTH = 300.0, 1.0035  # of the area loss at the first step, and from step to step
COLDNESS = 20.0  # of the smooth maximum
LEVELS, MAX_SIGMA = 8, 20 / 224  # of the blurred images, the strongest as a share of the shorter side


@explainer(
    modalities=("image",), signed=False, cost="areas x steps (F B)", tunable={"keep": (False,), "width": (0.05, 0.2)}
)
def extremal_perturbation(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    areas: tuple[InnerShare, ...] = (0.025, 0.05, 0.1, 0.2),
    steps: Count = 800,
    keep: bool = True,
    baseline: BaselineName | Tensor | None = None,
    width: Width = 0.09375,
    mirrored: bool = False,
    score: Score = "logit",
) -> Tensor:
    """Extremal perturbation: the smooth masks of fixed areas that leave the score as high as possible, summed (Fong et
    al. 2019, 1910.08485; constants of the released code).

    Shape (N, 1, H, W), from 0 to the number of ``areas``, which are shares of the image: each has one mask, found in
    ``steps`` steps of gradient ascent, and the sum is the map of the paper's pointing game; a single area gives its
    mask. With ``keep=False`` what a mask shows is removed, and the score as low as possible. A mask M(u) is the smooth
    maximum over v of k(|u - v|) m(v), for numbers m on a lattice, with k(d) = exp(-2 max(d / s - 1/2, 0)^2), s =
    ``width`` times the shorter side (21 of 224 pixels) and s / 3 between the points of the lattice. The loss adds
    |sort(M) - (0, ..., 0, 1, ..., 1)|^2 times a weight that grows, which fixes the area; the released code counts a
    margin around the image too. By default a pixel is blurred the more, the smaller the mask; with a ``baseline`` it
    fades to that. ``mirrored`` mirrors the image at every other step, as the released code does: right where the model
    does not distinguish left and right. Not applicable as ``gradient``.

    Example: the score is the first pixel, which a mask of one pixel of four shows.

    >>> first = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1, bias=False)).eval()
    >>> first[1].weight.data = torch.eye(1, 16)
    >>> found = harness.explain("extremal_perturbation", first, torch.ones(1, 1, 4, 4), target, areas=0.0625)
    >>> found.flatten().argmax()
    tensor(0)
    """
    size = context.units.shape
    shown = units_shown(areas, context.units.count).to(inputs.device)
    shapes = SmoothMasks(size, width * min(size), inputs)

    def work(rows: Tensor) -> Tensor:
        lattice = parameter(inputs, 1.0, len(rows) * len(areas), 1, *shapes.lattice)
        perturb = blurring(inputs[rows]) if baseline is None else fading(inputs[rows], context.baseline(baseline)[rows])

        def propose(step: int) -> tuple[Tensor, Tensor]:
            masks = shapes(lattice)
            each = masks.unflatten(0, (len(rows), len(areas)))
            images = perturb(each if keep else 1 - each).flatten(0, 1)
            loss = area_loss(masks.flatten(1), shown.repeat(len(rows)))
            return images.flip(-1) if mirrored and step % 2 == 0 else images, AREA_WEIGHT * GROWTH**step * loss

        descend(
            model,
            context,
            rows.repeat_interleave(len(areas)),
            propose=propose,
            loss=lambda tracked: pick(tracked, score) * (-1 if keep else 1),
            optimiser=torch.optim.SGD([lattice], lr=RATE, momentum=MOMENTUM, dampening=MOMENTUM),
            steps=steps,
            masks=lattice,
        )
        return shapes(lattice).detach().unflatten(0, (len(rows), len(areas))).sum(1)

    return context.units.as_map(torch.cat([*in_chunks(context, work, len(areas))]))


class SmoothMasks:
    """Masks (rows, H, W) from numbers (rows, 1, *lattice) in 0..1: the smooth maximum of kernels around the lattice.

    size     (H, W)
    sigma    the size of the kernels in pixels
    like     a tensor of the device and precision of the masks
    lattice  the number of points along each axis, a third of ``sigma`` apart
    """

    def __init__(self, size: tuple[int, ...], sigma: float, like: Tensor) -> None:
        self.size, self.step = size, max(1, round(sigma / 3))
        self.radius = 1 + math.ceil(sigma / self.step)
        self.lattice = tuple(math.ceil(side / self.step) for side in size)
        offset = torch.arange(self.step)[:, None] - self.step * torch.arange(-self.radius, self.radius + 1)
        apart = (offset[:, None, :, None].square() + offset[None, :, None, :].square()).double().sqrt()
        near = torch.exp(-2 * (apart / max(sigma, 1e-9) - 0.5).clamp(min=0) ** 2)  # (step, step, taps, taps)
        kernel = near.flatten(2).permute(2, 0, 1)[None, :, None, :, None, :]
        self.kernel = kernel.to(zeros_to_sum(like[:0]))

    def __call__(self, numbers: Tensor) -> Tensor:
        """Masks (rows, H, W): the smooth maximum (softmax-weighted mean, coldness 20) of kernel times number."""
        near = F.unfold(numbers, 2 * self.radius + 1, padding=self.radius)
        values = self.kernel * near.unflatten(2, self.lattice)[:, :, :, None, :, None]
        masks = (values * (COLDNESS * values).softmax(1)).sum(1)
        height, width = self.size
        return masks.flatten(3, 4).flatten(1, 2)[:, :height, :width].clamp(0, 1)


def fading(images: Tensor, baseline: Tensor) -> Perturb:
    """Pixels fade from the image (n, C, H, W) to the baseline as their mask goes to 0."""
    return lambda masks: torch.lerp(baseline[:, None].to(masks), images[:, None].to(masks), masks[:, :, None])


def blurring(images: Tensor) -> Perturb:
    """Pixels are blurred the more, the smaller their mask: linear between 8 blurred images of equal steps of sigma."""
    sigmas = MAX_SIGMA * min(images.shape[-2:]) * torch.linspace(1, 0, LEVELS, dtype=torch.float64)
    down, across = (blur_matrices(side, sigmas.to(images.device)) for side in images.shape[-2:])
    levels = (down[:, None] @ images.double()[:, None] @ across.mT[:, None]).to(zeros_to_sum(images[:0]))

    def perturb(masks: Tensor) -> Tensor:
        place = masks * (LEVELS - 1)
        below = place.detach().floor().clamp(max=LEVELS - 2)
        index = below.long()[:, :, None].expand(-1, -1, images.shape[1], -1, -1)
        low, high = levels.gather(1, index), levels.gather(1, index + 1)
        return torch.lerp(low, high, (place - below)[:, :, None])

    return perturb
