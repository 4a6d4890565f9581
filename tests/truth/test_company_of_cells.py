"""A cell's score is its own: it does not depend on which other cells are measured in the same block."""

from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.registry import EXPLAINERS, METRICS

SEED = torch.seed() % 2**31
SEGMENTS = {"granularity": "segment", "segments": "slic:20"}
BASELINES = ("zero", "mean", "uniform_noise")

# For each option: what else is set, and values of which every two must give other scores.
CURVES = {
    "steps": ({}, 6, 9), "baseline": ({}, *BASELINES), "score": ({}, "probability", "logit", "log_odds"),
    "granularity": ({"patch": 5, "segments": "grid:3"}, "unit", "patch", "segment"),
    "patch": ({"granularity": "patch"}, 3, 4), "segments": ({"granularity": "segment"}, "slic:20", "grid:3"),
    "imputations": ({"baseline": "uniform_noise"}, 1, 2), "tie_draws": ({}, 1, 3),
}  # fmt: skip
ORDERED = CURVES | {"order": ({}, "morf", "lerf")}
SUBSETS = {name: CURVES[name] for name in ("baseline", "score", "granularity", "patch", "segments")} | {
    "share": ({}, 0.3, 0.6), "subsets": ({}, 12, 16),
}  # fmt: skip
METRIC_OPTIONS = {
    "deletion": ORDERED, "insertion": CURVES, "srg": CURVES, "aopc": ORDERED,
    "sensitivity_n": SUBSETS | {"sizes": ({}, 3, 4)}, "faithfulness_correlation": SUBSETS,
    "infidelity": {
        "perturbation": ({"convention": "local"}, "square", "subset", "gaussian"),
        "scaling": ({}, "none", "optimal", "normalised"), "samples": ({}, 16, 20), "largest": ({}, 3, 8),
        "noise": ({"perturbation": "gaussian", "convention": "local"}, 0.2, 0.4), "baseline": ({}, *BASELINES),
        "score": ({}, "logit", "probability"), "convention": ({"baseline": "mean"}, "contribution", "local"),
    },
    "max_sensitivity": {"radius": ({}, 0.02, 0.2), "samples": ({}, 2, 40), "absolute": ({}, False, True)},
    "parameter_randomization": {
        "mode": ({}, "cascading", "independent"), "similarity": ({}, "spearman", "spearman_abs", "ssim"),
        "stages": ({}, 2, 3), "target": ({}, "fixed", "reargmax"), "weight_seed": ({}, 0, 1),
        "running_statistics": ({}, "keep", "reset"),
    },
    "complexity": {"normalised": ({}, False, True)}, "sparseness": {},
    "completeness": {"relative": ({}, False, True), "baseline": ({}, None, "mean", "uniform_noise")},
}  # fmt: skip
COMMON = {
    **dict.fromkeys(("deletion", "insertion", "srg", "aopc"), {"steps": 6}),
    "sensitivity_n": {"sizes": 3, "subsets": 12}, "faithfulness_correlation": {"subsets": 12, "share": 0.3},
    "infidelity": {"samples": 16, "largest": 4}, "max_sensitivity": {"samples": 4},
    "parameter_randomization": {"stages": 3},
}  # fmt: skip


def coarse(model, inputs, targets):
    """A map with many ties."""
    inputs = inputs.requires_grad_()
    map_ = inputs * torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]
    return (4 * map_ / map_.flatten(1).abs().amax(1).view(-1, 1, 1, 1)).round().detach()


