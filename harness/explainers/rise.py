"""RISE: many random smooth masks, averaged with the scores of the masked inputs as weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.option_types import Count, InnerShare, Range
from harness.predictor import pick
from harness.randomness import element, uniform
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.samples import Samples
from harness.task import Score

# Numbers in the factors of the masks that are summed at once: bounds the memory at 16 MB.
MOST_MASK_NUMBERS = 2**22
FOLDS = 5  # parts of the masks: the linear surrogate for one is fitted to the others
MASKS_PER_REGION = 4  # at least, of those that a surrogate is fitted to
RIDGE = 0.01  # of a region's variance


@explainer(
    access="forward",
    modalities=("image", "tokens", "series", "volume"),
    stochastic=True,
    cost="samples F",
    renamed={"probability": "keep_probability"},
    added={"adjusted": False},
    tunable={"samples": (250, 4000), "cells": (4, 14), "keep_probability": (0.1, 0.75)},
)
def rise(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Count = 1000,
    cells: Annotated[int, Range(1, 1000)] = 7,
    keep_probability: InnerShare = 0.5,
    baseline: BaselineName | Tensor = "zero",
    score: Score = "probability",
    centred: bool = True,
    adjusted: bool = True,
) -> Tensor:
    """RISE: random smooth masks averaged, each weighted by the score of the input that it masks (Petsiuk et al. 2018,
    1806.07421).

    One channel, in units of ``score``. Each of ``samples`` masks Z is made of numbers that are 1 with a probability p
    of ``keep_probability`` and else 0, ``cells`` along each axis. They are enlarged linearly along each axis to one
    cell more than the input and cut out at a random shift, as in the released code (the paper takes 4000 to 8000
    masks). The model gets input Z + baseline (1 - Z). With the scores v, the paper's map is sum v Z / (samples p). With
    ``centred``, it is sum (v - mean v) Z / (samples p (1 - p)): in expectation the same up to a factor and a constant,
    but without the noise that comes from the mean of v. ``adjusted``, which is for the centred map, takes most of what
    is left of the noise from it: a linear surrogate of v is fitted to the visible shares of a grid of regions; its map
    is known in closed form, and the masks only have to tell the map of what it does not fit. The surrogate for a fifth
    of the masks is fitted to the others, so that the map stays the same in expectation. Fewer than 10 masks are
    too few for one: the map is then the centred one.

    Example: with a single cell a mask shows all of the image or nothing, so that every pixel gets about the score of
    the image, which is pooled(image) = 7.

    >>> harness.explain("rise", pooled, image, target, cells=1, score="logit").round()
    tensor([[[[7., 7.],
              [7., 7.]]]])
    """
    if centred and samples < 2:
        raise UserError(f"samples is {samples}, expected 2 or more with centred=true, which takes their mean off")
    strips = tuple(bilinear_strips(length, cells).to(inputs.device) for length in context.units.shape)
    masks = RiseMasks(context.stream("rise masks"), cells, keep_probability, strips)
    values = pick(context.masked(samples, masks.of_rows, baseline), score).double()
    regions = _regions_along(samples, len(strips), cells) if centred and adjusted else 0
    if regions:
        return context.units.as_map(_adjusted_map(masks, values, regions))
    if centred:
        values = (values - values.mean(1, keepdim=True)) / (1 - keep_probability)
    return context.units.as_map(masks.weighted_sum(values.float() / (samples * keep_probability)))


def _regions_along(draws: int, axes: int, cells: int) -> int:
    """How many regions along each axis a surrogate of so many masks can have; 0 for too few masks."""
    fitted = draws - -(-draws // FOLDS)
    most = int((fitted / MASKS_PER_REGION) ** (1 / axes) + 1e-9)
    return min(cells, most) if draws >= 2 * FOLDS else 0


def _adjusted_map(masks: "RiseMasks", values: Tensor, regions: int) -> Tensor:
    """The centred maps (N, *units) from scores (N, draws) float64, with linear surrogates on a grid of regions."""
    draws, share = values.shape[1], masks.probability
    seen, of_regions = masks.shares_of_regions(draws, regions), []
    rest = torch.zeros_like(values)
    for fold in range(FOLDS):
        own = torch.arange(draws, device=values.device) % FOLDS == fold  # two masks or more
        slopes = _slopes_of_regions(seen[:, ~own], values[:, ~own])
        left = values[:, own] - (seen[:, own] @ slopes[..., None])[..., 0]
        rest[:, own] = (left - left.mean(1, keepdim=True)) / (left.shape[1] - 1)
        of_regions.append(slopes)
    weights = (rest / (FOLDS * share * (1 - share))).float()
    return masks.weighted_sum(weights) + masks.map_of_linear(torch.stack(of_regions).mean(0), regions)


def _slopes_of_regions(seen: Tensor, values: Tensor) -> Tensor:
    """The slopes (N, R) of a regression of scores (N, draws) on shares (N, draws, R), float64."""
    columns = seen - seen.mean(1, keepdim=True)
    gram = columns.mT @ columns
    ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1)
    gram = gram + torch.diag_embed(ridge[:, None].expand(-1, gram.shape[1]))
    offsets = (values - values.mean(1, keepdim=True))[..., None]
    return torch.linalg.pinv(gram, hermitian=True).matmul(columns.mT @ offsets)[..., 0]


@dataclass(frozen=True)
class RiseMasks:
    """Masks numbered by sample and draw. They are made again each time they are needed, as all of them at once would
    fill the memory.

    A mask of an image is L' G R: the numbers G (cells, cells), 0 or 1, enlarged along each axis by one of the axis's
    strips, which is drawn at random. There are as many factors as the units have axes.
    """

    keys: Tensor
    cells: int
    probability: float
    strips: tuple[Tensor, ...]

    def of_rows(self, sample: Tensor, draw: Tensor) -> Tensor:
        """The masks (rows, *units) of pairs of sample and draw numbers."""
        coins, strips = self._factors(element(self.keys[sample], draw))
        return enlarged_along(coins[:, None], strips)[:, 0]

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Each sample's masks summed with weights (N, draws): (N, *units), without making any of them."""
        first, *others = (strip.shape[-1] for strip in self.strips)
        per_draw = len(weights) * self.cells * (first + math.prod(others))
        total = 0.0
        for draws in torch.arange(weights.shape[1], device=weights.device).split(max(1, MOST_MASK_NUMBERS // per_draw)):
            coins, (left, *rest) = self._factors(element(self.keys[:, None], draws).flatten())
            rows = enlarged_along(coins, rest).flatten(1).view(len(coins), self.cells, -1)
            weighted = weights[:, draws].reshape(-1, 1, 1) * rows
            stacked = [factor.reshape(len(weights), -1, factor.shape[-1]) for factor in (left, weighted)]
            total = total + stacked[0].mT @ stacked[1]
        return total.view(len(weights), first, *others)

    def shares_of_regions(self, draws: int, regions: int) -> Tensor:
        """The mean of each mask over each region of a grid, (N, draws, regions^axes) float64."""
        pooled = [strip @ _means_over_regions(strip.shape[-1], regions).to(strip) for strip in self.strips]
        small = RiseMasks(self.keys, self.cells, self.probability, tuple(pooled))
        rows = torch.arange(len(self.keys), device=self.keys.device)
        per_draw = len(rows) * max(self.cells, regions) ** len(pooled)
        parts = []
        for some in torch.arange(draws, device=rows.device).split(max(1, MOST_MASK_NUMBERS // per_draw)):
            masks = small.of_rows(rows.repeat_interleave(len(some)), some.repeat(len(rows)))
            parts.append(masks.double().view(len(rows), len(some), -1))
        return torch.cat(parts, 1)

    def map_of_linear(self, slopes: Tensor, regions: int) -> Tensor:
        """The centred maps (N, *units), in expectation, of scores that are linear in ``shares_of_regions``.

        Shifts along the axes and the numbers of cells are independent: the covariance of the mask at two places is
        p (1 - p) times the product over axes of what the strips have in common there, on average over shifts.
        """
        found = slopes.view(-1, *[regions] * len(self.strips))
        for strip in self.strips:  # an axis is contracted and comes back last: the axes keep their order
            means = _means_over_regions(strip.shape[-1], regions).to(strip.device)
            common = torch.einsum("scr,scl->rl", strip.double() @ means, strip.double()) / len(strip)
            found = torch.einsum("nr...,rl->n...l", found, common)
        return found.float()

    def _factors(self, keys: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The numbers (rows, cells, ...) of masks, and a strip (rows, cells, length) of each axis."""
        axes = len(self.strips)
        numbers = uniform(keys, self.cells**axes + axes)
        coins = (numbers[:, :-axes] < self.probability).to(numbers.dtype).view(-1, *[self.cells] * axes)
        shifts = numbers[:, -axes:].unbind(1)
        return coins, [strip[(at * len(strip)).long()] for at, strip in zip(shifts, self.strips, strict=True)]


def enlarged_along(values: Tensor, strips: Sequence[Tensor]) -> Tensor:
    """Values (rows, P, cells, ...) enlarged along each axis of cells by its strip (rows, cells, length)."""
    for strip in strips:  # an axis is contracted and comes back last: the axes keep their order
        values = torch.einsum("npc...,ncl->np...l", values, strip)
    return values


def _means_over_regions(length: int, regions: int) -> Tensor:
    """What takes the mean over each of the regions, of about equal length, along an axis: (length, regions) float64."""
    of_place = torch.arange(length) * regions // length
    members = torch.nn.functional.one_hot(of_place, regions).double()
    return members / members.sum(0).clamp(min=1)


def bilinear_strips(length: int, cells: int) -> Tensor:
    """Bilinear weights (shifts, cells, length) from cells to an axis, for each shift within a cell.

    The cells are enlarged to ``cells + 1`` times a cell's size, with half-pixel centres and mirrored about the
    outermost cells' centres as in the released code; a strip is what the axis sees of that.
    """
    cell = -(-length // cells)
    size = (cells + 1) * cell
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * cells / size - 0.5
    centres = (cells - 1 - (cells - 1 - centres.abs()).abs()).clamp(min=0)
    weights = (1 - (centres[:, None] - torch.arange(cells)).abs()).clamp(min=0).float()
    return weights.unfold(0, length, 1)[:cell]
