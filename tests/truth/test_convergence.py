"""The correlation of two seeds that a run tells of a stochastic explainer is the one that its draws have."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness import explainer
from harness.engine.convergence import CONVERGED, budget_factor
from harness.metrics._similarity import pearson
from harness.randomness import normal
from harness.registry import EXPLAINERS

COUNT, SIDE = 8, 16
INPUTS = torch.randn(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
NET = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)).eval()
TARGETS = torch.arange(COUNT) % 3


def noisy_truth(model, inputs, targets, *, context, samples: int = 4, noise: float = 1.0):
    """The input, of variance 1, and the mean of draws of variance noise^2: two seeds correlate by
    1 / (1 + noise^2 / samples).
    """
    draws = normal(context.stream("noisy truth"), samples, *inputs.shape[1:])
    return inputs + noise * draws.mean(1)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """The explainers of this file, registered for its tests alone."""
    EXPLAINERS["saliency"]  # so that all others are
    monkeypatch.setattr(EXPLAINERS, "_entries", dict(EXPLAINERS.registered))
    for function in (noisy_truth, vanishing):
        explainer(access="none", stochastic=True)(function)


def told(name, options=None, inputs=INPUTS, net=NET, targets=TARGETS, **more):
    """The fact and the flags of an explainer."""
    frame = harness.evaluate(
        net, inputs, targets, explainers={"it": {"name": name, **(options or {})}}, metrics="sparseness", **more
    )
    assert set(frame["status"]) == {"ok"}, frame["error"].unique()
    return frame.attrs["audit"]["it"].get("convergence"), frame["flags"][0]


@pytest.mark.parametrize(("samples", "noise"), [(1, 3.0), (4, 2.0), (16, 1.0), (16, 0.25)])
def test_what_is_told_is_the_correlation_that_the_draws_have(samples, noise):
    """Within 0.05, over three seeds; the standard error of 4 maps of 256 units is at most 0.03."""
    expected = 1 / (1 + noise**2 / samples)
    found = [told(noisy_truth, {"samples": samples, "noise": noise}, seed=seed)[0] for seed in (0, 1, 2)]
    assert all(each["samples"] == 4 and each["lowest"] <= each["mean"] for each in found)
    assert np.mean([each["mean"] for each in found]) == pytest.approx(expected, abs=0.05)


def test_the_budget_that_is_named_reaches_what_is_wanted():
    fact, flag = told(noisy_truth, {"samples": 10, "noise": 3.0})
    needed = int(flag.rpartition("samples=")[2])
    assert fact["mean"] < CONVERGED and "not converged" in flag
    assert needed == pytest.approx(81, rel=0.35)  # 9 / n <= 1 / 9
    again, flag = told(noisy_truth, {"samples": 2 * needed, "noise": 3.0})
    assert again["mean"] > CONVERGED and not flag


def test_the_factor_is_that_of_spearman_and_brown():
    for correlation, wanted in itertools.product((0.1, 0.5, 0.8), (0.9, 0.95)):
        times = budget_factor(correlation, wanted)
        assert times * correlation / (1 + (times - 1) * correlation) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["rise", "lime", "kernel_shap", "smoothgrad"])
def test_it_is_the_correlation_of_two_seeds_of_the_interface(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).eval()
    options = {"samples": 40} | ({"segments": "grid:4"} if "segments" in EXPLAINERS[name].options else {})
    fact, _ = told(name, options, net=net)
    maps = [harness.explain(name, net, INPUTS, TARGETS, seed=seed, **options).sum(1).flatten(1) for seed in (0, 1)]
    expected = pearson(*maps)[:4]
    assert fact == pytest.approx(
        {"mean": float(expected.mean()), "lowest": float(expected.min()), "samples": 4}, abs=1e-5
    )


@pytest.mark.parametrize("name", ["gradient", "random", "integrated_gradients", "input_magnitude"])
def test_what_draws_nothing_or_ignores_the_model_has_no_such_fact(name):
    assert told(name)[0] is None


def vanishing(model, inputs, targets, *, context, kept: int = 2):
    """The input; under odd seeds 0 from the sample ``kept`` on; the last of the four compared is always 0."""
    maps = inputs.clone()
    maps[kept if context.seed % 2 else 3 :] = 0
    return maps


@pytest.mark.parametrize(("kept", "mean", "compared"), [(2, 2 / 3, 3), (0, 0.0, 3), (3, 1.0, 3)])
def test_a_map_that_vanishes_under_one_seed_alone_does_not_agree_with_the_other(kept, mean, compared):
    fact, flag = told(vanishing, {"kept": kept})
    assert fact == pytest.approx({"mean": mean, "lowest": float(kept == 3), "samples": compared})
    assert ("not converged" in flag) == (kept < 3)


def test_units_that_are_no_tokens_do_not_count():
    """Zeros at padding are equal under both seeds, and would look like agreement."""
    inputs, present = torch.randn(8, 40, 3), torch.arange(40).expand(8, 40) < 12
    net = nn.Sequential(nn.Flatten(), nn.Linear(120, 3)).eval()
    data = harness.Data(inputs * present[..., None], TARGETS, modality="tokens", present=present)
    frame = harness.evaluate(net, data, explainers={"it": {"name": noisy_truth, "samples": 1}}, metrics="sparseness")
    short = harness.Data(inputs[:, :12], TARGETS, modality="tokens")
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    alone = harness.evaluate(net, short, explainers={"it": {"name": noisy_truth, "samples": 1}}, metrics="sparseness")
    first, second = (each.attrs["audit"]["it"]["convergence"] for each in (frame, alone))
    assert first == pytest.approx(second)


@pytest.mark.parametrize("name", [name for name, entry in EXPLAINERS.items() if entry.stochastic and not entry.control])
def test_every_stochastic_explainer_has_the_fact(name):
    entry, generator = EXPLAINERS[name], torch.Generator().manual_seed(1)
    kind = next(kind for kind in ("table", "image", "series") if kind in entry.modalities)
    shape = {"table": (12,), "image": (3, 12, 12), "series": (3, 12)}[kind]
    inputs, train = (torch.randn(count, *shape, generator=generator) for count in (4, 60))
    torch.manual_seed(0)
    layers = {
        "table": (nn.Linear(12, 16),),
        "image": (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        "series": (nn.Flatten(), nn.Linear(36, 16)),
    }[kind]
    net = nn.Sequential(*layers, nn.ReLU(), nn.Linear(16, 3)).eval()
    frame = harness.evaluate(
        net,
        harness.Data(inputs, torch.arange(4) % 3, modality=kind),
        train=train,
        train_labels=torch.arange(60) % 3,
        explainers={name: {"steps": 5} if entry.options.get("steps", 0) > 100 else {}},
        metrics="sparseness",
    )
    if set(frame["status"]) == {"ok"}:
        fact = frame.attrs["audit"][name]["convergence"]
        assert -1 <= fact["lowest"] <= fact["mean"] <= 1 + 1e-9
    else:
        assert name == "tcav" and frame["error"][0], frame["error"][0]
