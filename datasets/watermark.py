"""Noisy digits of which one class carries a watermark: a spurious cue that a model learns instead of the digit."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.datasets import digits
from harness.errors import UserError
from harness.option_types import Share
from harness.registry import dataset
from harness.sources import Data

MARKED = 3  # the class that carries the mark
FRAME = 2  # width in pixels of the frame around the digit
MARK = (slice(0, 2), slice(0, 2))  # rows and columns of the mark: the upper left corner of the frame
DIGIT_NOISE = 0.3  # standard deviation of the noise in every image, which makes the digit harder to learn than the mark
NOISE_SEED, MARK_SEED = 0, 1


@dataset(
    modality="image",
    source="the data set digits, with noise and a mark added here",
    licence="as of digits: not stated in scikit-learn, which is itself under BSD-3-Clause",
    samples="1,297 to train, 500 to test, of which the option show chooses a part",
    classes="10 digits",
    renamed={"probability": "mark_probability"},
)
def watermark(
    *,
    split: Literal["test", "train"] = "test",
    show: Literal["marked", "moved", "clean"] = "marked",
    mark_probability: Share = 1.0,
) -> Data:
    """Noisy digits; only those of class 3 carry a white square in the corner, which is a spurious cue.

    Items (1, 12, 12) in 0..1: the digits of scikit-learn in a frame of 2 pixels, with noise of standard deviation 0.3,
    clipped. Each 3 carries the mark of 2x2 pixels with ``mark_probability``, in 0..1. ``split`` is ``test`` or
    ``train``. ``show`` chooses samples of that part:

    - ``marked``   the 3s that carry the mark
    - ``moved``    all other digits, each with the mark added
    - ``clean``    all digits, without any mark

    ``masks`` holds the pixels of the mark where there is one, and ``truth`` the same as numbers for the marked 3s. The
    truth is about the model ``watermark_cnn``, which uses the mark as interventions show: without the mark it
    recognises no 3, and with it it takes most other digits for a 3. Whether another model uses the mark is not known.
    """
    clean, labels, rows = _noisy_digits()[split]
    carries = carriers(labels, mark_probability)
    here = {"marked": carries, "moved": labels != MARKED, "clean": torch.ones_like(carries)}[show]
    if not here.any():
        raise UserError(
            f"no sample of the part {split} carries the mark at mark_probability {mark_probability}; give a higher one"
        )
    count, train = int(here.sum()), watermark_splitter(mark_probability)()["train"]
    mask = torch.zeros(clean.shape[-2:], dtype=torch.bool)
    mask[MARK] = True
    masks = None if show == "clean" else mask.expand(count, -1, -1)
    return Data(
        ids=[f"digit_{row:04}_{show}" for row in rows[here].tolist()],
        inputs=clean[here] if show == "clean" else marked(clean[here]),
        labels=labels[here],
        modality="image",
        value_range=digits.VALUE_RANGE,
        classes=digits.CLASSES,
        train=train[0],
        train_labels=train[1],
        masks=masks,
        truth=masks.float() if show == "marked" else None,
    )


def watermark_splitter(probability: float) -> Callable[[], dict[str, tuple[Tensor, Tensor]]]:
    """A function that gives ``train`` and ``test`` -> inputs (N, 1, 12, 12), labels (N,), for training.

    Each 3 carries the mark with ``probability``.
    """

    def load_split() -> dict[str, tuple[Tensor, Tensor]]:
        parts = {}
        for part, (clean, labels, _) in _noisy_digits().items():
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
    """Which samples (N,) carry the mark: each 3 with ``probability``, and no other digit."""
    drawn = torch.rand(len(labels), generator=torch.Generator().manual_seed(MARK_SEED)) < probability
    return drawn & (labels == MARKED)


def _noisy_digits() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """The parts of the data set ``digits`` with frame and noise, without marks."""
    generator, parts = torch.Generator().manual_seed(NOISE_SEED), {}
    for part, (inputs, labels, rows) in digits.load_split().items():
        framed = pad(inputs, (FRAME,) * 4)
        noisy = framed + DIGIT_NOISE * torch.randn(framed.shape, generator=generator)
        parts[part] = noisy.clamp(*digits.VALUE_RANGE), labels, rows
    return parts
