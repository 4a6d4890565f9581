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


@explainer(
    access="forward",
    modalities=("image", "tokens", "series", "volume"),
    stochastic=True,
    cost="samples F",
    renamed={"probability": "keep_probability"},
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
) -> Tensor:
    """RISE: random smooth masks averaged, each weighted by the score of the input that it masks (Petsiuk et al. 2018,
    1806.07421).

    One channel, in units of ``score``. Each of ``samples`` masks Z is made of numbers that are 1 with a probability p
    of ``keep_probability`` and else 0, ``cells`` along each axis. They are enlarged linearly along each axis to one
    cell more than the input and cut out at a random shift, as in the released code (the paper takes 4000 to 8000
    masks). The model gets input Z + baseline (1 - Z). With the scores v, the paper's map is sum v Z / (samples p). With
    ``centred``, it is sum (v - mean v) Z / (samples p (1 - p)): in expectation the same up to a factor and a constant,
    but without the noise that comes from the mean of v.

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
    if centred:
        values = (values - values.mean(1, keepdim=True)) / (1 - keep_probability)
    return context.units.as_map(masks.weighted_sum(values.float() / (samples * keep_probability)))


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
