"""Segments: sets of units that are removed or scored together, specified by a short text.

- ``unit``: every unit is a segment
- ``grid:7``: a 7 x 7 grid; for a sequence, 7 windows; for a volume, 7 x 7 x 7 blocks
- ``patch:16``: squares of 16 x 16 units; for a sequence, windows of 16; ``patch``: of a side that follows from the
  input, a fourteenth of its shortest axis (16 at 224 px, 2 at 28 px), rounded, and at least 2 on axes of 4 or more
- ``parts:16``: a regular grid of at most 16 parts; every unit for a table, or where there are no more units
- ``regions``: the words of a text if they are known; ``slic:100`` for images of 1 or 3 channels; else ``parts:100``
- ``slic:100``: about 100 superpixels (Achanta et al. 2012), computed on the model's inputs, scaled to the data's range
- ``given``: the data's own segments
- ``auto``: what explainers take by default: ``unit`` for a table and up to 64 units; the words of a text if they are
  known, else up to 128 tokens or time steps one by one, and more in ``parts:128``, which is told; ``slic:50`` for
  images of 1 or 3 channels, ``grid:7`` for others, ``grid:4`` for volumes
- ``few``: ``parts:12``; for a table of more than 12 columns the data's own segments, if it has any
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError
from harness.messages import say
from harness.option_kinds import check_value, kind_of
from harness.option_types import Sized
from harness.removal.originals import Originals
from harness.units import gather_segments, segment_sizes

# A text that names segments; the number is one of segments, cells along an axis or units along a side.
Segmentation = Annotated[
    str, Sized(("auto", "few", "given", "patch", "regions", "unit"), ("grid", "parts", "patch", "slic"))
]
FEW = 12  # segments of which all coalitions can be evaluated
MOST_UNITS = 64  # that ``auto`` takes one by one
MOST_STEPS = 128  # tokens or time steps that explainers take one by one
PATCHES_A_SIDE = 14
MOST_TRIES = 5  # weights of distance against colour
MOST_KEPT = 32 * 2**20  # bytes of superpixels that a block keeps


@dataclass(frozen=True)
class Segments:
    """The segment of each unit, ``labels`` (N, *units) int64 from 0, and the segments per sample, ``counts`` (N,)."""

    labels: Tensor
    counts: Tensor

    @property
    def most(self) -> int:
        """The largest number of segments of a sample in this batch."""
        return int(self.counts.max())


def make_segments(originals: Originals, spec: str | Tensor) -> Segments:
    """The segments of ``originals`` for a text (see the module's docstring) or a tensor of labels."""
    if isinstance(spec, Tensor):
        return _checked_segments(spec.to(originals.inputs.device), originals)
    check_value("segments", spec, kind_of(Segmentation))
    kind, _, number = _automatic(spec, originals).partition(":")
    if kind == "given":
        return _checked_segments(_data_segments(originals), originals)
    if kind == "unit":
        return _same_for_all(torch.arange(originals.units.count).view(originals.units.shape), originals)
    shape = originals.units.shape
    size = patch_side(shape) if spec == "patch" else int(number)
    if kind == "slic":
        return _checked_segments(_slic(originals, size), originals)
    if originals.units.modality == "table":
        raise NotApplicable(f"a table's columns have no neighbours, which {kind} segments need (give segments=unit)")
    if kind == "patch":
        return _same_for_all(_regular_grid(shape, [-(-length // size) for length in shape], size), originals)
    cells = cells_of_parts(shape, size) if kind == "parts" else [size] * len(shape)
    return _same_for_all(_regular_grid(shape, cells), originals)


def patch_side(shape: tuple[int, ...]) -> int:
    """The side of a patch on a grid of units (H, W) or (T,) that has a side of 16 at 224 units and of 2 at 28."""
    shortest = min(shape)
    return max(2 if shortest >= 4 else 1, round(shortest / PATCHES_A_SIDE))


def cells_of_parts(shape: tuple[int, ...], most: int) -> list[int]:
    """The cells along each axis of the finest regular grid of at most ``most`` parts.

    On up to two axes there are equally many along each. On more, the axes whose cells are longest are cut first.
    """
    if len(shape) <= 2:
        return [math.floor(most ** (1 / len(shape)) + 1e-9)] * len(shape)
    cells = [1] * len(shape)
    while True:
        longest = max(range(len(shape)), key=lambda axis: shape[axis] / cells[axis])
        finer = [count + (axis == longest) for axis, count in enumerate(cells)]
        if math.prod(finer) > most or shape[longest] == cells[longest]:
            return cells
        cells = finer


def _automatic(spec: str, originals: Originals) -> str:
    """A text that names one segmentation, in place of one that names another by the kind of input."""
    units = originals.units
    words = originals.given_segments is not None and units.modality == "tokens" and len(units.shape) == 1
    if spec in ("auto", "regions") and words:
        return "given"
    if spec == "auto":
        spec = _usual(originals)
    if spec == "regions":
        spec = "slic:100" if _coloured(originals) else "parts:100"
    if spec == "few":
        grouped = units.modality == "table" and originals.given_segments is not None
        spec = "given" if grouped and units.count > FEW else f"parts:{FEW}"
    kind, _, number = spec.partition(":")
    every = kind == "parts" and (units.modality == "table" or units.count <= int(number))
    return "unit" if every else spec


def _usual(originals: Originals) -> str:
    """The segmentation ``auto`` of inputs whose words are not known."""
    units = originals.units
    if units.count <= MOST_UNITS or units.modality == "table":
        return "unit"
    if units.modality in ("tokens", "series"):
        tell_of_many_steps(originals)
        return f"parts:{MOST_STEPS}"
    if units.modality == "volume":
        return "grid:4"
    return "slic:50" if _coloured(originals) else "grid:7"


def tell_of_many_steps(originals: Originals) -> None:
    """Say, once a block, that there are too many tokens or time steps to explain each by itself."""
    count = originals.units.count
    if count > MOST_STEPS:
        what = "tokens" if originals.units.modality == "tokens" else "time steps"
        line = f"{count} {what} are explained in windows of neighbours, since they are more than {MOST_STEPS}"
        originals.for_block(("many steps", count), lambda: say(f"{line}; segments=unit or window=1 takes each alone"))


def _coloured(originals: Originals) -> bool:
    """Whether the inputs are images that superpixels can be computed of: of 1 or 3 channels."""
    units = originals.units
    return units.modality == "image" and len(units.shape) == 2 and originals.inputs.shape[1] in (1, 3)


def _regular_grid(shape: tuple[int, ...], cells: list[int], patch: int | None = None) -> Tensor:
    """Labels of a regular grid over units (H, W), (T,) or (D, H, W), of so many cells along each axis.

    Cells that do not divide an axis are of unequal size: all by at most one, or the last alone if their side ``patch``
    is given.
    """
    labels = torch.zeros(shape, dtype=torch.long)
    for axis, (length, wanted) in enumerate(zip(shape, cells, strict=True)):
        count = min(wanted, length)
        place = torch.arange(length) // patch if patch else torch.arange(length) * count // length
        labels = labels * count + place.view([-1 if a == axis else 1 for a in range(len(shape))])
    return labels


def _same_for_all(labels: Tensor, originals: Originals) -> Segments:
    count = len(originals.inputs)
    counts = torch.full((count,), int(labels.max()) + 1, device=originals.inputs.device)
    return Segments(labels.to(originals.inputs.device).expand(count, *labels.shape), counts)


def _slic(originals: Originals, number: int) -> Tensor:
    if originals.units.modality != "image":
        raise NotApplicable(f"slic segments need images, not {originals.units.modality} inputs")
    low, high = originals.input_range()
    images = ((originals.inputs - low) / (high - low).masked_fill(high == low, 1)).clamp(0, 1).permute(0, 2, 3, 1)
    if images.shape[-1] not in (1, 3):
        raise NotApplicable(f"slic segments need 1 or 3 channels, not {images.shape[-1]}")
    kept = originals.for_block(("superpixels", number), dict)
    maps = [_kept_superpixels(kept, each, number) for each in images.cpu().double().numpy()]
    return torch.from_numpy(np.stack(maps).astype(np.int64)).to(originals.inputs.device)


def _kept_superpixels(kept: dict[bytes, np.ndarray], image: np.ndarray, number: int) -> np.ndarray:
    """The superpixels of an image, computed once a block for all explainers and metrics; the oldest give way."""
    key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
    if key not in kept:
        kept[key] = superpixels(image, number)
        if len(kept) * kept[key].nbytes > MOST_KEPT:
            kept.pop(next(iter(kept)))
    return kept[key]


def superpixels(image: np.ndarray, number: int) -> np.ndarray:
    """Labels (H, W) from 0 of about ``number`` superpixels of an image (H, W, 1 or 3), values in 0..1.

    In noise, neighbours differ so much in colour that scikit-image's superpixels fall to pieces, which it joins to a
    few or a single one. Where less than half of the wanted number comes out, distance is given more weight.
    """
    from skimage.segmentation import slic  # imported here: scikit-image takes a second to import, and few runs need it

    grey = image.shape[-1] == 1
    # Compactness weighs distance against colour. 10 is usual in Lab space, whose values are about a hundred times as
    # large as grey values in 0..1; with 10, grey images would be cut into a plain grid.
    compactness, axis = (0.1, None) if grey else (10.0, -1)
    for _ in range(MOST_TRIES):
        labels = slic(image[..., 0] if grey else image, number, compactness, start_label=0, channel_axis=axis)
        if 2 * (labels.max() + 1) >= number:
            break
        compactness *= 10
    return labels.astype(np.min_scalar_type(labels.max()))


def _data_segments(originals: Originals) -> Tensor:
    if originals.given_segments is None:
        raise NotApplicable("the data has no segments of its own (give segments=)")
    shape, own = tuple(originals.given_segments.shape[1:]), originals.units.shape
    if shape != own:
        raise NotApplicable(f"the data's segments are of {shape} units, with this reduction these are {own}")
    return originals.given_segments


def _checked_segments(labels: Tensor, originals: Originals) -> Segments:
    expected = (len(originals.inputs), *originals.units.shape)
    if tuple(labels.shape) == originals.units.shape:
        labels = labels.expand(expected)
    if tuple(labels.shape) != expected or labels.is_floating_point() or labels.min() < 0:
        raise UserError(f"segments are {labels.dtype} {tuple(labels.shape)}, expected whole numbers from 0, {expected}")
    return _numbered(labels.long())


def _numbered(labels: Tensor) -> Segments:
    """Segments numbered again from 0 without gaps in each sample, so that no segment is empty."""
    present = segment_sizes(labels, int(labels.max()) + 1) > 0
    return Segments(gather_segments(present.cumsum(1) - 1, labels), present.sum(1))
