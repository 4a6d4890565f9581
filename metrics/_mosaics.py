"""Mosaics: images side by side in a square, as samples of their own, and sums over their cells."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import NotApplicable
from harness.randomness import permutations, stream
from harness.samples import Samples
from harness.units import Units

IMAGES_AT_ONCE = 256  # put into mosaics at a time, which bounds the memory: 64 mosaics of 2 x 2


@dataclass(frozen=True)
class MosaicLayout:
    """Which images are where in M mosaics.

    side      of the mosaics, in images
    sample    (M,) int64, the sample whose own image and target it is
    place     (M,) int64, the cell of its image, counted row by row
    others    (M, side^2 - 1) int64, the training inputs in the other cells, row by row
    """

    side: int
    sample: Tensor
    place: Tensor
    others: Tensor

    def split(self) -> Iterator["MosaicLayout"]:
        """The layout in parts, of as many mosaics as the memory is bounded to."""
        rows = max(1, IMAGES_AT_ONCE // self.side**2)
        parts = zip(self.sample.split(rows), self.place.split(rows), self.others.split(rows), strict=True)
        return (MosaicLayout(self.side, *part) for part in parts)


def make_mosaics(samples: Samples, layout: MosaicLayout, resize: bool) -> Samples:
    """The mosaics as samples, with targets and randomness of the samples whose images they show.

    Their model is the original one, since its scoring copy was made for another size of inputs.
    """
    images, live = _paste(_images_of(samples, layout), layout.side, resize), samples.live()
    key = ("training mosaics", layout.side, resize)
    shown = layout.sample
    return replace(
        live.other_inputs(images, live.targets[shown], keys=live.keys[shown]),
        units=Units.of(images, samples.units.modality, elements=samples.units.channel_axis is None),
        predictor=replace(live.predictor, chunk=fewer(live.predictor.chunk, samples, images)),
        train=samples.for_block(key, lambda: _training_mosaics(samples, layout.side, resize)),
        train_labels=None,
        block={},
    )


def fewer(rows: int, samples: Samples, images: Tensor) -> int:
    """How many mosaics take the memory of ``rows`` inputs."""
    return max(1, rows * samples.inputs[0].numel() // images[0].numel())


def per_cell(values: Tensor, side: int) -> Tensor:
    """Sums of values (M, ..., height, width) over each cell of the mosaics: (M, side^2)."""
    heights, widths = (_lengths(length, side) for length in values.shape[-2:])
    cells = [cell for band in values.split(heights, -2) for cell in band.split(widths, -1)]
    return torch.stack([cell.flatten(1).sum(1) for cell in cells], 1)


def _images_of(samples: Samples, layout: MosaicLayout) -> Tensor:
    """The images of each mosaic, row by row: (M, side^2, C, H, W)."""
    own = torch.arange(layout.side**2, device=layout.place.device) == layout.place[:, None]
    cells = samples.inputs.new_empty(*own.shape, *samples.inputs.shape[1:])
    cells[own] = samples.inputs[layout.sample]
    cells[~own] = samples.train[layout.others.flatten().to(samples.train.device)].to(cells)
    return cells


def _training_mosaics(samples: Samples, side: int, resize: bool) -> Tensor:
    """Training inputs for the mosaics: mosaics of training inputs in an order drawn from the seed, each used once."""
    train, needed = samples.train, side**2
    key = stream(torch.zeros(1, dtype=torch.long), samples.seed, "training mosaics")
    order = permutations(key, 1, len(train))[0, 0].to(train.device)
    count = max(1, len(train) // needed)
    chosen = order[torch.arange(count * needed, device=train.device) % len(train)].view(count, needed)
    return torch.cat([_paste(train[some], side, resize) for some in chosen.split(max(1, IMAGES_AT_ONCE // needed))])


def _paste(cells: Tensor, side: int, resize: bool) -> Tensor:
    """Images (M, side^2, C, H, W) side by side, scaled to the size of one with ``resize``."""
    shape = [length if resize else length * side for length in cells.shape[-2:]]
    heights, widths = (_lengths(length, side) for length in shape)
    rows = [
        torch.cat([_resized(cells[:, row * side + column], h, w) for column, w in enumerate(widths)], -1)
        for row, h in enumerate(heights)
    ]
    return torch.cat(rows, -2)


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)


def _lengths(length: int, side: int) -> list[int]:
    """The lengths of the cells along an axis of a mosaic, as even as whole pixels allow."""
    if length < side:
        raise NotApplicable(f"{length} pixels cannot be cut into {side} cells; use resize=False")
    edges = [cell * length // side for cell in range(side + 1)]
    return [end - start for start, end in pairwise(edges)]
