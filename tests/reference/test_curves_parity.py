"""Curves, IROF and ROAD equal to Quantus 0.6.0 on grey images, where it runs, after conversions said in each test."""

import numpy as np
import pytest
import quantus
import torch
from quantus.functions.perturb_func import noisy_linear_imputation
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.score import score_batch
from harness.registry import METRICS
from harness.removal.noisy_linear import fill_linearly

pytestmark = pytest.mark.usefixtures("seed")
QUIET = {"abs": False, "normalise": False, "disable_warnings": True, "return_aggregate": False}
QUIET |= {"display_progressbar": False}
SHAPE = (5, 1, 12, 12)
GIVEN = {"granularity": "segment", "segments": "given", "baseline": "zero"}


class Exact(nn.Module):
    """A small network that computes in double precision, so that its outputs do not depend on the size of the batch."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(400, 3)).double()
        self.net[-1].weight.data *= 2

    def forward(self, x):
        return self.net(x.double()).float()


@pytest.fixture
def world(seed):
    """A model, inputs, attributions and targets."""
    return Exact().eval(), torch.randn(SHAPE), torch.randn(SHAPE), torch.tensor([0, 1, 2, 1, 0])


def theirs(metric, world, softmax):
    model, inputs, maps, targets = world
    return metric(
        model=model,
        x_batch=inputs.numpy().copy(),
        y_batch=targets.numpy(),
        a_batch=maps.numpy().copy(),
        softmax=softmax,
        device="cpu",
        batch_size=5,
        channel_first=True,
    )


def ours(metric, world, **options):
    model, inputs, maps, targets = world
    labels = options.pop("labels", None)
    samples, entry = samples_of(model, inputs, targets, segments=labels), METRICS[metric]
    return score_batch(entry, entry.complete(options), make_batch(samples, maps, None))


def close(found, expected, tolerance=1e-6):
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float64))
    assert (found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("softmax", [True, False])
def test_selectivity_is_the_same_list_of_scores(world, softmax):
    metric = quantus.Selectivity(patch_size=3, perturb_baseline=0.0, **QUIET)
    score = "probability" if softmax else "logit"
    found = ours("selectivity", world, patch=3, steps=16, baseline="zero", score=score)
    close(found.curves[:, 1:], np.array(theirs(metric, world, softmax)))


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_abpc_is_the_difference_of_two_region_perturbations(world, order):
    drops = {
        each: np.array(
            theirs(
                quantus.RegionPerturbation(
                    patch_size=4, regions_evaluation=9, order=each, perturb_baseline=0.0, **QUIET
                ),
                world,
                True,
            )
        ).sum(1)
        / 10
        for each in ("morf", "lerf")
    }
    path = {"granularity": "patch", "patch": 4, "steps": 9, "baseline": "zero"}
    close(ours("aopc", world, order=order, **path).values, drops[order])
    close(ours("abpc", world, **path).values, drops["morf"] - drops["lerf"])


def test_irof_is_theirs_divided_by_the_number_of_segments_with_the_first_point(world, monkeypatch):
    """Theirs is n less the area over k = 1 .. n of f(x_k) / f(x_0): without k = 0, and not divided by n."""
    labels = (torch.arange(12) // 3)[:, None] * 4 + torch.arange(12) // 3
    monkeypatch.setattr("quantus.helpers.utils.get_superpixel_segments", lambda img, **_: labels.numpy())
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # the release calls it by its old name
    metric = quantus.IROF(perturb_baseline=0.0, **QUIET)
    expected = np.array(theirs(metric, world, True))
    found = ours("irof", world, labels=labels.expand(5, 12, 12), steps=17, **GIVEN)
    first = found.curves[:, 1]
    close(16 * found.values + (1 + first) / 2, expected, 1e-5)  # sums of 16 ratios to an f(x) that may be small


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_linear_imputation_gives_the_same_images(world, percent):
    _, inputs, maps, _ = world
    for image, order in zip(inputs, maps.flatten(1).argsort(1, descending=True), strict=True):
        gone = order[: 144 * percent // 100]
        expected = noisy_linear_imputation(image.double().numpy(), gone.numpy(), noise=0.0)
        removed = torch.zeros(144, dtype=torch.bool).index_fill(0, gone, True).view(1, 1, 12, 12)
        close(fill_linearly(image[None], removed)[0].double(), expected, 1e-4)
        close(fill_linearly(image[None].double(), removed)[0], expected, 1e-5)


def test_linear_imputation_gives_the_same_colour_images_at_224_pixels(seed):
    image = torch.nn.functional.interpolate(torch.randn(1, 3, 60, 60), (224, 224), mode="bicubic")
    coarse = torch.nn.functional.interpolate(torch.randn(1, 1, 30, 30), (224, 224), mode="bicubic")
    removed = coarse > coarse.flatten().kthvalue(20_000).values
    gone = removed.flatten().nonzero()[:, 0].numpy()
    expected = noisy_linear_imputation(image[0].double().numpy(), gone, noise=0.0)
    close(fill_linearly(image, removed)[0].double(), expected, 1e-4)


def test_the_road_curve_is_the_same_accuracy(world):
    percents = [10, 20, 30, 40, 50, 70, 90]
    metric = quantus.ROAD(noise=0.0, percentages=percents, **QUIET)
    expected = theirs(metric, world, True)
    found = ours("road", world, absolute_noise=0.0)
    close(found.curves.mean(0), [expected[percent] for percent in percents])
