"""A small model and data that a run names as ``gpu_worlds:net`` and ``gpu_worlds:noise``."""

import time

import torch
from torch import nn

from harness.sources import Data

MEGABYTES = 64
took = []  # by each call of ``slow``: seconds, or on a GPU the marks before and after its work


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
    return Data(items, labels=torch.arange(count) % 5, modality="image", value_range=(0.0, 1.0), masks=masks)


def slow(model, inputs, targets):
    """Multiplies matrices, and notes how long the device worked on it."""
    side = 4096 if inputs.is_cuda else 256
    matrix, started = torch.ones(side, side, device=inputs.device), time.perf_counter()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if inputs.is_cuda else []
    for mark in marks[:1]:
        mark.record()
    for _ in range(40):
        matrix = matrix @ matrix / side
    for mark in marks[1:]:
        mark.record()
    took.append(marks or time.perf_counter() - started)
    return inputs + 0 * matrix[0, 0]


def greedy(model, inputs, targets):
    """Takes memory for a moment."""
    return inputs + torch.ones(MEGABYTES * 2**18, device=inputs.device)[:1]
