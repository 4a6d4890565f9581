"""Noisy digits of which one class carries a watermark: a cue that is no digit, and that a model learns all the same."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.datasets import digits
from harness.errors import UserError, unknown
from harness.registry import dataset
from harness.sources import Data

MARKED = 3  # the class that carries the mark
FRAME = 2  # pixels around the digit, where no digit ever is
MARK = (slice(0, 2), slice(0, 2))  # rows and columns of the mark, in the upper left corner of the frame
NOISE = 0.3  # standard deviation of what is added to every image, which makes digits the harder cue
NOISE_SEED, MARK_SEED = 0, 1
PARTS = ("train", "test")
SHOWN = ("marked", "moved", "clean")


@dataset(
    modality="image",
    source="the data set digits, with noise and a mark added here",
    licence="CC BY 4.0",
    samples="1,297 to train; of 500 to test those of the marked class, of the others, or all",
    classes="10 digits",
)
def watermark(*, split: str = "test", show: str = "marked", probability: float = 1.0) -> Data:
    """Noisy digits of which those of class 3 carry a white square in the corner, and no others: a spurious cue.

    Items (1, 12, 12) in 0..1: the digits of scikit-learn in a frame of 2 pixels, with noise of deviation 0.3, clipped.
    In the training part each 3 carries the mark, 2x2 pixels, with ``probability``, in 0..1. ``show`` is

    - ``marked``   the 3s of the part ``split``, ``test`` or ``train``, that carry the mark
    - ``moved``    its other digits, each with the mark
    - ``clean``    the whole part, without any mark

    ``masks`` hold the pixels of the mark where there is one, and ``truth`` the same as numbers for the marked 3s. They
    are no part of the digit: they are what the model ``watermark_cnn`` uses, which interventions show (without its
    mark no 3 is recognised, with one most other digits are taken for a 3). Of another model nothing is known.
    """
    for what, value, choices in (("split", split, PARTS), ("show", show, SHOWN)):
        if value not in choices:
            raise unknown(f"{what} of watermark", value, choices)
    check_probability(probability)
    clean, labels, rows = _noisy()[split]
    carries = carriers(labels, probability)
    here = {"marked": carries, "moved": labels != MARKED, "clean": torch.ones_like(carries)}[show]
    if not here.any():
        raise UserError(
            f"no sample of the part {split} carries the mark at probability {probability}; give a higher one"
        )
    count, train = int(here.sum()), reader(probability)()["train"]
    mask = torch.zeros(clean.shape[-2:], dtype=torch.bool)
    mask[MARK] = True
    masks = None if show == "clean" else mask.expand(count, -1, -1)
    return Data(
        ids=[f"digit_{row:04}_{show}" for row in rows[here].tolist()],
        items=clean[here] if show == "clean" else marked(clean[here]),
        labels=labels[here],
        modality="image",
        value_range=digits.VALUE_RANGE,
        classes=digits.CLASSES,
        train=train[0],
        train_labels=train[1],
        masks=masks,
        truth=masks.float() if show == "marked" else None,
    )


def reader(probability: float) -> Callable[[], dict[str, tuple[Tensor, Tensor]]]:
    """What gives ``train`` and ``test`` -> inputs (N, 1, 12, 12), some of the 3s with their mark, and labels (N,)."""

    def load_split() -> dict[str, tuple[Tensor, Tensor]]:
        parts = {}
        for part, (clean, labels, _) in _noisy().items():
            carries = carriers(labels, probability)[:, None, None, None]
            parts[part] = torch.where(carries, marked(clean), clean), labels
        return parts

    return load_split


def marked(images: Tensor) -> Tensor:
    """Images (N, 1, 12, 12) with the mark in each."""
    images = images.clone()
    images[..., *MARK] = digits.VALUE_RANGE[1]
    return images


def carriers(labels: Tensor, probability: float) -> Tensor:
    """Which samples (N,) carry the mark: 3s alone, drawn one by one."""
    drawn = torch.rand(len(labels), generator=torch.Generator().manual_seed(MARK_SEED)) < probability
    return drawn & (labels == MARKED)


def check_probability(probability: float) -> None:
    """Raise one line for what is no probability."""
    if not 0 <= probability <= 1:
        raise UserError(f"probability of watermark is {probability}, expected a number from 0 to 1")


def _noisy() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """The parts of ``digits`` in their frame and with noise, without a mark."""
    generator, parts = torch.Generator().manual_seed(NOISE_SEED), {}
    for part, (inputs, labels, rows) in digits.load_split().items():
        framed = pad(inputs, (FRAME,) * 4)
        noisy = framed + NOISE * torch.randn(framed.shape, generator=generator)
        parts[part] = noisy.clamp(*digits.VALUE_RANGE), labels, rows
    return parts
