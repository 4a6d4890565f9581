"""Sanity checks equal to Quantus 0.6.0's to 1e-6 where it computes what the papers define, given the same weights."""

import copy

import numpy as np
import pytest
import quantus
import torch
from skimage.feature import hog
from skimage.metrics import structural_similarity
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.metrics import random_logit
from harness.metrics._similarity import spearman
from harness.registry import EXPLAINERS, METRICS

pytestmark = pytest.mark.usefixtures("seed")
QUIET = {"normalise": False, "disable_warnings": True, "return_aggregate": False, "display_progressbar": False}
TARGETS = torch.tensor([0, 1, 2, 1, 0])
SIDE = 15


class Exact(nn.Module):
    """A small network that computes in double precision, so that its outputs do not depend on the batch's size."""

    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3, stride=2),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(144, 3),
        ).double()

    def forward(self, x):
        return self.net(x.double()).float()


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def world(request, seed):
    """A model, inputs (5, C, 15, 15), and the maps of the gradient summed over channels."""
    model, inputs = Exact(request.param).eval(), torch.randn(5, request.param, SIDE, SIDE)
    return model, inputs, gradient(model, inputs, TARGETS)


def gradient(model, inputs, targets, **_):
    inputs = torch.as_tensor(inputs).clone().requires_grad_()
    found = torch.autograd.grad(model(inputs).gather(1, torch.as_tensor(targets)[:, None]).sum(), inputs)[0]
    return found.sum(1, keepdim=True)


def theirs(metric, world, softmax=False, dtype=np.float32):
    model, inputs, maps = world
    explain = lambda model, inputs, targets, **_: gradient(model, inputs, targets).numpy().astype(dtype)
    return metric(
        model=model,
        x_batch=inputs.numpy().copy(),
        y_batch=TARGETS.numpy(),
        a_batch=maps.numpy().astype(dtype),
        softmax=softmax,
        device="cpu",
        batch_size=5,
        channel_first=True,
        explain_func=explain,
    )


def ours(metric, world, **options):
    model, inputs, maps = world
    by = Explaining(EXPLAINERS.entry("gradient", gradient, {}, convention="local"), {}, model)
    entry = METRICS[metric]
    return score_batch(entry, entry.complete(options), make_batch(samples_of(model, inputs, TARGETS), maps, by))


@pytest.fixture
def same_weights(monkeypatch):
    """Random weights as theirs: every module from the same seed."""

    def redrawn(model, stage, seed, running_statistics):
        twins = {name: copy.deepcopy(model.get_submodule(name)) for name in stage}
        with torch.random.fork_rng([]):
            for twin in twins.values():
                torch.manual_seed(43)
                twin.reset_parameters()
        return [
            (old, new.detach())
            for name, twin in twins.items()
            for old, new in zip(model.get_submodule(name).parameters(), twin.parameters(), strict=True)
        ]

    monkeypatch.setattr("harness.metrics._randomised.redrawn", redrawn)


def scaled(maps):
    """Maps (N, 1, H, W) or flattened ones as (N, H, W), each in [0, 1]."""
    maps = np.asarray(maps, dtype=np.float64).reshape(len(maps), SIDE, SIDE)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / (high - low)


def ssim_of_scikit_image(first, second, batched=False):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return np.array(
        [structural_similarity(*pair, **options) for pair in zip(scaled(first), scaled(second), strict=True)]
    )


def hog_of_scikit_image(first, second, batched=False):
    pairs = zip(scaled(first), scaled(second), strict=True)
    vectors = [[hog(each, pixels_per_cell=(2, 2)) for each in pair] for pair in pairs]
    first, second = torch.from_numpy(np.array(vectors)).unbind(1)
    return spearman(first, second).numpy()


def sizes(first, second, batched=False):
    return quantus.similarity_func.correlation_spearman(np.abs(first), np.abs(second), batched=True)


def close(found, expected, tolerance=1e-6):
    expected = torch.from_numpy(np.array(expected, dtype=np.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


FUNCTIONS = {
    "spearman": (quantus.similarity_func.correlation_spearman, 1e-6),
    "spearman_abs": (sizes, 1e-6),
    # scikit-image sums a cell's gradients in single precision, which swaps nearly equal ranks
    "ssim": (ssim_of_scikit_image, 1e-6),
    "hog": (hog_of_scikit_image, 1e-4),
}
ORDERS = {"cascading": "top_down", "bottom_up": "bottom_up", "independent": "independent"}


@pytest.mark.parametrize("similarity", FUNCTIONS)
@pytest.mark.parametrize("mode", ORDERS)
def test_parameter_randomisation_in_every_order_by_every_similarity(world, mode, similarity, same_weights):
    function, tolerance = FUNCTIONS[similarity]
    metric = quantus.MPRT(
        similarity_func=function,
        layer_order=ORDERS[mode],
        seed=42,
        abs=False,
        return_average_correlation=False,
        **QUIET,
    )
    expected = theirs(metric, world)
    found = ours("parameter_randomization", world, mode=mode, similarity=similarity, stages=0)
    layers = [name for name in expected if name != "original"]
    layers = layers[::-1] if mode == "independent" else layers  # ours start at the output, theirs at the input
    close(found.curves, np.stack([expected[name] for name in layers], 1), tolerance)
    assert np.allclose(expected["original"], 1)  # which their mean includes and ours does not
    close(found.values, np.mean([expected[name] for name in layers], 0), tolerance)


def test_the_rise_of_entropy_under_random_weights(world, same_weights):
    metric = quantus.EfficientMPRT(
        complexity_func=quantus.complexity_func.discrete_entropy,
        complexity_func_kwargs={"n_bins": 100},
        layer_order="bottom_up",
        seed=42,
        abs=False,
        **QUIET,
    )
    # In double precision: else the edges of bins are rounded, and a value may cross one.
    expected = theirs(metric, world, softmax=True, dtype=np.float64)
    close(ours("efficient_parameter_randomization", world, weight_seeds=1).values, expected)


def test_another_class_by_the_same_lot(world, monkeypatch):
    metric = quantus.RandomLogit(
        similarity_func=quantus.similarity_func.correlation_spearman, num_classes=3, seed=42, abs=False, **QUIET
    )
    expected = theirs(metric, world)
    others = np.array([[k for k in range(3) if k != target] for target in TARGETS.tolist()])
    np.random.seed(42)
    drawn = torch.from_numpy(others[np.arange(5), np.random.randint(0, 2, 5)])[:, None]
    monkeypatch.setattr(random_logit, "other_classes", lambda *_: drawn)
    close(ours("random_logit", world, draws=1).values, expected)
