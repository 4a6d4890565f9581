"""A tiny model, data, explainers and metrics that runs are tested with; named in configurations as ``toys:name``."""

import os
import time
from pathlib import Path

import pandas as pd
import torch

from harness import NotApplicable, Scores
from harness.sources import Data


def net(*, seed=0, width=4, weights=None):
    """Two layers on 3 x 6 x 6 images; $RETRAINED changes the weights under the same name."""
    torch.manual_seed(seed + int(os.environ.get("RETRAINED", 0)))
    layers = torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(width * 16, 4)
    return torch.nn.Sequential(*layers).eval().requires_grad_(False)


def images(*, count=8, seed=0):
    """Noise images of four classes."""
    torch.manual_seed(seed)
    items = torch.rand(count, 3, 6, 6)
    return Data(items, ids=[f"image {i}" for i in range(count)], labels=torch.arange(count) % 4, value_range=(0.0, 1.0))


def tables(*, count=8):
    """Rows that the net cannot take."""
    return Data(torch.rand(count, 5))


def empty():
    """No samples at all."""
    return Data(torch.empty(0, 3, 6, 6))


def gradient_map(model, inputs, targets, *, factor=1.0):
    """The input gradient times a factor."""
    inputs.requires_grad_()
    return factor * torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


def counted(model, inputs, targets):
    """Constant maps; every call leaves a mark in the file that $CALLS names."""
    with open(os.environ["CALLS"], "a") as file:
        file.write("x")
    return inputs * 2


def fragile(model, inputs, targets):
    """Works once the file that $MENDED names exists."""
    if not Path(os.environ["MENDED"]).exists():
        raise RuntimeError("not mended yet")
    return inputs * 3


def patient(model, inputs, targets):
    """Waits until the file that $MENDED names exists."""
    while not Path(os.environ["MENDED"]).exists():
        time.sleep(0.05)
    return inputs * 4


def half_finite(model, inputs, targets):
    """NaN wherever the first pixel is below one half."""
    return inputs.masked_fill(inputs[:, :1, :1, :1] < 0.5, float("nan"))


def vandal(model, inputs, targets):
    """Spoils the model."""
    model[0].weight.data.zero_()
    return inputs


def not_for_you(model, inputs, targets):
    """Declines."""
    raise NotApplicable("needs wings")


def total(batch, *, scale=1.0):
    """The sum of the attributions."""
    return batch.attributions.flatten(1).sum(1) * scale


def slow_total(batch):
    """The sum again, half a second later."""
    time.sleep(0.5)
    return total(batch)


def drop(batch):
    """What the score loses when the half of the image with more attribution goes, with its two values as a curve."""
    samples = batch.samples
    order = batch.attributions.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view_as(batch.attributions)
    tracked = samples.masked(2, lambda i, d: (order[i] >= 18) | (d == 0)[:, None, None], "zero")
    return Scores(tracked[:, 0, 0] - tracked[:, 1, 0], tracked[..., 0])


def undefined(batch):
    """No number for anybody."""
    return Scores(torch.full((len(batch),), float("nan")), reason="nothing to measure")


def tabled(model, inputs, targets, *, context):
    """Reports a table beside its maps."""
    context.tell(repeats=pd.DataFrame({"unit": ["a", "a", "b", "b"], "value": [1.0, 2.0, 3.0, 5.0]}))
    return inputs * 3
