"""Data and nets of the study single_deletion: normalised digits, residual nets, and nets that are additive over cells.

A zero of a normalised digit is the mean grey of the training images, as for the ImageNet nets of the paper.
"""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from harness.datasets.digits import load_split as load_digits_split
from harness.models.training import TrainingRecipe, train_network

CLASSES, SIDE, WIDTH = 10, 8, 16
BASE, SHALLOW, DEEP = "2 blocks", "1 block", "4 blocks"
WITHOUT_NORM, WITHOUT_BIAS = "2 blocks w/o batch norm", "2 blocks w/o batch norm w/o bias"
LINEAR, CELL_BAG, OVERLAPPING_BAG = "linear", "bag of cells", "bag of overlapping patches"
RATE = 0.01  # the highest learning rate of Adam


class ResidualBlock(nn.Module):
    """Two convolutions, whose output is added to the input (N, C, H, W), and a ReLU."""

    def __init__(self, width: int, norm: bool, bias: bool) -> None:
        super().__init__()
        first, second = (convolution(width, width, norm, bias) for _ in range(2))
        self.change = nn.Sequential(*first, nn.ReLU(), *second)
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.relu(inputs + self.change(inputs))


class BagOfPatches(nn.Module):
    """Features of each patch by itself, and logits that are a linear function of all of them.

    The patches are the cells of 2 x 2 pixels, so that the logits are additive over cells, or the 3 x 3 pixels around
    each pixel, which reach into other cells.
    """

    def __init__(self, overlapping: bool) -> None:
        super().__init__()
        first = nn.Conv2d(1, WIDTH, 3, padding=1) if overlapping else nn.Conv2d(1, WIDTH, 2, stride=2)
        places = SIDE * SIDE if overlapping else SIDE * SIDE // 4
        self.features = nn.Sequential(first, nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU())
        self.head = nn.Linear(WIDTH * places, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.features(inputs).flatten(1))

    def evidence(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """What each patch contributes to the target's logit, less what a patch of zeros does: (N, 1, 8, 8).

        The contribution of a cell is divided among its pixels.
        """
        change = self.features(inputs) - self.features(torch.zeros_like(inputs))
        shares = (self.head.weight[targets].view_as(change) * change).sum(1, keepdim=True)
        size = SIDE // shares.shape[-1]
        return shares.repeat_interleave(size, 2).repeat_interleave(size, 3) / size**2


def convolution(channels: int, width: int, norm: bool, bias: bool) -> list[nn.Module]:
    """A 3 x 3 convolution; batch norm has the bias where there is batch norm."""
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=bias and not norm)
    return [conv, nn.BatchNorm2d(width)] if norm else [conv]


def residual_net(blocks: int, norm: bool = True, bias: bool = True) -> nn.Sequential:
    """A convolution, residual blocks with a pooling to 4 x 4 places in their middle, and a linear head on the mean over
    places."""
    parts: list[nn.Module] = [ResidualBlock(WIDTH, norm, bias) for _ in range(blocks)]
    parts.insert(blocks // 2, nn.MaxPool2d(2))
    stem = [*convolution(1, WIDTH, norm, bias), nn.ReLU()]
    return nn.Sequential(*stem, *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES, bias=bias))


NETS: Mapping[str, Callable[[], nn.Module]] = {
    SHALLOW: lambda: residual_net(1),
    BASE: lambda: residual_net(2),
    DEEP: lambda: residual_net(4),
    WITHOUT_NORM: lambda: residual_net(2, norm=False),
    WITHOUT_BIAS: lambda: residual_net(2, norm=False, bias=False),
    LINEAR: lambda: nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)),
    CELL_BAG: lambda: BagOfPatches(overlapping=False),
    OVERLAPPING_BAG: lambda: BagOfPatches(overlapping=True),
}


@cache
def normalised_digits() -> dict[str, tuple[Tensor, Tensor]]:
    """``train`` and ``test`` -> inputs (N, 1, 8, 8) less the mean and over the deviation of training pixels, and labels
    (N,)."""
    parts = load_digits_split()
    pixels = parts["train"][0]
    mean, deviation = pixels.mean(), pixels.std()
    return {name: ((inputs - mean) / deviation, labels) for name, (inputs, labels, _) in parts.items()}


def training_rows(count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` training images and their labels."""
    inputs, labels = normalised_digits()["train"]
    return inputs[:count], labels[:count]


def trained_net(net: str, seed: int, rows: int, epochs: int) -> nn.Module:
    """The net of this name, trained on whole images from a seed; in eval mode and frozen."""
    recipe = TrainingRecipe(net, NETS[net], lambda: {"train": training_rows(rows)}, epochs=epochs, rate=RATE)
    return train_network(recipe, seed=seed).requires_grad_(False).eval()
