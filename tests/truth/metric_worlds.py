"""Small worlds in which the right answer is known, and the shortest way from tensors to a metric's scores."""

import torch
from torch import nn

from axes import meant
from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.guards import guarded
from harness.predictor import Predictor
from harness.registry import EXPLAINERS, METRICS

SHAPES = {"grey": (1, 6, 5), "colour": (3, 6, 5), "table": (7,), "tokens": (5, 4)}


class Additive(nn.Module):
    """Logits (f, 0) with f = b + sum of w * g(x): every element contributes by itself.

    Like all models here it computes in double precision, so that its outputs do not depend on the size of the batch.
    """

    def __init__(self, shape, g=lambda x: x, generator=None):
        super().__init__()
        self.w = nn.Parameter(torch.randn(shape, generator=generator))
        self.b, self.g = 0.3, g

    def forward(self, x):
        f = self.b + (self.g(x.double()) * self.w).flatten(1).sum(1)
        return torch.stack([f, torch.zeros_like(f)], 1).float()

    def contributions(self, x, r):
        return (self.w * (self.g(x) - self.g(r))).detach()


class Interacting(nn.Module):
    """A small random network with three classes."""

    def __init__(self, shape, generator=None):
        super().__init__()
        size = torch.Size(shape).numel()
        self.first, self.last = nn.Linear(size, 16), nn.Linear(16, 3)
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.double().flatten(1)))).float()


class Constant(nn.Module):
    """The same logits for every input."""

    def forward(self, x):
        return torch.tensor([0.7, -0.2]).expand(len(x), 2)


class Hash(nn.Module):
    """A function of which nothing can be predicted: any change of the input gives another number."""

    def forward(self, x):
        mixed = torch.sin((x.double().flatten(1) * torch.arange(1.0, x[0].numel() + 1)).sum(1) * 1e4).float()
        return torch.stack([mixed, -mixed], 1)


class InDouble(nn.Module):
    """A net that computes in double precision between inputs and outputs in single."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, x):
        return self.net(x.double()).float()


def generator(seed):
    return torch.Generator().manual_seed(seed)


def draw(shape, seed, count=3):
    return torch.randn(count, *shape, generator=generator(seed))


def gradient(model, inputs, targets):
    """A plain explainer of the local convention."""
    inputs = inputs.requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


def explaining(function, model, **capabilities):
    entry = EXPLAINERS.entry("mine", function, {}, **capabilities)
    return Explaining(entry, {}, model)


def samples(model, inputs, targets=None, chunk=32, **more):
    targets = torch.zeros(len(inputs), dtype=torch.long) if targets is None else targets
    more = {"modality": meant(inputs), **more}
    found = samples_of(model.eval(), inputs, targets, predictor=Predictor(model, chunk=chunk), **more)
    found.predictor.forwards = 0
    return found


def scores(metric, model, inputs, attributions, *, by=None, reduction="sum", options=None, **more):
    """The metric's Scores of these attributions, everything made afresh."""
    found = samples(model, inputs, elements=reduction == "none", **more)
    return on(metric, make_batch(found, attributions, by, reduction), **(options or {}))


def on(metric, batch, **options):
    entry = METRICS[metric]
    with guarded(batch.samples.predictor.module):
        return score_batch(entry, entry.complete(options), batch)
