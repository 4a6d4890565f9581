"""Tuning finds the best value of an option on one half of the samples, and tells on the other what it is worth."""

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.choosing.candidates import declared_evaluations
from harness.choosing.headline import headline_of
from harness.choosing.tune import LEAST_SAMPLES, tune_finalists, variants_of
from planted_scores import (
    HEADLINE,
    SRG,
    PlantedScores,
    candidate_called,
    explainer_called,
    measuring_of,
    real_candidate,
)

ROWS = tuple(range(100, 164))
TUNED = {"options": {"steps": 4}, "tunable": {"steps": (1, 2, 8)}, "cost": "steps F"}


def tuned(score, *, rows=ROWS, finalist=None, limit=float("inf"), affords=lambda candidates, samples: True):
    """The tuning of an explainer whose scores are ``score`` (steps, rows), and what was measured for it."""
    score_of = lambda explainer, metric, rows: score(explainer.options["steps"], rows)
    measuring = PlantedScores(score_of) if not isinstance(score, PlantedScores) else score
    finalist = finalist or candidate_called("planted", **TUNED)
    return tune_finalists(measuring, HEADLINE, [finalist], rows, limit, affords, lambda line: None), measuring


def worth(best, spread=0.2, seed=0):
    """Scores that are lower the farther the number of steps is from ``best``, by powers of two."""
    draw = np.random.default_rng(seed)
    return lambda steps, rows: -0.2 * abs(np.log2(steps / best)) + spread * draw.normal(size=len(rows))


def test_variants_differ_from_the_default_in_one_option():
    two = {"options": {"steps": 4, "start": "zero"}, "tunable": {"steps": (1,), "start": ("mean", "blur")}}
    variants = variants_of(explainer_called("planted", **two))
    assert [dict(each.options) for each in variants] == [
        {"steps": 1, "start": "zero"},
        {"steps": 4, "start": "mean"},
        {"steps": 4, "start": "blur"},
    ]


@pytest.mark.parametrize("best", [1, 2, 8])
def test_the_best_value_is_found_and_is_worth_what_was_planted(best):
    tuning, _ = tuned(worth(best))
    (found,), outcome = tuning.variants, tuning.outcomes.iloc[0]
    assert found.chosen.options["steps"] == best and outcome["used"]
    planted = 0.2 * abs(np.log2(best / 4))
    assert outcome["gain_held_out"] == pytest.approx(planted, abs=4 * 0.2 * np.sqrt(2 / 32))
    assert outcome["optimism"] == pytest.approx(outcome["gain_tuned"] - outcome["gain_held_out"])


def test_a_default_that_is_best_stays():
    tuning, _ = tuned(worth(4, spread=0.05))
    assert not tuning.variants and tuning.outcomes.iloc[0]["reason"] == "the default is best"


def test_without_a_best_value_the_gain_is_optimistic_on_the_tuned_half_and_unbiased_on_the_other():
    draw, gains = np.random.default_rng(1), []
    for _ in range(300):
        scores = {steps: draw.normal(size=ROWS[-1] + 1) for steps in (1, 2, 4, 8)}
        outcome = tuned(lambda steps, rows, scores=scores: scores[steps][rows])[0].outcomes.iloc[0]
        gains.append((outcome["gain_tuned"], outcome["gain_held_out"], outcome["optimism"]))
    means, errors = np.mean(gains, axis=0), np.std(gains, axis=0) / np.sqrt(len(gains))
    assert means[0] > 5 * errors[0] and means[2] > 5 * errors[2]
    assert abs(means[1]) < 3 * errors[1]
    # The best of four independent means of 32 samples is above them by 1.03 of their standard errors. It is less here,
    # since on the first rungs fewer samples decide.
    assert 0.6 < means[0] / (1.03 / np.sqrt(32)) < 1


def test_no_half_uses_samples_of_the_other_and_all_that_are_compared_see_the_same():
    _, measuring = tuned(worth(8))
    tuning, held_out = ({*ROWS[0::2]}, {*ROWS[1::2]})
    for part, _ in measuring.asked:
        assert set(part.rows) <= (held_out if part.name.startswith("held out") else tuning), part.name
    last = [names for part, names in measuring.asked if part.name.startswith("held out")]
    assert [len(names) for names in last] == [2] and "planted" in last[0]  # the best variant and the default
    assert set().union(*(part.rows for part, _ in measuring.asked)) == set(ROWS)


