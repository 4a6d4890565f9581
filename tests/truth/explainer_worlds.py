"""Small models whose right explanation is known, and how the tests on explainers draw them."""

import torch
from torch import nn

from axes import meant
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.predictor import Predictor
from harness.registry import EXPLAINERS


class Function(nn.Module):
    """A model that is a plain function of its inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


def model(function):
    return Function(function).eval()


def linear_net(shape, classes=3):
    """A linear model on inputs of one shape, and its weights (classes, *shape)."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes)).eval()
    return net, net[1].weight.detach().view(classes, *shape)


def smooth_net(width, classes=3, dtype=torch.float32):
    return nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, classes)).to(dtype).eval()


def small_cnn(channels=3, classes=4):
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    ).eval()


def explain(name, net, inputs, targets, **options):
    """Attributions as ``harness.explain`` gives them, with ``segments`` the explainer's option."""
    return explain_in(16, 32, name, net, inputs, targets, **options)


def explain_in(batch_size, chunk, name, net, inputs, targets, *, seed=0, modality=None, given=None, **options):
    """Attributions with chosen numbers of samples per call and of rows per forward pass; ``given``: segments.

    What is removed becomes 0 unless a test says otherwise: the right answers here are those of a baseline of 0.
    """
    entry = EXPLAINERS[name]
    options = {"baseline": "zero", **options} if entry.options.get("baseline") == "typical_or_zero" else options
    predictor = Predictor(net, chunk=chunk)
    samples = samples_of(
        net, inputs, targets, seed=seed, modality=modality or meant(inputs), segments=given, predictor=predictor
    )
    explaining = Explaining(entry, entry.complete(options), net, batch_size)
    explaining.prepare(samples)
    return explaining(samples)


def near(found, expected, tolerance=1e-5, rounding=0.0):
    """Equal up to a share of the largest expected number, and the rounding of the scores it is a difference of."""
    scale = max(float(expected.abs().max()), 1e-30)
    return float((found.double() - expected.double()).abs().max()) <= tolerance * scale + rounding