class World:
    """A net with batch normalisation, images in colour, and each cell's score when it is measured by itself."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Conv2d(6, 4, 3, stride=2), nn.Tanh(), nn.Flatten(),
            nn.Linear(64, 3),
        )  # fmt: skip
        self.net(2 * torch.randn(50, 3, 12, 12) + 1)
        self.net.eval()
        blobs = nn.functional.interpolate(torch.randn(4, 3, 4, 4), (12, 12), mode="bilinear")  # for slic to follow
        self.inputs, self.targets = blobs + 0.05 * torch.randn(4, 3, 12, 12), torch.tensor([0, 1, 2, 0])
        self.known = {}

    def measure(self, explainers, metrics):
        """The scores (N,) of all cells measured together, by (explainer, metric)."""
        frame = harness.evaluate(
            self.net, self.inputs, self.targets, explainers=explainers, metrics=metrics, value_range=(-4.0, 4.0)
        )
        assert (frame.status == "ok").all(), frame[frame.status != "ok"].error.unique()
        return {cell: rows.value.to_numpy() for cell, rows in frame.groupby(["explainer", "metric"])}

    def alone(self, explainer, metric):
        """The scores of one cell; both are (label, what is chosen)."""
        cell = (explainer[0], metric[0])
        if cell not in self.known:
            self.known[cell] = self.measure(dict([explainer]), dict([metric]))[cell]
        return self.known[cell]


@pytest.fixture(scope="module")
def world():
    print(f"seed {SEED}")
    return World(SEED)


def chosen(name, options):
    """Label and options, defaults written out: equal ones have one label."""
    options = (METRICS if name in METRICS else EXPLAINERS)[name].complete(options)
    return f"{name} {sorted(options.items(), key=str)}", {"name": name, **options}


def variants(name, table, common):
    """For each option the sets of options that differ in it alone."""
    for option, (context, *values) in table[name].items():
        contexts = [context]
        if "granularity" in table[name] and option not in ("granularity", "patch", "segments"):
            contexts.append(context | SEGMENTS)
        for each in contexts:
            yield [chosen(name, {**common.get(name, {}), **each, option: value}) for value in values]


def cells_of(name, table, common):
    """All option sets of one item, each once; the defaults where it has no option."""
    found = dict(chain.from_iterable(variants(name, table, common)))
    return found or dict([chosen(name, common.get(name, {}))])


def explainer_for(metric):
    """Ties for the curves, a promise for completeness, and a smooth map for the others."""
    if metric in ("deletion", "insertion", "srg", "aopc"):
        return "coarse", {"name": coarse}
    name = "integrated_gradients" if metric == "completeness" else "input_x_gradient"
    return chosen(name, {"steps": 3} if name == "integrated_gradients" else {})


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def shuffled(cells):
    order = np.random.default_rng(SEED).permutation(len(cells))
    return {list(cells)[at]: cells[list(cells)[at]] for at in order}


def test_every_option_has_a_second_value_here():
    measured = {name: set(entry.options) for name, entry in METRICS.items() if entry.kind != "cost"}
    assert {name: set(options) for name, options in METRIC_OPTIONS.items()} == measured


@pytest.mark.parametrize("name", METRIC_OPTIONS)
def test_a_metric_scores_the_same_beside_itself_with_another_option(name, world):
    explainer = explainer_for(name)
    cells = cells_of(name, METRIC_OPTIONS, COMMON)
    for group in variants(name, METRIC_OPTIONS, COMMON):
        values = [world.alone(explainer, cell) for cell in group]
        for i, first in enumerate(values):
            for second in values[:i]:  # else the comparison below could not fail
                assert not np.allclose(first, second, rtol=1e-6, atol=1e-9, equal_nan=True), [
                    label for label, _ in group
                ]
    together = world.measure(dict([explainer]), shuffled(cells))
    for label, options in cells.items():
        same(together[explainer[0], label], world.alone(explainer, (label, options)))


def test_metrics_score_the_same_beside_all_the_others(world):
    groups = {}
    for name in METRIC_OPTIONS:
        groups.setdefault(explainer_for(name)[0], {}).update(cells_of(name, METRIC_OPTIONS, COMMON))
    for name in ("deletion", "sensitivity_n", "completeness"):  # one for each explainer
        explainer = explainer_for(name)
        cells = groups[explainer[0]]
        for label, values in world.measure(dict([explainer]), shuffled(cells)).items():
            same(values, world.alone(explainer, (label[1], cells[label[1]])))


def test_an_explainers_scores_are_the_same_beside_another_explainers(world):
    metrics = dict(chain.from_iterable(
        next(variants(name, METRIC_OPTIONS, COMMON)) for name, options in METRIC_OPTIONS.items()
        if options and name not in ("completeness", "complexity")
    ))  # fmt: skip
    explainers = {"coarse": {"name": coarse}, "saliency": {}, "input_x_gradient": {}}
    together = world.measure(explainers, metrics)
    for label, options in explainers.items():
        by_itself = world.measure({label: options}, metrics)
        for metric in metrics:
            same(together[label, metric], by_itself[label, metric])
