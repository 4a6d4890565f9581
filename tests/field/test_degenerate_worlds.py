"""Worlds in which there is nothing to compare, on every metric and explainer: a number, or a reason for none."""

import math

import pytest
import torch
from torch import nn

import harness
from budgets import small
from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.guards import guarded
from harness.registry import EXPLAINERS, METRICS
from small_nets import few_steps

SHAPE = (1, 8, 8)
SMALLER = {
    "samples": 4,
    "draws": 4,
    "epochs": 1,
    "displacements": 2,
    "permutations": 2,
    "trees": 2,
    "repeats": 1,
    "most_work": 10**8,
}
MORE = {"kernel_shap": {"samples": 130}, "shapley_interactions": {"samples": 16}}  # coalitions of 64 and 9 segments


class World:
    """A small net on grey images, or on a table, with all that metrics and explainers may ask for."""

    def __init__(self, count=3, shape=SHAPE, classes=2, still=False, maps=None, segments=None):
        torch.manual_seed(0)
        size, units = math.prod(shape), shape[-2:] if len(shape) == 3 else shape
        image = [nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * size, classes)]
        table = [nn.Linear(size, 4), nn.ReLU(), nn.Linear(4, classes)]
        self.model = nn.Sequential(*(image if len(shape) == 3 else table)).eval().requires_grad_(False)
        if still:  # the same outputs for every input
            self.model[-1].weight.zero_()
        labels = lambda count: torch.arange(count) % classes if classes > 1 else torch.randn(count)
        self.maps = torch.randn(count, *shape) if maps is None else torch.full((count, *shape), maps)
        self.data = harness.Data(
            torch.randn(count, *shape),
            torch.arange(count) % classes,
            train=torch.randn(12, *shape),
            train_labels=labels(12),
            labels=labels(count),
            masks=(torch.arange(math.prod(units)) < 1).view(units).expand(count, *units),
            truth=torch.randn(count, *units),
            segments=segments,
            value_range=(-3.0, 3.0),
            task="classes" if classes > 1 else "regression",
        )


WORLDS = {
    "one segment": lambda: World(segments=torch.zeros(3, 8, 8, dtype=torch.long)),
    "one unit": lambda: World(shape=(1,)),
    "one output": lambda: World(classes=1),
    "one sample": lambda: World(count=1),
    "constant model": lambda: World(still=True),
    "constant maps": lambda: World(maps=1.0),
    "zero maps": lambda: World(maps=0.0),
}


def options_of(entry, world):
    """Small budgets, and the given segments where there are some."""
    own = small(entry, **SMALLER) | MORE.get(entry.name, {})
    if world == "one segment":
        own |= {name: value for name, value in GIVEN.items() if name in entry.options}
    return own


GIVEN = {"granularity": "segment", "segments": "given"}
QUALITY = [name for name, entry in METRICS.items() if entry.kind != "cost"]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("metric", QUALITY)
def test_a_metric_has_a_number_or_a_reason(metric, world):
    here, entry = WORLDS[world](), METRICS[metric]
    made = samples_of(here.model, here.data)
    explaining = Explaining(EXPLAINERS["input_x_gradient"], {}, here.model)
    with guarded(here.model):
        try:
            explaining.prepare(made)
            found = score_batch(
                entry, entry.complete(options_of(entry, world)), make_batch(made, here.maps, explaining)
            )
        except harness.NotApplicable as reason:
            assert str(reason)
            return
    assert found.values.shape == (len(made),)
    assert not found.values.isinf().any()
    assert not found.values.isnan().any() or found.reason
    if world == "one segment" and entry.kind == "faithfulness" and set(GIVEN) & entry.options.keys():
        assert found.values.isnan().all(), "with a single segment there is nothing to order or to correlate"


@pytest.mark.parametrize("world", [name for name in WORLDS if "maps" not in name])
@pytest.mark.parametrize("explainer", EXPLAINERS)
def test_an_explainer_has_a_finite_map_or_a_reason(explainer, world):
    here, entry = WORLDS[world](), EXPLAINERS[explainer]
    try:
        maps = harness.explain(explainer, here.model, here.data, **few_steps(explainer) | options_of(entry, world))
    except harness.NotApplicable as reason:
        assert str(reason)
        return
    assert len(maps) == len(here.data.inputs) and maps.isfinite().all()
