"""Handwritten digits of 8x8 pixels, which come with scikit-learn."""

import torch
from torch import Tensor

from harness.datasets._parts import part_of
from harness.registry import dataset
from harness.sources import Data

TEST_SIZE, SPLIT_SEED = 500, 0
CLASSES = tuple("0123456789")
VALUE_RANGE = (0.0, 1.0)


@dataset(
    modality="image",
    source="Alpaydin and Kaynak 1998 (UCI), as scikit-learn ships it",
    licence="CC BY 4.0",
    samples="1,297 to train, 500 to test",
    classes="10 digits",
)
def digits(*, split: str = "test") -> Data:
    """1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998): 1,297 to train, 500 to test.

    They come with scikit-learn, whose order the ids count. Items (1, 8, 8) in 0..1. ``split`` is ``test`` or
    ``train``; the training part serves baselines either way.
    """
    parts = load_split()
    inputs, labels, rows = part_of("digits", parts, split)
    return Data(
        ids=[f"digit_{row:04}" for row in rows.tolist()],
        items=inputs,
        labels=labels,
        modality="image",
        value_range=VALUE_RANGE,
        classes=CLASSES,
        train=parts["train"][0],
        train_labels=parts["train"][1],
    )


def load_split() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """``train`` and ``test`` -> inputs (N, 1, 8, 8), labels (N,), rows (N,) of the whole; stratified by class.

    The split is the data set's, not an option: models are trained on its first part.
    """
    from sklearn.datasets import load_digits  # here and not above: scikit-learn takes seconds to import
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    halves = train_test_split(range(len(labels)), test_size=TEST_SIZE, stratify=labels, random_state=SPLIT_SEED)
    parts = zip(("train", "test"), map(torch.tensor, halves), strict=True)
    return {name: (inputs[rows], labels[rows], rows) for name, rows in parts}
