"""Equal to Quantus 0.6.0 where single removals and resampling compute the same, given the same units and noise."""

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.score import score_batch
from harness.registry import METRICS

QUIET = {"normalise": False, "disable_warnings": True, "return_aggregate": False, "display_progressbar": False}
TARGETS = torch.tensor([0, 1, 2, 1, 0])

pytestmark = pytest.mark.usefixtures("seed")


class Exact(nn.Module):
    """A small network that computes in double precision, so that its outputs do not depend on the batch's size.

    It reacts to no more than the upper half of an image.
    """

    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(channels * 32, 12), nn.Tanh(), nn.Linear(12, 3)).double()

    def forward(self, x):
        return self.net(x[..., :4, :].double()).float()


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def world(request, seed):
    """A model, inputs (5, C, 8, 8), and attributions of every channel."""
    shape = (5, request.param, 8, 8)
    return Exact(request.param).eval(), torch.rand(shape), torch.randn(shape)


def theirs(metric, world, attributions, seed=0):
    np.random.seed(seed)
    model, inputs, _ = world
    return np.array(
        metric(
            model=model,
            x_batch=inputs.numpy().copy(),
            y_batch=TARGETS.numpy(),
            a_batch=attributions.numpy().copy(),
            softmax=False,
            device="cpu",
            batch_size=5,
            channel_first=True,
        )
    )


def ours(metric, world, attributions, **options):
    model, inputs, _ = world
    samples = samples_of(model, inputs, TARGETS, elements=True)
    entry = METRICS[metric]
    return score_batch(entry, entry.complete(options), make_batch(samples, attributions, None, "none")).values.numpy()


@pytest.mark.parametrize("step", [1, 4, 16])
def test_faithfulness_estimate_over_disjoint_groups_in_descending_order(world, step):
    metric = quantus.FaithfulnessEstimate(features_in_step=step, abs=False, perturb_baseline=0.0, **QUIET)
    expected = theirs(metric, world, world[2])
    groups = world[2][0].numel() // step
    found = ours("faithfulness_estimate", world, world[2], granularity="ranked", most_groups=groups, baseline="zero")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    if step == 1:
        by_unit = ours("faithfulness_estimate", world, world[2], granularity="unit", baseline="zero")
        np.testing.assert_allclose(by_unit, expected, rtol=0, atol=1e-6)


def test_non_sensitivity_is_their_count_over_the_number_of_units(world):
    eps = 0.02
    sparse = world[2].abs().where(torch.rand(world[2].shape) < 0.5, 0.001)
    size = sparse.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)  # ours is relative to the map's own size
    metric = quantus.NonSensitivity(eps=eps, features_in_step=1, abs=False, perturb_baseline=0.0, **QUIET)
    expected = theirs(metric, world, sparse / size)
    options = {"attribution_eps": eps, "output_eps": eps, "granularity": "unit", "baseline": "zero"}
    found = ours("non_sensitivity", world, sparse, **options)
    count = sparse[0].numel()
    assert 0 < expected.min() and expected.max() < count
    np.testing.assert_allclose(found * count, expected, rtol=0, atol=1e-9)


def test_monotonicity_correlation_under_the_same_resampling(world, monkeypatch, seed):
    draws, (_, inputs, attributions) = 4, world
    sizes = attributions.abs()
    metric = quantus.MonotonicityCorrelation(
        nr_samples=draws, features_in_step=1, abs=False, perturb_baseline="uniform", **QUIET
    )
    expected = theirs(metric, world, sizes, seed % 2**31)

    count, order = sizes[0].numel(), np.argsort(sizes.flatten(1).numpy(), axis=1)
    np.random.seed(seed % 2**31)
    noise = np.zeros((draws, 5, count))
    for step in range(count):  # by group, draw and image, one scalar each
        for draw in range(draws):
            for image in range(5):
                noise[draw, image, order[image, step]] = np.random.uniform(0.0, 1.0)
    drawn = torch.from_numpy(noise).float().view(draws, *inputs.shape)
    monkeypatch.setattr("harness.samples.make_baseline", lambda samples, chosen, draw=0: drawn[draw])
    found = ours(
        "monotonicity_correlation", world, attributions, draws=draws, granularity="unit", baseline="uniform_noise"
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
