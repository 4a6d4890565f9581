"""Worlds in which there is nothing to compare, on every metric and explainer: a number, or a reason for none."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import harness
from budgets import small
from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.errors import OUTPUTS_NOT_FINITE, UserError
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
MORE = {  # coalitions of 64 and of 9 segments, and blurs that leave something of an image
    "kernel_shap": {"samples": 130},
    "shapley_interactions": {"samples": 16},
    "blur_ig": {"max_sigma": 2.0},
}


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


class Brittle(nn.Module):
    """A net whose outputs are multiplied by ``broken`` for all inputs but those it knows, unless that is None; it notes
    that it was asked others."""

    def __init__(self, net, known, broken, note):
        super().__init__()
        self.net, self.known, self.broken, self.note = net, known.flatten(1), broken, note

    def forward(self, x):
        rows, outputs = x.detach().flatten(1), self.net(x)
        if rows.shape[1:] != self.known.shape[1:]:  # mosaics
            return outputs
        other = ~(rows[:, None] == self.known).all(2).any(1)
        if other.any():
            self.note(int(other.sum()))
            if self.broken is not None:
                outputs = outputs.clone()
                outputs[other] = outputs[other] * self.broken  # and so are the gradients
        return outputs


class BrittleWorld(World):
    """Six samples that are predicted as the class that is explained, three of each of two classes."""

    def __init__(self, broken=None, shape=SHAPE, knows_train=False):
        super().__init__(60, shape)
        with torch.no_grad():
            self.model[-1].bias -= self.model(self.data.inputs).mean(0)
            predicted = self.model(self.data.inputs).argmax(1)
        rows = torch.cat([(predicted == kind).nonzero()[:3, 0] for kind in (0, 1)])
        taken = {name: getattr(self.data, name)[rows] for name in ("inputs", "masks", "truth")}
        self.data = replace(self.data, **taken, targets=predicted[rows], labels=predicted[rows])
        self.maps, self.asked = self.maps[rows], []
        known = torch.cat([self.data.inputs, *[self.data.train] * knows_train])
        self.model = Brittle(self.model, known, broken, self.asked.append).eval()


def scored_or_refused(entry, options, here):
    """The scores of a world's maps, or why there are none; the explainer does not ask the model."""
    explaining = Explaining(EXPLAINERS.entry("mine", lambda model, inputs, targets: inputs, {}), {}, here.model)
    with guarded(here.model):
        try:
            made = samples_of(here.model, here.data)
            return score_batch(entry, entry.complete(options), make_batch(made, here.maps, explaining))
        except (harness.NotApplicable, UserError) as reason:
            return str(reason)


# The model's outputs for neighbours make no more than curves of these: the score is about explanations.
OF_EXPLANATIONS = ("max_sensitivity", "avg_sensitivity", "local_lipschitz")
EASIER = {
    "effective_complexity": [{"least_probability": 0.0, "tolerance": 1e-3}],
    "explanation_consistency": [{"top_share": 1.0}],
    "explanation_sufficiency": [{"closeness": 50.0}],
    "minimal_subset": [{"subset": "sufficient"}, {"subset": "necessary"}],
    "impact_score": [{"lost_share": 0.5}, {"lost_share": 1.0}],
    "road": [{"score": "accuracy"}, {"score": "probability"}],
    "f_fidelity": [{"epochs": 0, "score": "accuracy"}, {"epochs": 0, "score": "probability"}],
    **dict.fromkeys(("sic", "aic"), [{"percents": (10, 50)}]),
}


@pytest.mark.parametrize(
    ("metric", "options"), [(name, options) for name in QUALITY for options in EASIER.get(name, [{}])], ids=str
)
def test_outputs_that_are_not_numbers_give_no_score(metric, options):
    entry, options, sound = METRICS[metric], small(METRICS[metric], **SMALLER) | options, BrittleWorld()
    usual = scored_or_refused(entry, options, sound)
    if isinstance(usual, str) or not sound.asked:  # there is nothing to break
        return
    found = scored_or_refused(entry, options, BrittleWorld(broken=math.nan))
    if isinstance(found, str):
        assert "nan" in found.lower()
    elif metric in OF_EXPLANATIONS:
        assert found.curves.isnan().all() and not usual.curves.isnan().any()
    else:
        assert usual.values.isfinite().any(), "else the next line could not fail"
        assert found.values.isnan().all() and found.reason == OUTPUTS_NOT_FINITE


class Mirrored(nn.Module):
    """A net of two classes with their places exchanged."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).flip(1)


@pytest.mark.parametrize(
    ("metric", "options"), [(name, options) for name in QUALITY for options in EASIER.get(name, [{}])], ids=str
)
def test_outputs_that_are_all_the_same_are_no_decision_for_the_first_class(metric, options):
    """With the two classes exchanged in the model, the data and the targets, every score is as before."""
    entry, options = METRICS[metric], small(METRICS[metric], **SMALLER) | options
    here, mirrored = BrittleWorld(0.0), BrittleWorld(0.0)
    classes = {name: 1 - getattr(here.data, name) for name in ("targets", "labels", "train_labels")}
    mirrored.model, mirrored.data = Mirrored(here.model).eval(), replace(here.data, **classes)
    found, other = (scored_or_refused(entry, options, each) for each in (here, mirrored))
    if isinstance(found, str):
        assert isinstance(other, str)
        return
    torch.testing.assert_close(other.values, found.values, rtol=1e-5, atol=1e-6, equal_nan=True)


# They read activations of baselines and of concepts, and no outputs.
OF_ACTIVATIONS = ("captum_deep_lift", "tcav")


@pytest.mark.parametrize("explainer", [name for name in EXPLAINERS if name not in OF_ACTIVATIONS])
def test_outputs_that_are_not_numbers_give_no_map(explainer):
    """The model has an answer for the samples and for training inputs."""
    here = BrittleWorld(math.nan, SHAPE if "image" in EXPLAINERS[explainer].modalities else (6,), knows_train=True)
    try:
        harness.explain(
            explainer, here.model, here.data, **few_steps(explainer) | options_of(EXPLAINERS[explainer], "")
        )
    except (harness.NotApplicable, UserError):  # a map with NaN is an error of the second kind
        return
    assert not here.asked
