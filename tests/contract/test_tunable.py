"""The values that explainers declare for tuning: each runs, for a bounded cost, and each option changes the map."""

import math
import os

import pytest
import torch
from torch import nn

import harness
from harness.registry import EXPLAINERS
from pairs import NETS, Case


def _with_large_logits(*layers):
    """A net whose classes are as far apart as those of a trained one."""
    layers[-1].weight.data *= 10
    return nn.Sequential(*layers)


def _image_net():
    """Channels of both signs at the last layer with places, and a bent function behind it."""
    seeing = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten()
    return _with_large_logits(*seeing, nn.Linear(384, 8), nn.ReLU(), nn.Linear(8, 3))


def _smooth_net():
    return _with_large_logits(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(600, 3))


def _series_net():
    return _with_large_logits(nn.Conv1d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(42, 3))


def _table_net():
    """Classes of about equal size with bent borders."""
    net = nn.Sequential(nn.Linear(7, 16, bias=False), nn.Tanh(), nn.Linear(16, 3, bias=False))
    net[0].weight.data *= 4
    return net


WORLDS = NETS | {
    "image": (_image_net, (3, 12, 12)),
    "smooth image": (_smooth_net, (3, 12, 12)),
    "series": (_series_net, (2, 9)),
    "table": (_table_net, (7,)),
}
TUNED = {name: entry for name, entry in EXPLAINERS.items() if entry.tunable}
OF_ATTENTION = {"attention", "attention_rollout", "transformer_attribution", "attn_lrp", "cp_lrp"}
ONLY_SMOOTH = {"integrated_hessians"}
# Few steps of descents, and short ones where a long one crosses the border of these nets at once.
HERE = {
    "dyna_mask": {"steps": 60},
    "extremal_perturbation": {"steps": 30},
    "extrmask": {"steps": 60},
    "agi": {"step_size": 0.005},
}
# Options that the work is proportional to.
BUDGETS = ("alternatives", "beam", "images", "permutations", "repeats", "samples", "steps", "trees")


def world_of(entry):
    """The kind of net that an explainer is tried on."""
    if entry.name in OF_ATTENTION:
        return "attention image"
    if entry.name in ONLY_SMOOTH:
        return "smooth image"
    return next(kind for kind in ("image", "series", "table") if kind in entry.modalities)


def case_of(entry):
    """A model and data for an explainer; a table has rows enough for rules, and the labels that the model predicts."""
    case = Case(world_of(entry), seed=int(os.environ["HARNESS_TEST_SEED"]) % 10_000, nets=WORLDS)
    if case.modality == "table":
        case.train = torch.randn(400, 7)
    case.train_labels = case.model(case.train).argmax(1)
    return case


def maps_of(entry, case, **options):
    """Its maps of the first samples, all of a table's."""
    rows = slice(None) if case.modality == "table" else slice(2)
    return harness.explain(
        entry.name,
        case.model,
        harness.Data(
            case.inputs[rows],
            case.model(case.inputs[rows]).argmax(1),
            modality=case.modality,
            train_labels=case.train_labels,
            value_range=(-4.0, 4.0),
        ),
        train=case.train,
        **HERE.get(entry.name, {}) | options,
    )


@pytest.mark.parametrize("name", TUNED)
def test_every_value_has_a_finite_map_or_is_not_applicable_and_every_option_changes_the_map(name):
    entry, case = TUNED[name], case_of(TUNED[name])
    usual, changed = maps_of(entry, case), dict.fromkeys(entry.tunable, False)
    for option, values in entry.tunable.items():
        for value in values:
            try:
                found = maps_of(entry, case, **{option: value})
            except harness.NotApplicable as reason:
                assert str(reason)
                continue
            assert found.isfinite().all(), (option, value)
            changed[option] |= not torch.allclose(found, usual, rtol=1e-3, atol=1e-3 * float(usual.abs().max()))
    assert all(changed.values()), changed


@pytest.mark.parametrize("name", TUNED)
def test_few_options_are_tuned_for_at_most_eight_times_the_usual_cost(name):
    entry = TUNED[name]
    assert len(entry.tunable) <= 3
    factors = [max(entry.tunable[each]) / entry.options[each] for each in BUDGETS if each in entry.tunable]
    if "segments" in entry.tunable and "K" in entry.cost:  # 196 where ``auto`` has 50
        factors.append(4)
    assert math.prod(factors) <= 8


def test_what_has_nothing_to_tune_declares_nothing():
    for entry in EXPLAINERS.values():
        if entry.control or entry.stored or entry.caveat:  # rows with a caveat have no rank
            assert not entry.tunable, entry.name
