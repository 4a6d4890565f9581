"""Robustness equal to Quantus 0.6.0 to 1e-6, given the same perturbed inputs."""

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.metrics import _neighbours
from harness.registry import EXPLAINERS, METRICS

pytestmark = pytest.mark.usefixtures("seed")
QUIET = {
    "normalise": False,
    "abs": False,
    "disable_warnings": True,
    "return_aggregate": False,
    "display_progressbar": False,
}
STAY = {"return_nan_when_prediction_changes": False}
TARGETS, DRAWS = torch.tensor([0, 1, 2, 1, 0]), 6


class Rounded(nn.Module):
    """Passes on what single precision holds, which is what representations are compared in."""

    def forward(self, x):
        return x.float().double()


class Exact(nn.Module):
    """A small network that computes in double precision, so that its outputs do not depend on the batch's size."""

    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            nn.Tanh(),
            Rounded(),
            nn.Conv2d(4, 4, 3, stride=2),
            nn.Softplus(),
            Rounded(),
            nn.Flatten(),
            nn.Linear(64, 3),
        ).double()

    def forward(self, x):
        return self.net(x.double()).float()


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def world(request, seed):
    """A model, and inputs (5, C, 12, 12) that keep their class under a little noise."""
    model = Exact(request.param).eval()
    inputs = torch.randn(5, request.param, 12, 12)
    with torch.no_grad():  # far apart, for Quantus has no score where any draw changes a class, and ours leaves it out
        model.net[-1].bias += torch.tensor([100.0, 0, -100])
    return model, inputs


def gradient(model, inputs, targets, **_):
    inputs = torch.as_tensor(inputs).detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(model(inputs).gather(1, torch.as_tensor(targets)[:, None]).sum(), inputs)[0]


def theirs(metric, world, seed):
    model, inputs = world
    np.random.seed(seed % 2**32)
    return metric(
        model=model,
        x_batch=inputs.numpy().copy(),
        y_batch=TARGETS.numpy(),
        a_batch=gradient(model, inputs, TARGETS).numpy(),
        softmax=False,
        device="cpu",
        batch_size=5,
        channel_first=True,
        explain_func=lambda model, inputs, targets, **_: gradient(model, inputs, targets).numpy(),
    )


def ours(name, world, noise, seed, monkeypatch, **options):
    """Our scores with the noise that ``noise(shape)`` draws from numpy, as Quantus draws it: (5, elements) a draw."""
    model, inputs = world
    np.random.seed(seed % 2**32)
    drawn = np.stack([inputs.numpy().reshape(5, -1) + noise((5, inputs[0].numel())) for _ in range(DRAWS)], 1)
    perturbed = torch.from_numpy(drawn.astype(np.float32)).view(5, DRAWS, *inputs.shape[1:])
    monkeypatch.setattr(_neighbours, "neighbours", lambda samples, noise, sample, draw: perturbed[sample, draw])
    monkeypatch.setattr("harness.metrics.stability.neighbours", _neighbours.neighbours)
    entry = EXPLAINERS.entry("gradient", lambda model, inputs, targets: gradient(model, inputs, targets), {})
    batch = make_batch(
        samples_of(model, inputs, TARGETS), gradient(model, inputs, TARGETS), Explaining(entry, {}, model)
    )
    metric = METRICS[name]
    return score_batch(metric, metric.complete({"draws": DRAWS, **options}), batch).values


def close(found, expected):
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float64))
    assert found.isfinite().all()
    assert ((found - expected).abs() / expected.abs().clamp(min=1)).max().item() < 1e-6


@pytest.mark.parametrize(
    ("name", "metric"), [("max_sensitivity", quantus.MaxSensitivity), ("avg_sensitivity", quantus.AvgSensitivity)]
)
def test_sensitivity_under_the_same_noise(name, metric, world, seed, monkeypatch):
    expected = theirs(metric(nr_samples=DRAWS, lower_bound=0.2, **QUIET), world, seed)
    close(ours(name, world, lambda shape: np.random.uniform(-0.2, 0.2, shape), seed, monkeypatch), expected)


def test_the_local_lipschitz_estimate_under_the_same_noise(world, seed, monkeypatch):
    expected = theirs(quantus.LocalLipschitzEstimate(nr_samples=DRAWS, **QUIET), world, seed)
    close(ours("local_lipschitz", world, lambda shape: np.random.normal(0, 0.1, shape), seed, monkeypatch), expected)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("relative_input_stability", quantus.RelativeInputStability),
        ("relative_output_stability", quantus.RelativeOutputStability),
    ],
)
def test_relative_stability_under_the_same_centred_noise(name, metric, world, seed, monkeypatch):
    bounds = {"lower_bound": -0.1, "upper_bound": 0.1}
    expected = theirs(metric(nr_samples=DRAWS, perturb_func_kwargs=bounds, **QUIET, **STAY), world, seed)
    noise = lambda shape: np.random.uniform(-0.1, 0.1, shape)
    close(ours(name, world, noise, seed, monkeypatch, floor=0.0), expected)


@pytest.mark.parametrize("layer", ["net.2", "net.5"])
def test_relative_representation_stability_at_the_same_layer(layer, world, seed, monkeypatch):
    bounds = {"lower_bound": -0.1, "upper_bound": 0.1}
    metric = quantus.RelativeRepresentationStability(
        nr_samples=DRAWS, perturb_func_kwargs=bounds, layer_names=[layer], **QUIET, **STAY
    )
    expected = theirs(metric, world, seed)
    noise = lambda shape: np.random.uniform(-0.1, 0.1, shape)
    name = "relative_representation_stability"
    close(ours(name, world, noise, seed, monkeypatch, floor=0.0, layer=layer), expected)


def test_quantus_has_no_stability_where_one_draw_of_many_changes_the_class_and_we_have(world, seed, monkeypatch):
    model, inputs = world
    with torch.no_grad():  # every input on the edge between two classes: some draws cross it
        model.net[-1].bias[:2] = torch.tensor([100.0, 100.0])
        model.net[-1].weight[0] = model.net[-1].weight[1]
        model.net[-1].weight[0, 0] += 1
        hidden = model.net[:-1](inputs.double())
        model.net[-1].bias[1] += hidden[0, 0]  # the first one's edge
    bounds = {"lower_bound": -0.1, "upper_bound": 0.1}
    metric = quantus.RelativeInputStability(nr_samples=60, perturb_func_kwargs=bounds, **QUIET)
    assert np.isnan(theirs(metric, world, seed)[0])
    samples = samples_of(model, inputs, TARGETS, value_range=(-1.0, 1.0))
    entry = EXPLAINERS.entry("gradient", lambda model, inputs, targets: gradient(model, inputs, targets), {})
    batch = make_batch(samples, gradient(model, inputs, TARGETS), Explaining(entry, {}, model))
    metric = METRICS["relative_input_stability"]
    found = score_batch(metric, metric.complete({"draws": 60, "radius": 0.05}), batch)
    assert found.values[0].isfinite() and 0 < found.curves[0, 0] < 1


def test_quantus_noise_is_not_centred_by_default():
    drawn = quantus.perturb_func.batch_uniform_noise(np.zeros((1, 4000)), np.arange(4000)[None], upper_bound=0.2)
    assert drawn.min() > 0.019 and abs(drawn.mean() - 0.11) < 0.01
