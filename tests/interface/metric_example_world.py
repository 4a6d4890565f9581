"""The names that examples in the docstrings of metrics may use: small models with a known answer, and their inputs."""

import torch
from torch import nn

import harness


def metric_names():
    """Names to objects, made anew at each call.

    linear            f(x) = 2 x1 - x2
    logits            two classes, of which the first has the logit f(x) = 2 x1 - x2 and the second 0
    classes           two classes with the logits 0 and x1: class 1 is where x1 is above 0
    inputs, targets   the points (1, 1) and (2, 0), at which linear is 1 and 4, and the class 0 for both
    image_model       two classes with the logits f(image) = sum of the upper left 2 x 2 of 4 x 4 pixels, and 0
    images            an image of 4 x 4 ones
    corner            the upper left 2 x 2 pixels as a mask (1, 4, 4)
    """
    corner = torch.zeros(1, 4, 4, dtype=torch.bool)
    corner[:, :2, :2] = True
    return {
        "torch": torch,
        "harness": harness,
        "linear": _linear_with([2, -1]),
        "logits": _linear_with([2, -1], [0, 0]),
        "classes": _linear_with([0, 0], [1, 0]),
        "inputs": torch.tensor([[1.0, 1.0], [2.0, 0.0]]),
        "targets": torch.tensor([0, 0]),
        "image_model": nn.Sequential(nn.Flatten(), _linear_with(corner.flatten().tolist(), [0] * 16)).eval(),
        "images": torch.ones(1, 1, 4, 4),
        "corner": corner,
    }


def _linear_with(*rows):
    """A linear layer without bias and with these weights, one row for each output."""
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows, dtype=torch.float32)
    return layer.eval()
