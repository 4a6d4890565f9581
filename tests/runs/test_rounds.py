"""Samples in growing rounds: as many as a precision takes, with intervals that also decide when to stop."""

import math
import os

import numpy as np
import pandas as pd
import pytest
import torch

import harness
import toys
from harness.errors import UserError
from harness.identity import cell_id
from harness.jobs import sample_rounds
from harness.jobs.blocks import run_block
from harness.jobs.part_rows import FIRST_ROUND
from harness.jobs.plan import Plan
from harness.results.apart import told_apart
from harness.results.frames import read
from harness.results.precision import widest_interval
from harness.results.statistics import NO_LIMITS

SEED = int(os.environ["HARNESS_TEST_SEED"])
DRAWS = {
    "normal": (lambda random, n: random.normal(0.3, 0.2, n), 0.3, NO_LIMITS, 0.02),
    "near 0 and 1": (lambda random, n: random.beta(0.3, 0.6, n), 1 / 3, (0.0, 1.0), 0.04),
    "skewed": (lambda random, n: random.exponential(0.1, n), 0.1, NO_LIMITS, 0.02),
    "few hits": (lambda random, n: (random.random(n) < 0.1).astype(float), 0.1, (0.0, 1.0), 0.04),
    "heavy tails": (lambda random, n: random.standard_t(4, n), 0.0, NO_LIMITS, 0.2),
}


def stopped(draw, limits, precision, random):
    """The scores that are there when the interval is narrow enough, and the width of the interval."""
    scores = draw(random, FIRST_ROUND)
    while True:
        _, width = widest_interval({"one": scores}, limits)
        if width <= precision:
            return scores, width
        scores = np.concatenate([scores, draw(random, len(scores))])


@pytest.mark.parametrize("factor", [1, 3])
@pytest.mark.parametrize("kind", DRAWS)
def test_the_true_mean_is_as_near_as_the_interval_says_in_95_percent_of_the_runs(kind, factor):
    draw, mean, limits, precision = DRAWS[kind]
    random, count, precision = np.random.default_rng([SEED, len(kind)]), 600, factor * precision
    found = [stopped(draw, limits, precision, random) for _ in range(count)]
    held = np.mean([abs(scores.mean() - mean) <= width for scores, width in found])
    assert held >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / count)
    assert max(width for _, width in found) <= precision


def test_what_has_fewer_than_two_scores_is_not_known():
    assert widest_interval({"a": np.array([1.0, np.nan]), "b": np.arange(20.0)}, NO_LIMITS) == ("a", math.inf)
    assert widest_interval({}, NO_LIMITS) == ("", 0.0)


@pytest.mark.parametrize("score", [0.0, 0.3, 7.0])
def test_scores_that_are_all_one_number_do_not_end_the_rounds_at_once(score):
    """They are known as well as the share of samples that has them; nothing is known without any limit or spread."""
    alike = lambda n: np.full(n, score)
    limited = [widest_interval({"a": alike(n)}, (0.0, 10.0))[1] for n in (5, 50, 5000)]
    assert limited[0] > 1 > limited[1] > limited[2] > 0 and limited[2] < 0.01
    assert widest_interval({"a": alike(5), "b": alike(5)}, (0.0, math.inf))[1] == math.inf
    beside = {"control": alike(5000), "own": score + np.linspace(-1, 1, 5000)}
    name, half = widest_interval(beside, (0.0, math.inf))
    assert name == "own" and half < 0.02 < widest_interval({n: v[:50] for n, v in beside.items()}, NO_LIMITS)[1]


# Two explainers' scores of the same samples, which have the same mean; and the limits of scores, where there are any.
EQUAL_MEANS = {
    "normal": (lambda random, n: random.normal(size=(2, n)) + random.normal(size=n), None),
    "heavy tails": (lambda random, n: random.standard_t(3, size=(2, n)), None),
    "skewed, with limits": (lambda random, n: np.stack([random.beta(0.3, 2.7, n), np.full(n, 0.1)]), (0.0, 1.0)),
    "rare hits": (lambda random, n: (random.random((2, n)) < 0.05).astype(float), (0.0, 1.0)),
}


def told(draw, limits, random, most, shift=0.0):
    """What ``told_apart`` says at the first look, after rounds of samples, where it says something; else None."""
    scores, size = draw(random, most), FIRST_ROUND
    while size <= most:
        found = told_apart({"first": scores[0, :size] + shift, "second": scores[1, :size]}, limits)
        if found:
            return found
        size *= 2
    return None


