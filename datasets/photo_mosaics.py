"""Mosaics of photographs: what speaks for a class lies in the cell of its photograph."""

from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from harness.datasets.photos import photos
from harness.errors import UserError
from harness.registry import dataset
from harness.sources import Data

SEEN, WHOLE = 224, 256  # pixels of a side: what the model lite0 sees, and the image whose middle that is
CELL, CELLS = SEEN // 2, 4
DOUBTFUL = ("imagenet_12", "imagenet_14")  # labels that are not sure


@dataset(
    modality="image",
    source="generated from the photographs of foolbox 3.3.4, which does not say where they are from",
    licence="MIT (foolbox's)",
    samples="40, or as many as asked for, from 18 photographs",
    classes="1,000 of ImageNet-1k",
)
def photo_mosaics(*, samples: int = 40, seed: int = 0) -> Data:
    """Mosaics of four photographs of different ImageNet classes, for the grid pointing game (Rao et al. 2022,
    2205.10435), as data with known truth.

    The items are PIL images (256, 256) made when they are asked for, of which the model ``lite0`` sees the middle,
    2 x 2 cells of 112 pixels; each cell is the middle square of a photograph. The label is the class of one of the
    four, drawn by ``seed`` like the photographs and their places; explain it with ``protocol.target=label``.
    ``masks`` and ``truth`` (N, 224, 224) are its cell. That nothing in the other three cells speaks for the class is an
    assumption about the model, as in the paper; classes are different, but may look alike. UserError for fewer than
    one sample.
    """
    if samples < 1 or seed < 0:
        raise UserError(f"samples is {samples} and seed {seed}, expected at least 1 and at least 0")
    known = photos()
    usable = [place for place, name in enumerate(known.ids) if not name.startswith(DOUBTFUL)]
    chosen, own = _drawn(known.labels, usable, samples, seed)
    masks = torch.stack([cell_mask(int(cell)) for cell in own])
    return Data(
        ids=[f"mosaic_{number:04}" for number in range(samples)],
        items=Mosaics(known.items.sources, chosen),
        labels=known.labels[chosen[torch.arange(samples), own]],
        modality="image",
        classes=known.classes,
        masks=masks,
        truth=masks.float(),
    )


class Mosaics(Sequence):
    """Mosaics as items, put together when they are asked for: ``chosen`` (N, 4) numbers of encoded photographs."""

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
    """The middle square of a photograph, as large as a cell."""
    with Image.open(BytesIO(encoded)) as image:
        photograph = image.convert("RGB")
    side, (width, height) = min(photograph.size), photograph.size
    left, top = (width - side) // 2, (height - side) // 2
    return photograph.crop((left, top, left + side, top + side)).resize((CELL, CELL), Image.Resampling.BICUBIC)


def cell_mask(cell: int) -> Tensor:
    """True in one of the four cells (224, 224), counted by rows."""
    mask, (row, column) = torch.zeros(SEEN, SEEN, dtype=torch.bool), divmod(cell, 2)
    mask[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = True
    return mask


def _drawn(labels: Tensor, usable: Sequence[int], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers (N, 4) of photographs of four different classes, and which of the four is the labelled one (N,)."""
    generator = torch.Generator().manual_seed(seed)
    rows, own = [], []
    for _ in range(count):  # one after the other, so that more mosaics begin as fewer do
        order = torch.tensor(usable)[torch.randperm(len(usable), generator=generator)].tolist()
        first = {int(labels[place]): place for place in reversed(order)}  # one photograph of each class
        rows.append(sorted(first.values(), key=order.index)[:CELLS])
        own.append(int(torch.randint(CELLS, (1,), generator=generator)))
    return torch.tensor(rows), torch.tensor(own)
