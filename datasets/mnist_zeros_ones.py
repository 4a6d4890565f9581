"""The zeros and ones of MNIST, which come with dianna."""

from io import BytesIO
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.assets import DIANNA, read_members
from harness.registry import dataset
from harness.sources import Data

ARCHIVE = "dianna/data/binary-mnist.npz"
SIDE = 28
CLASSES_01 = ("0", "1")


@dataset(
    modality="image",
    source="LeCun et al. 1998 (MNIST), as dianna 1.4.0 ships it",
    licence="not stated for the images; dianna, which ships them, is under Apache-2.0",
    samples="12,665 to train, 2,115 to test",
    classes="2 digits, 0 and 1",
)
def mnist_zeros_ones(*, split: Literal["test", "train"] = "test") -> Data:
    """14,780 zeros and ones of MNIST, 28x28 pixels (LeCun et al. 1998), in its parts: 12,665 to train, 2,115 to test.

    Items (1, 28, 28) in 0..1; the number in an id is the row in dianna's file. ``split`` is the part whose samples are
    explained; baselines draw from the training part in either case. They are fetched once (23 MB, with other models).
    """
    parts = zeros_and_ones()
    inputs, labels = parts[split]
    return Data(
        ids=[f"{split}_{row:05}" for row in range(len(labels))],
        inputs=inputs,
        labels=labels,
        modality="image",
        value_range=(0.0, 1.0),
        classes=CLASSES_01,
        train=parts["train"][0],
        train_labels=parts["train"][1],
    )


def zeros_and_ones() -> dict[str, tuple[Tensor, Tensor]]:
    """``train`` and ``test`` -> inputs (N, 1, 28, 28) in 0..1, labels (N,)."""
    (content,) = read_members(DIANNA, ARCHIVE).values()
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {
            part: (
                torch.tensor(arrays[f"X_{part}"], dtype=torch.float32).view(-1, 1, SIDE, SIDE) / 255,
                torch.tensor(arrays[f"y_{part}"], dtype=torch.long),
            )
            for part in ("train", "test")
        }