# A test that looks afresh each time is wrong in about 15 percent of the runs: 98 percent of the times this finds it.
@pytest.mark.parametrize("kind", EQUAL_MEANS)
def test_equal_means_are_told_apart_in_at_most_5_percent_of_the_runs_however_often_one_looks(kind):
    draw, limits = EQUAL_MEANS[kind]
    random, count = np.random.default_rng([SEED, len(kind), 1]), 200
    wrong = np.mean([told(draw, limits, random, 320) is not None for _ in range(count)])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)


@pytest.mark.parametrize("side", ["first", "second"])
def test_different_means_are_told_apart_and_the_larger_one_is_named(side):
    draw, limits = EQUAL_MEANS["normal"]
    random = np.random.default_rng([SEED, 5])
    found = [told(draw, limits, random, 640, 0.5 if side == "first" else -0.5) for _ in range(50)]
    assert np.mean([each == side for each in found]) > 0.95
    scores = {name: random.random(400) * 0.5 + 0.5 * (name == side) for name in ("first", "second")}
    scores["first"][:50] = np.nan  # without a score these samples say nothing
    assert told_apart(scores, (0.0, 1.0)) == side
    assert told_apart({name: values[:50] for name, values in scores.items()}, (0.0, 1.0)) is None
    scores["second"][99] = 2.5
    with pytest.raises(UserError, match="scores of second reach from .* to 2.5, expected 0 to 1"):
        told_apart(scores, (0.0, 1.0))


@pytest.fixture
def block(config):
    """A hundred samples, and a metric whose mean is known better the more there are."""
    config["dataset"] = {"name": "toys:images", "count": 100}
    config["metric"] = {"drop": {"name": "toys:drop"}, "total": {"name": "toys:total"}}
    config["protocol"] = {"explain_batch": 5}
    return config


def at(block, precision, **protocol):
    """The block at a precision."""
    return {**block, "protocol": {**block["protocol"], "precision": precision, **protocol}}


def values(directory):
    scores = read(directory)[1]
    return scores.set_index(["explainer", "metric", "sample"])["value"].sort_index()


def assert_same_values(first, second):
    pd.testing.assert_series_equal(values(first), values(second), rtol=1e-5, atol=1e-7, check_index_type=False)


@pytest.mark.parametrize(("precision", "count"), [(10.0, 20), (0.025, 40), (1e-9, 100)])
def test_rounds_end_when_all_means_are_known_or_no_samples_are_left(precision, count, block):
    run = harness.run(at(block, precision))
    cells = read(run)[0]
    assert set(cells["n"]) == {count} and set(cells["status"]) == {"ok"} and len(cells) == 4
    whole = harness.run({**block, "run": "whole", "protocol": {**block["protocol"], "samples": count}})
    assert_same_values(run, whole)


@pytest.mark.parametrize("samples", [20, 30, 40])
def test_the_number_of_samples_of_the_protocol_is_the_most(samples, block, monkeypatch):
    run = harness.run(at(block, 1e-9, samples=samples))
    assert set(read(run)[0]["n"]) == {samples}
    monkeypatch.setattr("harness.jobs.runner.load_stage", lambda *_: pytest.fail("a model was loaded"))
    harness.run(at(block, 1e-9, samples=samples))


def test_data_that_ends_with_a_round_has_no_further_one(block):
    block["dataset"]["count"] = 40
    assert set(read(harness.run(at(block, 1e-9)))[0]["n"]) == {40}


@pytest.mark.parametrize(
    ("precision", "count", "said"),
    [(0.0, 40, "gradient is better than twice: enough"), (10.0, 20, "not told apart: enough")],
)
def test_rounds_end_when_two_explainers_are_told_apart_or_a_precision_is_reached(
    precision, count, said, block, monkeypatch, capsys
):
    real = sample_rounds.told_apart
    raised = lambda scores: {"gradient": scores["gradient"] + 100, "twice": scores["twice"]}
    enough = lambda scores, limits: real(raised(scores), None) if len(scores["twice"]) >= 40 else None
    monkeypatch.setattr(sample_rounds, "told_apart", enough)
    block["runtime"]["quiet"] = False
    block["metric"] = {"srg": {"steps": 4}}
    run = harness.run(at(block, precision, apart=["gradient", "twice"]))
    assert set(read(run)[0]["n"]) == {count}
    assert said in " ".join(capsys.readouterr().err.split())


def test_an_explainer_without_scores_ends_the_rounds_that_should_tell_it_apart(block, capsys):
    block["runtime"]["quiet"] = False
    block["explainer"] = {"gradient": {"name": "toys:gradient_map"}, "declines": {"name": "toys:not_for_you"}}
    run = harness.run(at(block, 0.0, apart=["gradient", "declines"]))
    cells = read(run)[0]
    assert set(cells["n"][cells["status"] == "ok"]) == {20}
    assert "declines has no scores" in " ".join(capsys.readouterr().err.split())


