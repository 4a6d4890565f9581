"""Explainers and metrics give on the device what they give on the CPU, alone as in company, and the same again."""

import os

import pytest
import torch

import harness
from harness.randomness import bits, normal, permutations, sample_keys, subsets, uniform
from harness.registry import EXPLAINERS, METRICS
from items import SEED, TRAINING, explained, maps_of, scored, stay
from pairs import Case

DEVICE = os.environ.get("HARNESS_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
KINDS = ("image", "table")
SCORING = [entry for entry in METRICS.values() if entry.kind != "cost"]


# Where the device is the CPU itself, tests/contract holds all of this for every item, and here a few keep from rotting.
EACH = 5 if torch.device(DEVICE).type == "cpu" else 1


def on_nets(entries):
    """Each entry on each kind of net that it can serve, as ``parametrize`` takes them."""
    tried = [(entry, kind) for entry in entries for kind in KINDS if kind in getattr(entry, "modalities", KINDS)][
        ::EACH
    ]
    return {"argvalues": tried, "ids": [f"{entry.name}-{kind}" for entry, kind in tried]}


def or_skip(function, *arguments, **options):
    """The function's answer, or a skipped test where an item says that it does not apply."""
    try:
        return function(*arguments, **options)
    except harness.NotApplicable as reason:
        pytest.skip(f"not applicable: {reason}")


def assert_same(first, second, rtol=1e-3):
    """Equal but for how a device rounds."""
    scale = float(second.nan_to_num().abs().max())
    torch.testing.assert_close(first, second, rtol=rtol, atol=rtol / 10 * scale, equal_nan=True)


@pytest.fixture
def move(device):
    """Moves a tensor or a module to the device; None stays None."""
    return lambda given: given if given is None else given.to(device)


@pytest.mark.parametrize(("entry", "kind"), **on_nets(EXPLAINERS.values()))
def test_an_explainer_gives_the_map_of_the_cpu_again_and_for_a_sample_alone(entry, kind, device, move):
    here, there = or_skip(explained, entry, kind, stay), explained(entry, kind, move)
    assert there.device == device and there.shape == here.shape and there.isfinite().all()
    own_draws = not entry.stochastic or entry.source == "harness"  # a library draws from the device's own generator
    if own_draws:
        assert_same(there.cpu(), here)
    assert_same(explained(entry, kind, move), there, rtol=1e-5)
    if "company" not in entry.breaks:
        assert_same(explained(entry, kind, move, rows=slice(1, 2)), there[1:2])


@pytest.mark.parametrize(("entry", "kind"), **on_nets(SCORING))
def test_a_metric_gives_the_score_of_the_cpu_again_and_for_a_sample_alone(entry, kind, move):
    maps = maps_of(kind)
    here, there = or_skip(scored, entry, kind, maps, stay), scored(entry, kind, maps, move)
    assert there.device.type == "cpu" and there.dtype == torch.float64
    if entry.name in TRAINING:
        assert torch.equal(there.isfinite(), here.isfinite())
    else:
        assert_same(there, here)
    assert_same(scored(entry, kind, maps, move), there, rtol=1e-5)
    assert_same(scored(entry, kind, maps, move, rows=slice(1, 2)), there[1:2])


@pytest.mark.parametrize("name", ["PixelFlipping", "MaxSensitivity", "Sparseness"])
def test_a_metric_of_quantus_runs_on_the_device(name, move):
    pytest.importorskip("quantus")
    case = Case("image", SEED)
    scores = harness.score(
        f"quantus.{name}",
        move(case.model),
        move(case.inputs),
        move(case.targets),
        move(maps_of("image")),
        explainer="gradient",
    )
    assert scores.shape == (5,) and scores.isfinite().all()


def test_random_numbers_are_the_same_bits_on_both_devices(device):
    keys = sample_keys(torch.randn(4, 3, 5, 5))
    assert torch.equal(sample_keys(torch.ones(2, 3, device=device)).cpu(), sample_keys(torch.ones(2, 3)))
    for draw in (
        lambda keys: bits(keys, 1000),
        lambda keys: uniform(keys, 1000),
        lambda keys: permutations(keys, 5, 100),
        lambda keys: subsets(keys, 5, 30, 100),
    ):
        assert torch.equal(draw(keys.to(device)).cpu(), draw(keys))
    torch.testing.assert_close(normal(keys.to(device), 1000).cpu(), normal(keys, 1000))
