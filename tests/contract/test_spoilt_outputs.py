"""Outputs that are NaN or infinite, at one sample of a batch or at all: what every explainer makes of them."""

import math

import pytest
import torch
from torch import nn

import harness
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.guards import guarded
from harness.registry import EXPLAINERS
from pairs import Case, small_options

MARK, LARGE = 30.0, 10.0  # the number that marks an input, and above which a number marks it
# Nets to explain, of which each explainer has the first that it is applicable to.
KINDS = ("image", "table", "series", "tokens", "attention image", "attention tokens")
# They need a file of maps, or a model of trees.
WITHOUT_A_NET = ("precomputed", "tree_shap")
# What they show follows from a layer's activations or weights, or from other inputs, and from no output for the sample.
NOT_FROM_OUTPUTS = ("activation_map", "attention", "attention_rollout", "eigen_cam")


class Marked(nn.Module):
    """A net whose outputs are multiplied by ``factor`` for inputs in which one number is large."""

    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor, self.spoilt = net, factor, []

    def forward(self, inputs):
        marked = inputs.detach().flatten(1).amax(1) > LARGE
        self.spoilt.append(int(marked.sum()))
        return self.net(inputs) * torch.where(marked, self.factor, 1.0)[:, None]


def options_of_logits(entry, modality):
    """Small budgets, and the logit as the score: of an infinite output the probability may be finite."""
    has_logit = "score" in entry.options and "logit" in entry.kind_of("score").words()
    return small_options(entry, modality) | ({"score": "logit"} if has_logit else {})


def maps_of(entry, case, model):
    """The raw attributions, however many are NaN: those of a sample may be refused, and no more."""
    data = harness.Data(
        case.inputs,
        case.targets[:2],
        modality=case.modality,
        train=case.train,
        train_labels=case.train_labels,
        truth=case.truth[:2],
    )
    samples = samples_of(model, data)
    explaining = Explaining(entry, entry.complete(options_of_logits(entry, case.modality)), model)
    with guarded(model):
        explaining.prepare(samples)
        model.spoilt.clear()
        return explaining(samples)


def served_by(entry):
    """Two samples of the first kind that the explainer is applicable to, and their maps if all outputs are sound."""
    for kind in KINDS:
        if kind.split()[-1] in entry.modalities:
            case = Case(kind, 0)
            case.inputs = case.inputs[:2].clone()
            try:
                return case, maps_of(entry, case, Marked(case.model, 1.0).eval())
            except harness.NotApplicable:
                continue
    raise AssertionError(f"{entry.name} is applicable to none of the nets")


@pytest.mark.parametrize("name", [name for name in EXPLAINERS if name not in WITHOUT_A_NET])
def test_a_sample_without_outputs_has_no_map_and_takes_none_from_the_other(name):
    entry = EXPLAINERS[name]
    case, sound = served_by(entry)
    for factor, marked in ((math.nan, [1]), (math.inf, [1]), (math.nan, [0, 1])):
        model = Marked(case.model, factor).eval()
        for row in marked:
            case.inputs[row].view(-1)[4] = MARK
        found = maps_of(entry, case, model)
        if 0 not in marked and "company" not in entry.breaks:
            torch.testing.assert_close(found[0], sound[0], rtol=1e-5, atol=1e-6 * float(sound.abs().max()))
        if any(model.spoilt) and name not in NOT_FROM_OUTPUTS:
            assert not found[marked].flatten(1).isfinite().all(1).any(), (factor, marked)