def test_either_order_of_two_explainers_is_the_same_protocol(block):
    names = list(block["explainer"])
    first, second = (Plan.of(at(block, 0.0, apart=pair)).cells[0].id for pair in (names, names[::-1]))
    assert first == second


def test_explainers_that_cannot_be_told_apart_are_refused_in_one_line(block):
    names = list(block["explainer"])
    for wrong, said in (
        (["gradient"], "expected the labels of two explainers"),
        (["gradient", "gradient"], "expected the labels of two explainers"),
        ([names[0], "gradeint"], "unknown explainer of protocol.apart 'gradeint'"),
    ):
        with pytest.raises(UserError, match=said):
            harness.run(at(block, 0.0, apart=wrong))
    block["metric"] = {"random_order": {}}
    with pytest.raises(UserError, match="needs a first metric that tells which explainer is better"):
        harness.run(at(block, 0.0, apart=names))
    with pytest.raises(UserError, match="only harness run measures samples in rounds"):
        given = {"explainers": "gradient", "metrics": "srg", "apart": ["gradient", "random"]}
        harness.evaluate(toys.net(), torch.rand(3, 3, 6, 6), torch.zeros(3, dtype=torch.long), **given)


def test_an_interrupted_round_is_resumed(block, monkeypatch):
    calls, real = [], sample_rounds.run_plan  # round 1 is interrupted before it begins

    def interrupted(plan, *arguments, **settings):
        calls.append(plan.round)
        if plan.round == 1:
            raise KeyboardInterrupt
        return real(plan, *arguments, **settings)

    monkeypatch.setattr(sample_rounds, "run_plan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        harness.run(at(block, 1e-9))
    monkeypatch.setattr(sample_rounds, "run_plan", real)
    run = harness.run(at(block, 1e-9))
    assert_same_values(run, harness.run({**block, "run": "whole"}))


def test_cells_that_are_added_later_have_as_many_samples_as_the_run(block):
    run = harness.run(at(block, 0.025))
    block["metric"]["srg"] = {"steps": 4}
    block["explainer"]["half"] = {"name": "toys:half_finite"}
    harness.run(at(block, 0.025))
    cells = read(run)[0]
    assert len(cells) == 9 and set(cells["n"] + cells["n_invalid"]) == {40}


def test_rounds_of_different_weights_are_not_joined_and_count_as_failed(block, monkeypatch):
    real = sample_rounds.run_plan

    def retrained(plan, *arguments, **settings):
        monkeypatch.setenv("RETRAINED", str(min(1, plan.round)))
        return real(plan, *arguments, **settings)

    monkeypatch.setattr(sample_rounds, "run_plan", retrained)
    assert run_block(Plan.of(at(block, 1e-9)))["failed"] == 4
    monkeypatch.setattr(sample_rounds, "run_plan", real)
    monkeypatch.setenv("RETRAINED", "1")
    run = harness.run(at(block, 1e-9))
    assert_same_values(run, harness.run({**block, "run": "whole"}))


def test_a_block_without_a_score_ends_after_the_first_round(block):
    block["explainer"] = {"declines": {"name": "toys:not_for_you"}}
    assert set(read(harness.run(at(block, 0.1)))[0]["status"]) == {"not_applicable"}


def test_the_identity_of_cells_without_a_precision_is_what_it_was_before_there_was_one(block):
    plan = Plan.of(block)
    identity = plan.identity(plan.explainers[0], plan.metrics[0])
    assert not {"precision", "apart"} & identity["protocol"].keys() and plan.cells[0].id == cell_id(identity)
    assert Plan.of(at(block, 0.1)).cells[0].id != plan.cells[0].id


def test_what_cannot_have_rounds_says_so(block):
    with pytest.raises(UserError, match="expected one: samples are measured in rounds or in shards"):
        harness.run({**at(block, 0.1), "runtime": {**block["runtime"], "shards": 2}})
    inputs, targets = torch.rand(3, 3, 6, 6), torch.zeros(3, dtype=torch.long)
    given = {"explainers": "gradient", "metrics": "srg", "precision": 0.1}
    with pytest.raises(UserError, match="only harness run measures samples in rounds"):
        harness.evaluate(toys.net(), inputs, targets, **given)
    with pytest.raises(UserError, match="only harness run measures samples in rounds"):
        harness.choose(toys.net(), inputs, targets, precision=0.1)
