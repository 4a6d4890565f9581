"""Handwritten digits of 8x8 pixels, which come with scikit-learn."""

from typing import Literal

import torch
from torch import Tensor

from harness.datasets._parts import part_of, stratified_rows
from harness.registry import dataset
from harness.sources import Data

DIGITS_TEST_SIZE = 500
CLASSES = tuple("0123456789")
VALUE_RANGE = (0.0, 1.0)


@dataset(
    modality="image",
    source="Alpaydin and Kaynak 1998 (UCI), as scikit-learn ships it",
    licence="not stated in scikit-learn, which is itself under BSD-3-Clause",
    samples="1,297 to train, 500 to test",
    classes="10 digits",
)
def digits(*, split: Literal["test", "train"] = "test") -> Data:
    """1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998): 1,297 to train, 500 to test.

    They come with scikit-learn; the number in an id is the row there. Items (1, 8, 8) in 0..1. ``split`` is ``test`` or
    ``train``: the part whose samples are explained. Baselines draw from the training part in either case.
    """
    parts = load_split()
    inputs, labels, rows = part_of("digits", parts, split)
    return Data(
        ids=[f"digit_{row:04}" for row in rows.tolist()],
        inputs=inputs,
        labels=labels,
        modality="image",
        value_range=VALUE_RANGE,
        classes=CLASSES,
        train=parts["train"][0],
        train_labels=parts["train"][1],
    )


def load_split() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """``train`` and ``test`` -> inputs (N, 1, 8, 8), labels (N,), rows (N,) in scikit-learn; stratified by class."""
    from sklearn.datasets import load_digits  # here and not above: scikit-learn takes seconds to import

    pixels, labels = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    parts = stratified_rows(labels, DIGITS_TEST_SIZE)
    return {name: (inputs[rows], labels[rows], rows) for name, rows in parts.items()}
