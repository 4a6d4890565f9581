"""A small model and data that a run names as ``worlds:net`` and ``worlds:noise``."""

import torch
from torch import nn

from harness.sources import Data


def net():
    """Convolutions and a hidden layer on 3 x 16 x 16 images, to five logits."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(200, 16), nn.ReLU(), nn.Linear(16, 5)).eval().requires_grad_(False)


def noise(*, count=6):
    """Noise images of five classes, with the middle as the object."""
    torch.manual_seed(1)
    items, masks = torch.rand(count, 3, 16, 16), torch.zeros(count, 16, 16, dtype=torch.bool)
    masks[:, 4:12, 4:12] = True
    return Data([f"image {i}" for i in range(count)], items, torch.arange(count) % 5, "image", (0.0, 1.0), masks=masks)
