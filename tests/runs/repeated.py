"""A model with everything that the scoring copy changes, on images large enough for several passes."""

import torch
from torch import nn

from harness.sources import Data


def net():
    """Convolutions with BatchNorm, whose copy is folded and has channels last."""
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(96, 5)),
    ]
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2), layer.weight.data.uniform_(0.5, 2)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def images():
    """Noise images."""
    torch.manual_seed(1)
    return Data(torch.rand(5, 3, 16, 16), value_range=(0.0, 1.0))
