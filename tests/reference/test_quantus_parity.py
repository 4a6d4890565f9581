"""Equal to Quantus 0.6.0 to 1e-6 where it computes what the paper defines, given the same noise and units."""

import copy
import os

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.metrics._sets import pack
from harness.registry import EXPLAINERS, METRICS

SEED = int(os.environ["HARNESS_TEST_SEED"])
QUIET = {"normalise": False, "disable_warnings": True, "return_aggregate": False, "display_progressbar": False}
ZERO = {"perturb_baseline": 0.0}
TARGETS = torch.tensor([0, 1, 2, 1, 0])


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
            nn.Linear(64, 3),
        ).double()
        self.net[-1].weight.data *= 2  # drops of the probability lie far above single precision's rounding

    def forward(self, x):
        return self.net(x.double()).float()


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def world(request):
    """A model, inputs (5, C, 12, 12), and attributions of every channel, drawn from a fresh seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        channels = request.param
        model = Exact(channels).eval()
        shape = (5, channels, 12, 12)
        return model, torch.randn(shape), torch.randn(shape)


def gradient(model, inputs, targets, **_):
    inputs = torch.as_tensor(inputs).clone().requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, torch.as_tensor(targets)[:, None]).sum(), inputs)[0]


def theirs(metric, world, attributions, softmax=True, explain=None):
    np.random.seed(SEED)
    model, inputs, _ = world
    return metric(
        model=model,
        x_batch=inputs.numpy().copy(),
        y_batch=TARGETS.numpy(),
        a_batch=attributions.numpy().copy(),
        softmax=softmax,
        device="cpu",
        batch_size=5,
        channel_first=True,
        explain_func=explain,
    )


def ours(metric, world, attributions, *, by=None, reduction="sum", value_range=None, **options):
    model, inputs, _ = world
    samples = samples_of(model, inputs, TARGETS, elements=reduction == "none", value_range=value_range)
    entry = METRICS[metric]
    return score_batch(entry, entry.complete(options), make_batch(samples, attributions, by, reduction))


def explainer(model):
    entry = EXPLAINERS.entry(
        "gradient", lambda model, inputs, targets: gradient(model, inputs, targets), {}, convention="local"
    )
    return Explaining(entry, {}, model)


def close(found, expected, tolerance=1e-6):
    expected = torch.as_tensor(np.stack([np.asarray(row, dtype=np.float64) for row in expected]))
    scale = expected.abs().max().clamp(min=1)
    assert ((found - expected).abs().max() / scale).item() < tolerance, f"seed={SEED}"


def test_pixel_flipping_is_our_deletion_curve_without_its_first_point(world):
    attributions = world[2]
    step = attributions[0].numel() // 12
    quantus_curve = theirs(
        quantus.PixelFlipping(features_in_step=step, abs=False, **ZERO, **QUIET), world, attributions
    )
    found = ours("deletion", world, attributions, reduction="none", steps=12, baseline="zero")
    close(found.curves[:, 1:], quantus_curve)
    with_area = quantus.PixelFlipping(features_in_step=step, abs=False, return_auc_per_sample=True, **ZERO, **QUIET)
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # the release still calls it by its old name
    area = torch.tensor(theirs(with_area, world, attributions), dtype=torch.float64)
    close(found.values, (area + found.curves[:, :2].sum(1) / 2) / 12)


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_region_perturbation_is_the_list_of_our_drops_without_the_first(world, order):
    metric = quantus.RegionPerturbation(patch_size=3, regions_evaluation=16, order=order, abs=False, **ZERO, **QUIET)
    expected = theirs(metric, world, world[2], softmax=False)
    options = {"granularity": "patch", "patch": 3, "steps": 16, "score": "logit", "baseline": "zero", "order": order}
    found = ours("aopc", world, world[2], **options)
    close(found.curves[:, 1:], expected)
    close(found.values, np.array(expected).sum(1) / 17)


@pytest.mark.parametrize("softmax", [True, False])
def test_faithfulness_correlation_over_the_same_subsets(world, softmax, monkeypatch):
    d = world[2][0].numel()
    metric = quantus.FaithfulnessCorrelation(nr_runs=30, subset_size=72, abs=False, **ZERO, **QUIET)
    expected = theirs(metric, world, world[2], softmax=softmax)

    def same_subsets(samples, groups, use, draws, sizes):
        np.random.seed(SEED)
        sets = torch.zeros(5, draws, d, dtype=torch.bool)
        for draw in range(draws):
            for sample in range(5):
                sets[sample, draw, np.random.choice(d, 72, replace=False)] = True
        return pack(sets)

    monkeypatch.setattr("harness.metrics.subsets.draw_sets", same_subsets)
    found = ours(
        "faithfulness_correlation",
        world,
        world[2],
        reduction="none",
        subsets=30,
        baseline="zero",
        score="probability" if softmax else "logit",
    )
    # The drop of a saturated probability holds few digits in single precision, there and here.
    close(found.values, expected, 1e-5 if softmax else 1e-6)


@pytest.mark.parametrize(("mode", "order"), [("cascading", "top_down"), ("independent", "independent")])
def test_parameter_randomisation_with_the_same_random_weights(world, mode, order, monkeypatch):
    model, inputs, _ = world
    maps = gradient(model, inputs, TARGETS)
    explain = lambda model, inputs, targets, **_: gradient(model, inputs, targets).sum(1, keepdim=True).numpy()
    metric = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman,
        layer_order=order,
        seed=42,
        abs=False,
        return_average_correlation=False,
        **QUIET,
    )
    expected = theirs(metric, world, maps.sum(1, keepdim=True), softmax=False, explain=explain)

    def same_weights(model, stage, seed, running_statistics):
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

    monkeypatch.setattr("harness.metrics._randomised.redrawn", same_weights)
    found = ours("parameter_randomization", world, maps, by=explainer(model), mode=mode, stages=0)
    layers = [name for name in expected if name != "original"]
    layers = layers if mode == "cascading" else layers[::-1]  # ours start at the output in both modes
    close(found.curves, np.array([expected[name] for name in layers]).T)
    assert np.allclose(expected["original"], 1)  # which their mean includes and ours does not
    close(found.values, np.mean([expected[name] for name in layers], 0))


def test_complexity_and_sparseness(world):
    one = world[2].sum(1, keepdim=True)
    close(ours("complexity", world, one).values, theirs(quantus.Complexity(abs=True, **QUIET), world, one))
    rescaled = one / one.abs().mean((1, 2, 3), keepdim=True)  # their 1e-7 inside depends on the scale
    close(ours("sparseness", world, one).values, theirs(quantus.Sparseness(abs=True, **QUIET), world, rescaled))


def test_infidelity_of_removing_everything_is_the_squared_gap_of_completeness(world, monkeypatch):
    metric = quantus.Infidelity(perturb_patch_sizes=[12], n_perturb_samples=1, abs=False, **ZERO, **QUIET)
    expected = theirs(metric, world, world[2], softmax=False)
    monkeypatch.setattr(
        "harness.metrics.infidelity.removed_sets",
        lambda samples, units, *_: pack(torch.ones(5, 1, 144, dtype=torch.bool)),
    )
    found = ours("infidelity", world, world[2], convention="local", draws=1, baseline="zero")
    close(found.values, expected)
    contributions = world[2] * world[1]
    gap = ours("completeness", world, contributions, baseline="zero").values
    close(found.values, gap**2)
