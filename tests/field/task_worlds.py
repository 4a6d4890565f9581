"""A small model of every task, whose output is also known as a formula in double precision."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import harness

WEIGHT = np.array([[2.0, -1.0, 0.5], [-1.0, 1.5, 1.0], [0.5, 0.25, -2.0]])
BIAS = np.array([0.1, -0.2, 0.3])
POINTS = torch.tensor([[1.0, 0.5, -1.0], [-0.5, 2.0, 0.25], [0.75, -1.0, 1.5], [2.0, 1.0, 0.5]])
CLASSES = torch.tensor([0, 1, 2, 0])
ZERO_ONE = torch.tensor([1, 0, 1, 0])


def linear(rows, ending=None, flat=False):
    """The first outputs of one linear layer, before an ending, as (N, K) or for one output as (N,)."""
    layer = nn.Linear(3, rows)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(WEIGHT[:rows]))
        layer.bias.copy_(torch.tensor(BIAS[:rows]))
    layers = [layer, *([ending] if ending else []), *([nn.Flatten(0)] if flat else [])]
    return (layer if len(layers) == 1 else nn.Sequential(*layers)).eval()


def logits(x):
    return WEIGHT @ x + BIAS


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


@dataclass
class World:
    """A model with inputs as a user gives them, and what it says as a formula.

    targets      as a user gives them
    output       (x, number of the sample) -> its explained output, for an input (...) in double precision
    probability  the same for its probability; None where the task has none
    numbers      whether outputs are numbers rather than evidence for a class
    given        fields of harness.Data that a user gives
    """

    model: nn.Module
    inputs: Tensor
    targets: Any
    output: Callable[[np.ndarray, int], float]
    probability: Callable[[np.ndarray, int], float] | None = None
    numbers: bool = False
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self):
        return harness.Data(self.inputs, self.targets, **self.given)

    def score(self, x, n):
        """What a metric that asks for a probability measures."""
        return (self.probability or self.output)(x, n)


def classes():
    probability = lambda x, n: softmax(logits(x))[CLASSES[n]]
    return World(linear(3), POINTS, CLASSES, lambda x, n: logits(x)[CLASSES[n]], probability)


def probabilities():
    probability = lambda x, n: softmax(logits(x))[CLASSES[n]]
    told = {"task": "probabilities"}
    return World(linear(3, nn.Softmax(1)), POINTS, CLASSES, probability, probability, given=told)


def _of_label(z, n):
    """A logit for the label of a sample: that of class 1, or its negative for class 0."""
    return z if ZERO_ONE[n] else -z


def binary_logit(flat=False):
    output = lambda x, n: _of_label(logits(x)[0], n)
    return World(linear(1, flat=flat), POINTS, ZERO_ONE, output, lambda x, n: sigmoid(output(x, n)))


def binary_logit_flat():
    return binary_logit(flat=True)


def binary_probability():
    probability = lambda x, n: sigmoid(_of_label(logits(x)[0], n))
    return World(linear(1, nn.Sigmoid()), POINTS, ZERO_ONE, probability, probability)


def _rows_of_labels():
    return torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])


def labels_logit():
    output = lambda x, n: logits(x)[CLASSES[n]]
    given = {"labels": _rows_of_labels()}
    return World(linear(3), POINTS, CLASSES, output, lambda x, n: sigmoid(output(x, n)), given=given)


def labels_probability():
    probability = lambda x, n: sigmoid(logits(x)[CLASSES[n]])
    given = {"labels": _rows_of_labels()}
    return World(linear(3, nn.Sigmoid()), POINTS, CLASSES, probability, probability, given=given)


def regression():
    """One number; the targets are the true values."""
    return World(linear(1), POINTS, torch.tensor([1.5, -2.0, 0.25, 3.0]), lambda x, n: logits(x)[0], numbers=True)


def several_numbers():
    """Three numbers with their true values, of which the second is explained."""
    given = {"labels": torch.randn(4, 3)}
    return World(linear(3), POINTS, 1, lambda x, n: logits(x)[1], numbers=True, given=given)


class Maps(nn.Module):
    """Class maps (N, 3, H, W), linear in each pixel, as a segmentation model of torchvision returns them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(WEIGHT)[:, :, None, None])
            self.conv.bias.copy_(torch.tensor(BIAS))

    def forward(self, images):
        return {"out": self.conv(images)}


IMAGES = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(3))
REGION = torch.zeros(3, 4, 5, dtype=torch.bool)
REGION[0, 1:3, 1:4], REGION[1, 0, :], REGION[2, 3, 4] = True, True, True


def segmentation():
    def output(x, n):
        maps = np.einsum("kc,chw->khw", WEIGHT, x) + BIAS[:, None, None]
        return maps[CLASSES[n]][REGION[n].numpy()].mean()

    return World(
        Maps().eval(), IMAGES, CLASSES[:3], output, given={"task": "segmentation", "region": REGION, "masks": REGION}
    )


class Finds(nn.Module):
    """Finds in every image the same two boxes, with scores that depend on the pixels of each channel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -0.5, 0.25]))

    def forward(self, images):
        boxes, labels = torch.tensor([[0.0, 0, 4, 4], [2.0, 0, 5, 4]]), torch.tensor([1, 2])
        evidence = [self.weight @ image.flatten(1).mean(1) for image in images]
        return [{"boxes": boxes, "labels": labels, "scores": torch.stack([z, -z]).sigmoid()} for z in evidence]


def detection():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 2, 4], [2.0, 0, 5, 4]])
    overlap, sign = (1.0, 0.5, 1.0), (1, 1, -1)
    labels = torch.tensor([1, 1, 2])

    def output(x, n):
        return overlap[n] * sigmoid(sign[n] * (np.array([1.0, -0.5, 0.25]) @ x.reshape(3, -1).mean(1)))

    given = {"task": "detection", "carried": {"box": boxes, "label": labels}}
    return World(Finds().eval(), IMAGES, None, output, given=given)


WORLDS = {
    make.__name__: make
    for make in (
        classes,
        probabilities,
        binary_logit,
        binary_logit_flat,
        binary_probability,
        labels_logit,
        labels_probability,
        regression,
        several_numbers,
        segmentation,
        detection,
    )
}
