"""The least values of each option, the next ones and each word, on small nets: a number, or a reason for none."""

import os
import warnings

import pytest

import harness
from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.errors import UserError
from harness.guards import guarded
from harness.registry import EXPLAINERS, METRICS
from option_values import edges
from small_nets import few_steps
from test_degenerate_worlds import QUALITY, World, options_of

# All take two minutes, so a run takes every fifth of the values of an item: with HARNESS_TEST_SEED=1 the next ones.
TURNS = 5
TURN = int(os.environ.get("HARNESS_TEST_SEED", "0")) % TURNS


def values_in_turn(entry):
    """Option and value, of every option of an item, as far as it is their turn."""
    every = [(option, value) for option in entry.options for value in edges(entry.kind_of(option))]
    return every[TURN::TURNS]


def world_of(entry):
    return World() if "image" in getattr(entry, "modalities", ("image",)) else World(shape=(6,))


@pytest.mark.parametrize("name", EXPLAINERS)
def test_an_explainer_has_a_finite_map_or_says_why_not(name):
    entry, here = EXPLAINERS[name], world_of(EXPLAINERS[name])
    for option, value in values_in_turn(entry):
        options = {**few_steps(name), **options_of(entry, ""), option: value}
        try:
            maps = quiet(lambda options=options: harness.explain(name, here.model, here.data, **options))
        except (harness.NotApplicable, UserError) as reason:
            assert str(reason) and "\n" not in str(reason)
            continue
        assert maps.isfinite().all(), (option, value)


@pytest.mark.parametrize("name", QUALITY)
def test_a_metric_has_a_number_or_a_reason(name):
    entry, here = METRICS[name], World()
    for option, value in values_in_turn(entry):
        options = {**options_of(entry, ""), option: value}
        try:
            found = quiet(lambda options=options: scored(entry, here, options))
        except (harness.NotApplicable, UserError) as reason:
            assert str(reason) and "\n" not in str(reason)
            continue
        assert not found.values.isinf().any(), (option, value)
        assert found.reason or not found.values.isnan().any(), (option, value)


def scored(entry, here, options):
    made = samples_of(here.model, here.data)
    explaining = Explaining(EXPLAINERS["input_x_gradient"], {}, here.model)
    with guarded(here.model):
        explaining.prepare(made)
        return score_batch(entry, entry.complete(options), make_batch(made, here.maps, explaining))


def quiet(work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()