def test_each_rung_keeps_the_better_half_and_the_last_one():
    rungs = tuned(worth(8, spread=0.01))[0].rungs
    assert rungs.groupby("rung")["variant"].count().tolist() == [4, 2, 1]
    assert rungs.groupby("rung")["samples"].first().tolist() == [8, 16, 32]
    assert rungs.groupby("rung")["kept"].sum().tolist() == [2, 1, 1]
    for _, rung in rungs.groupby("rung"):
        assert rung["kept"].tolist() == sorted(rung["kept"], reverse=True) and rung["mean"].is_monotonic_decreasing


def test_equal_values_leave_the_default():
    assert not tuned(lambda steps, rows: np.ones(len(rows)))[0].variants


def test_a_variant_that_fails_is_never_the_best():
    broken = lambda explainer, metric, rows: "failed" if explainer.options["steps"] == 8 else np.zeros(len(rows))
    assert not tuned(PlantedScores(broken))[0].variants


def test_a_variant_without_scores_on_the_other_half_is_not_used():
    of_half = lambda steps, rows: np.where((rows % 2 == 1) & (steps == 8), np.nan, steps / 8)
    outcome = tuned(of_half)[0].outcomes.iloc[0]
    assert not outcome["used"] and outcome["reason"] == "samples have no score" and np.isnan(outcome["gain_held_out"])


@pytest.mark.parametrize(("limit", "best"), [(1.0, [8]), (0.05, [2]), (0.015, [])])
def test_a_variant_that_takes_longer_than_the_limit_is_not_kept(limit, best):
    worths = {8: 0.9, 2: 0.6, 4: 0.5, 1: 0.1}

    def score(explainer, metric, rows):
        steps = explainer.options["steps"]
        return np.full(len(rows), worths[steps] if metric is SRG else 0.01 * steps)

    tuning, _ = tuned(PlantedScores(score), limit=limit)
    assert [each.chosen.options["steps"] for each in tuning.variants] == best
    kept = tuning.rungs[tuning.rungs["kept"]]
    assert (kept.loc[kept["variant"] != "planted", "seconds_per_sample"] <= limit).all()


def test_the_price_of_a_variant_follows_from_its_declared_cost():
    asked = []
    finalist = candidate_called("planted", seconds=0.4, **TUNED)
    finalist.estimate = declared_evaluations(finalist.chosen)
    affords = lambda candidates, samples: asked.append((candidates, samples))
    tuning, measuring = tuned(worth(8), finalist=finalist, affords=affords)
    assert tuning.outcomes.iloc[0]["reason"] == "the budget does not suffice" and not measuring.asked
    (candidates, samples), *_ = asked
    assert samples == 16 and sorted({round(each.seconds, 6) for each in candidates}) == [0.1, 0.2, 0.4, 0.8]
    tuning, measuring = tuned(worth(8), finalist=finalist)
    measured = {(part, name) for part, names in measuring.asked for name in names}
    taken = sum(seconds_of(name) * len(part) for part, name in measured)
    assert taken <= samples * sum(each.seconds for each in candidates) + 1e-9
    assert tuning.variants[0].seconds == pytest.approx(0.8)


def seconds_of(label):
    """What an explainer with so many steps takes, at 0.1 s a step."""
    return 0.1 * int(label.partition("steps=")[2].rstrip(")") or 4)


@pytest.mark.parametrize("count", [0, LEAST_SAMPLES - 1])
def test_too_few_samples_are_said(count):
    tuning, measuring = tuned(worth(8), rows=ROWS[:count])
    assert f"{count} samples, {LEAST_SAMPLES} are needed" in tuning.outcomes.iloc[0]["reason"] and not measuring.asked


def test_an_explainer_without_tunable_options_is_not_tuned():
    tuning, measuring = tuned(worth(8), finalist=candidate_called("plain", options={"steps": 4}))
    assert not len(tuning.outcomes) and not measuring.asked


def muddied(model, inputs, targets, *, mud=0.5):
    """Input times gradient with a share of noise."""
    inputs = inputs.requires_grad_()
    right = inputs * torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]
    noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    return (1 - mud) * right.detach() + mud * right.detach().std() * noise


def test_an_option_of_a_real_explainer_is_tuned_on_a_real_model():
    model = nn.Sequential(nn.Linear(12, 2)).eval()
    data = harness.Data(torch.randn(64, 12), train=torch.randn(64, 12), task="classes")
    measuring = measuring_of(model, data)
    headline = headline_of(measuring.stage)
    finalist = real_candidate(muddied, tunable={"mud": (0.0, 0.9)})
    afford = lambda candidates, samples: True
    tuning = tune_finalists(measuring, headline, [finalist], range(64), float("inf"), afford, lambda line: None)
    assert [each.chosen.options["mud"] for each in tuning.variants] == [0.0]
    assert tuning.outcomes.iloc[0]["gain_held_out"] > 0.02
