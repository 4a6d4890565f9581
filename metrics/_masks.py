"""Masks of where the object is: for each unit, grown by a margin, and made from boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.batch import Batch
from harness.errors import NotApplicable, UserError
from harness.units import Units

MaskBox = Sequence[float]
EMPTY_MASK = "the mask is empty"


def object_masks(batch: Batch) -> Tensor:
    """Where the object is, bool of the attributions' shape (N, *units); NotApplicable where the data does not say."""
    if batch.masks is None:
        raise NotApplicable("the data has no masks of where the object is (give masks=)")
    if batch.masks.shape == batch.attributions.shape:
        return batch.masks
    # Every channel is a unit of its own, but the masks are of pixels: all channels of an object's pixels belong to it,
    # and so do all numbers of a table's columns.
    joint = Units.of(batch.inputs, batch.units.modality, columns=batch.units.columns)
    return joint.expand(batch.masks).expand_as(batch.attributions)


def grown(masks: Tensor, reach: float) -> Tensor:
    """Masks (N, T) or (N, H, W) with every unit whose Euclidean distance to a masked one is less than ``reach``."""
    if masks.dim() == 2:
        return grown(masks[:, None], reach)[:, 0]
    height, width = masks.shape[1:]
    before, column = F.pad(masks.long().cumsum(2), (1, 0)), torch.arange(width, device=masks.device)
    near, square = masks.clone(), round(reach**2, 9)  # rounded, so that a reach like sqrt(2) is exact
    for rows in range(height):  # a disk is a stack of rows, narrower the farther from its centre
        left = square - rows**2
        if left <= 0:
            break
        half = math.isqrt(math.ceil(left) - 1)  # the largest whole number whose square is less than what is left
        hit = before[..., (column + half + 1).clamp(max=width)] > before[..., (column - half).clamp(min=0)]
        near[:, : height - rows] |= hit[:, rows:]
        near[:, rows:] |= hit[:, : height - rows]
    return near


def filled(boxes: Sequence[Sequence[MaskBox]], shape: tuple[int, ...]) -> Tensor:
    """Masks (N, *shape) bool, True on every unit that one of the sample's boxes touches.

    A box is (left, top, right, bottom) on a grid (H, W) and (start, stop) on a sequence (T,), in units from the outer
    edge of the first unit, so that whole numbers are slices; parts beyond the grid are cut off. ValueError for a box
    of another length, or without extent.
    """
    masks = torch.zeros(len(boxes), *shape, dtype=torch.bool)
    for mask, drawn in zip(masks, boxes, strict=True):
        for box in drawn:
            mask[_slices(box, len(shape))] = True
    return masks


def _slices(box: MaskBox, axes: int) -> tuple[slice, ...]:
    """A box's slices, axis by axis of the grid; a box names the last axis first."""
    first, last = list(box[:axes]), list(box[axes:])
    if len(box) != 2 * axes or not all(low < high for low, high in zip(first, last, strict=True)):
        expected = {1: "(start, stop)", 2: "(left, top, right, bottom)"}.get(axes, f"{2 * axes} numbers")
        raise UserError(f"box is {tuple(box)}, expected {expected} with some extent along every axis")
    bounds = zip(reversed(first), reversed(last), strict=True)
    return tuple(slice(max(0, math.floor(low)), max(0, math.ceil(high))) for low, high in bounds)


@dataclass(frozen=True)
class TopUnits:
    """The units (N, d) of highest value, of which the last may have more rivals of equal value than there are places.

    above    bool, the units that are among the top ones in any order of equal ones
    equal    bool, the units that compete for the other places
    places   (N,) how many places these compete for
    counts   (N,) how many units are chosen
    """

    above: Tensor
    equal: Tensor
    places: Tensor
    counts: Tensor

    @property
    def tied(self) -> Tensor:
        """The share (N,) of the places for which more units than places are equal."""
        return self.places.masked_fill(self.equal.sum(1) == self.places, 0) / self.counts.double()


def top_units(values: Tensor, counts: Tensor) -> TopUnits:
    """The ``counts`` (N,), at least 1, units of highest value (N, d)."""
    last = values.sort(1, descending=True).values.gather(1, counts[:, None] - 1)
    above = values > last
    return TopUnits(above, values == last, counts - above.sum(1), counts)


def share_of_top(values: Tensor, inside: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Share (N,) of the ``counts`` (N,) highest values (N, d) that are ``inside`` (N, d) bool, the mean over all orders
    of equal values; and the share (N,) of the places for which more units than places are equal.

    ``counts`` are at least 1.
    """
    top = top_units(values, counts)
    hits = (top.above & inside).sum(1) + top.places * (top.equal & inside).sum(1) / top.equal.sum(1).double()
    return hits / counts, top.tied


def unless_empty(values: Tensor, masks: Tensor) -> Tensor:
    """Values (N,), NaN where a mask (N, d) is empty."""
    return values.masked_fill(~masks.any(1), float("nan"))
