"""Mosaics of four photographs: the evidence for a class lies in the cell of its photograph."""

from collections.abc import Sequence
from typing import Annotated

import torch
from PIL import Image
from torch import Tensor

from harness.datasets.photos import photos
from harness.option_types import Range, Seed
from harness.photographs import open_upright
from harness.registry import dataset
from harness.sources import Data

SEEN, WHOLE = 224, 256  # sides in pixels: of the crop that the model lite0 sees, and of the image around it
CELL, CELLS = SEEN // 2, 4
DOUBTFUL = ("imagenet_12", "imagenet_14")  # photographs whose label may be wrong


@dataset(
    modality="image",
    source="generated from the photographs of foolbox 3.3.4, which does not say where they are from",
    licence="not stated for the photographs; foolbox, which ships them, is under MIT",
    samples="40 by default (option count), from 18 photographs",
    renamed={"samples": "count"},
    classes="1,000 of ImageNet-1k",
)
def photo_mosaics(*, count: Annotated[int, Range(1, 10_000)] = 40, seed: Seed = 0) -> Data:
    """Mosaics of four photographs of different ImageNet classes, for the grid pointing game (Rao et al. 2022,
    2205.10435), as data with known truth.

    Items are PIL images (256, 256), made when they are accessed. The model ``lite0`` sees their middle: 2 x 2 cells of
    112 pixels, each the middle square of a photograph. ``count`` mosaics are drawn from ``seed``: the photographs,
    their places, and which of the four gives the label. Explain the label with ``protocol.target=label``. ``masks`` and
    ``truth`` (N, 224, 224) are the cell of the labelled photograph. As in the paper it is assumed that the model finds
    no evidence for the class in the other three cells; the classes differ but may look alike.
    """
    known = photos()
    usable = [place for place, name in enumerate(known.ids) if not name.startswith(DOUBTFUL)]
    chosen, own = _chosen_photographs(known.labels, usable, count, seed)
    masks = torch.stack([cell_mask(int(cell)) for cell in own])
    return Data(
        ids=[f"mosaic_{number:04}" for number in range(count)],
        inputs=Mosaics(known.inputs.sources, chosen),
        labels=known.labels[chosen[torch.arange(count), own]],
        modality="image",
        classes=known.classes,
        masks=masks,
        truth=masks.float(),
    )


class Mosaics(Sequence):
    """Mosaics as items, each put together when it is accessed.

    ``encoded`` are photographs as file contents; ``chosen`` (N, 4) are the numbers of the four in each mosaic.
    """

    def __init__(self, encoded: Sequence[bytes], chosen: Tensor) -> None:
        self.encoded, self.chosen = encoded, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Image.Image:
        canvas, margin = Image.new("RGB", (WHOLE, WHOLE)), (WHOLE - SEEN) // 2
        for cell, photograph in enumerate(self.chosen[index].tolist()):
            row, column = divmod(cell, 2)
            canvas.paste(cell_of(self.encoded[photograph]), (margin + column * CELL, margin + row * CELL))
        return canvas


def cell_of(encoded: bytes) -> Image.Image:
    """The middle square of a photograph, resized to a cell (112, 112)."""
    photograph = open_upright(encoded).convert("RGB")
    side, (width, height) = min(photograph.size), photograph.size
    left, top = (width - side) // 2, (height - side) // 2
    return photograph.crop((left, top, left + side, top + side)).resize((CELL, CELL), Image.Resampling.BICUBIC)


def cell_mask(cell: int) -> Tensor:
    """A mask (224, 224), True in one of the four cells, which are numbered row by row from 0."""
    mask, (row, column) = torch.zeros(SEEN, SEEN, dtype=torch.bool), divmod(cell, 2)
    mask[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = True
    return mask


def _chosen_photographs(labels: Tensor, usable: Sequence[int], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers (N, 4) of photographs of four different classes, and the place (N,) of the labelled one among them."""
    generator = torch.Generator().manual_seed(seed)
    rows, own = [], []
    for _ in range(count):  # one by one, so that the first mosaics do not depend on how many are drawn
        order = torch.tensor(usable)[torch.randperm(len(usable), generator=generator)].tolist()
        first = {int(labels[place]): place for place in reversed(order)}  # one photograph of each class
        rows.append(sorted(first.values(), key=order.index)[:CELLS])
        own.append(int(torch.randint(CELLS, (1,), generator=generator)))
    return torch.tensor(rows), torch.tensor(own)
