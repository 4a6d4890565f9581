"""Masks of raw images, preprocessed as the images are: cropped and resized to the model's input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from harness.errors import UserError
from harness.sources import Data, MaskImages


@dataclass
class PreprocessedMasks:
    """Masks (N, H, W) bool in the model's input space; slicing preprocesses the images of the slice."""

    images: Sequence[Image.Image]
    preprocess: Callable[[Any], Tensor]
    _ends: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, where: slice) -> Tensor:
        return torch.stack([self._preprocessed(self.images[index]) for index in range(*where.indices(len(self)))])

    def _preprocessed(self, mask: Image.Image) -> Tensor:
        black, white = self._black_and_white(mask.mode, mask.size)
        way = white - black
        return ((self.preprocess(mask) - black) * way).sum(0) > 0.5 * way.square().sum(0)

    def _black_and_white(self, mode: str, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if (mode, size) not in self._ends:
            self._ends.clear()  # keep one size only: neighbouring images often share it, and memory stays small
            ends = [self.preprocess(Image.new(mode, size, colour)) for colour in ("black", "white")]
            if not (ends[1] - ends[0]).any():
                raise UserError(
                    "masks cannot go through the model's preprocessing: it makes black and white images alike"
                )
            self._ends[mode, size] = ends[0], ends[1]
        return self._ends[mode, size]


def with_preprocessed_masks(data: Data, preprocess: Callable[[Any], Tensor] | None) -> Data:
    """The data with masks in the model's input space; unchanged if its masks are no images."""
    if not isinstance(data.masks, MaskImages) or preprocess is None:
        return data
    return replace(data, masks=PreprocessedMasks(data.masks.images, preprocess))
