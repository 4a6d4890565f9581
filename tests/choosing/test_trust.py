"""Which metrics are trusted: those that see noise in maps, and no others; and which differences can be found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

import harness
from harness.choosing.headline import sign_of
from harness.choosing.measuring import Part
from harness.choosing.noise_ladder import LEVELS
from harness.choosing.power import Planned, Step, spreads_found
from harness.choosing.trust import LARGER_ERROR, MISTAKES, trust_metrics
from harness.engine.selection import choose_one
from harness.registry import METRICS
from harness.results.family import all_pairs
from harness.results.matrices import Matrix
from planted_scores import DELETION, SRG, PlantedScores, explainer_called, measuring_of, most_by_chance

PLANNED = Planned(18, 3, 0.025)
SOURCES = {name: explainer_called(name) for name in ("a", "b", "c")}


def trusted(score, *, samples=12, metrics=(SRG,), sources=SOURCES, random=None, planned=PLANNED):
    """What is found of metrics by which a map of a source, with a share of noise, has the scores ``score`` says:
    a function of source, share of noise, metric and rows."""
    rows = np.arange(samples)
    tables = {
        metric.label: pd.DataFrame({name: sign_of(metric) * score(name, 0.0, metric, rows) for name in sources})
        for metric in metrics
    }
    for metric in metrics if random is not None else ():
        tables[metric.label]["random"] = sign_of(metric) * random(rows)
    of_step = lambda step, metric, rows: score(step.options["source_of"], step.options["noise"], metric, rows)
    measuring = PlantedScores(of_step)
    part = Part("trust", tuple(range(samples)))
    about = {"random": "random", "planned": planned, "smallest": 1e-6}
    return trust_metrics(measuring, part, tables, sources, metrics, **about), measuring


def falling(drop=1.0, spread=0.3, seed=0):
    """Scores that fall in a line from ``drop`` to 0 with the noise."""
    draw = np.random.default_rng(seed)
    return lambda source, noise, metric, rows: drop * (1 - noise) + spread * draw.normal(size=len(rows))


def test_a_metric_that_sees_noise_is_trusted_with_the_drop_that_was_planted():
    trust, _ = trusted(falling(), samples=24, random=lambda rows: np.random.default_rng(1).normal(0, 0.3, len(rows)))
    (found,) = trust.found
    assert trust.used == ["srg"] and abs(found.drop[0] - 1) < 4 * 0.3 * np.sqrt(2 / 24)
    assert found.itself[0] < 0 < found.itself[1]
    assert trust.table()["noise"].tolist() == list(LEVELS) and trust.table()["used"].all()


def test_of_a_metric_that_is_better_when_lower_scores_must_rise_with_noise():
    rising = falling(drop=-1.0)
    assert trusted(rising, metrics=(DELETION,))[0].used == ["deletion"]
    assert trusted(falling(), metrics=(DELETION,))[0].used == []


NOTHING = "does not score worse"
UNTRUSTED = {
    "constant": (lambda source, noise, metric, rows: np.full(len(rows), 0.1), NOTHING),
    "constant, but for rounding": (
        lambda source, noise, metric, rows: 0.1 + rows / 7 + 1e-9 * (1 - noise) * (1 + rows % 3),
        NOTHING,
    ),
    "no more than rounding": (
        lambda source, noise, metric, rows: (1 - noise) * (5 + rows % 3) * 1e-9,
        "the same score but for rounding",
    ),
    "random": (falling(drop=0.0), NOTHING),
    "reversed": (falling(drop=-1.0), NOTHING),
    "worse by a little noise only": (
        lambda source, noise, metric, rows: np.interp(noise, LEVELS, [1, 0.02, 0.01, 0.5, 0.49]) + rows % 4 / 10,
        "more noise scores better on step 3",
    ),
    "without scores": (
        lambda source, noise, metric, rows: np.full(len(rows), np.nan if noise else 1.0),
        "4 are needed",
    ),
}


@pytest.mark.parametrize("kind", UNTRUSTED)
def test_a_metric_that_does_not_see_noise_is_not_trusted(kind):
    score, reason = UNTRUSTED[kind]
    trust, _ = trusted(score)
    assert not trust.used and reason in trust.found[0].reason and trust.step is None


def test_a_metric_without_any_candidate_has_a_reason():
    trust, _ = trusted(falling(), sources={})
    assert trust.found[0].reason == "no candidate has a score"


def test_a_metric_by_which_random_maps_differ_from_noise_is_not_trusted():
    trust, _ = trusted(
        falling(), samples=32, random=lambda rows: 0.8 + np.random.default_rng(1).normal(0, 0.3, len(rows))
    )
    assert trust.found[0].reason == "two random maps score differently" and not trust.used


def test_without_random_maps_nothing_is_said_about_them():
    trust, _ = trusted(falling())
    assert trust.used and np.isnan(trust.found[0].itself).all()


# Scores with a mean of 0, about.
NULLS = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "skewed": lambda draw, shape: draw.exponential(size=shape) - 1,
    "rare": lambda draw, shape: (draw.random(shape) < 0.1) - 0.1,
    "long tails": lambda draw, shape: draw.standard_t(2, size=shape),
}
MANY = {str(number): explainer_called(str(number)) for number in range(8)}


def random_scores(draw, null, samples, *, fading=False):
    """Scores by which no map is better than another: of each map random numbers, the same whenever it is scored. With
    ``fading`` those of a map that is mixed with noise come from those of its source."""
    drawn = NULLS[null](draw, (len(MANY), len(LEVELS), samples))

    def score(source, noise, metric, rows):
        own = drawn[int(source), LEVELS.index(noise), rows]
        return own + (1 - noise) * drawn[int(source), 0, rows] if fading else own

    return score


@pytest.mark.parametrize("fading", [False, True], ids=["", "fading"])
@pytest.mark.parametrize("samples", [6, 24])
@pytest.mark.parametrize("null", NULLS)
def test_a_metric_that_sees_nothing_is_trusted_in_at_most_five_percent(null, samples, fading):
    draw, runs, false = np.random.default_rng([samples, len(null), fading]), 150, 0
    for _ in range(runs):
        score = random_scores(draw, null, samples, fading=fading)
        false += bool(trusted(score, samples=samples, sources=MANY)[0].used)
    assert false <= most_by_chance(runs, MISTAKES)


def test_of_three_metrics_that_see_nothing_one_is_trusted_in_at_most_five_percent():
    draw, runs, false = np.random.default_rng(2), 200, 0
    metrics = tuple(replace(SRG, label=f"srg {number}") for number in range(3))
    for _ in range(runs):
        scores = {metric.label: random_scores(draw, "normal", 12, fading=True) for metric in metrics}
        of_metric = lambda source, noise, metric, rows, scores=scores: scores[metric.label](source, noise, metric, rows)
        false += bool(trusted(of_metric, metrics=metrics, sources=MANY)[0].used)
    assert false <= most_by_chance(runs, MISTAKES)


def test_a_source_from_the_same_samples_or_an_error_that_knows_nothing_of_the_halves_would_be_trusted_too_often():
    draw, runs = np.random.default_rng(3), 600
    crossed = simple = same = 0
    for _ in range(runs):
        score = random_scores(draw, "normal", 12, fading=True)
        found = trusted(score, sources=MANY)[0]
        crossed += bool(found.used)
        # The same statistic with the error that the spread alone would have.
        simple += stats.t.sf(stats.t.isf(found.found[0].falls, 11) * LARGER_ERROR, 11) < MISTAKES
        best = max(MANY, key=lambda name: score(name, 0.0, SRG, np.arange(12)).mean())
        same += bool(trusted(score, sources={best: MANY[best]})[0].used)
    assert crossed <= most_by_chance(runs, MISTAKES) < min(simple, same), (crossed, simple, same)


def test_the_source_of_each_half_is_the_best_on_the_other():
    best_on = lambda source, rows: (rows % 2 == 0) == (source == "a")  # a on even samples, b on odd ones
    _, measuring = trusted(lambda source, noise, metric, rows: (1 - noise) * best_on(source, rows) + 0.0)
    sources = {tuple(part.rows)[0] % 2: {name.split()[0] for name in names} for part, names in measuring.asked}
    assert sources == {0: {"b"}, 1: {"a"}}


def weighted(context, maps):
    """By a linear model of two classes the right map is weight times input."""
    right = context.inputs * torch.arange(1.0, 9.0) * (2 * context.targets[:, None] - 1)
    return nn.functional.cosine_similarity(maps, right, dim=1)


TOYS = {
    "sees": (lambda batch: weighted(batch, batch.attributions), True),
    "reversed": (lambda batch: -weighted(batch, batch.attributions), False),
    "constant": (lambda batch: torch.full((len(batch.inputs),), 0.3), False),
    "of the input only": (lambda batch: batch.inputs.sum(1), False),
    "of a few digits": (lambda batch: (1e4 * batch.attributions.sum(1)).sin(), False),
}


@pytest.mark.parametrize("toy", TOYS)
def test_metrics_of_the_users_own_are_trusted_if_they_see_noise(toy):
    function, sees = TOYS[toy]

    def own(batch):
        return function(batch)

    model = nn.Sequential(nn.Linear(8, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(1.0, 9.0) * torch.tensor([[-0.5], [0.5]]))
    inputs = torch.randn(40, 8)
    metric = choose_one(METRICS, {"name": own, "label": "own"})
    metric = replace(metric, entry=replace(metric.entry, better="higher"))
    measuring = measuring_of(model, harness.Data(inputs, task="classes"))
    explainers = {name: harness.registry.EXPLAINERS[name] for name in ("saliency", "input_x_gradient", "random")}
    chosen = {name: choose_one(harness.registry.EXPLAINERS, name) for name in explainers}
    part = Part("trust", tuple(range(16)))
    measured = measuring.measure(part, list(chosen.values()), [metric])
    table = pd.DataFrame({name: measured.values[name, "own"] for name in chosen})
    sources = {name: chosen[name] for name in ("saliency", "input_x_gradient")}
    trust = trust_metrics(measuring, part, {"own": table}, sources, [metric], random="random", planned=PLANNED)
    assert bool(trust.used) == sees, trust.found[0].reason
    if sees:
        assert trust.found[0].ladder[0] > 0.99 and abs(trust.found[0].ladder[-1]) < 0.4


# Power


@pytest.mark.parametrize(
    ("tested", "planned"), [(6, (8, 2)), (12, (18, 2)), (12, (18, 4)), (24, (36, 6)), (32, (100, 2))]
)
def test_a_difference_that_is_said_to_be_detectable_is_found_four_times_in_five(tested, planned):
    """On normal differences, whose spread is known from the samples that test metrics only."""
    planned, draw = Planned(*planned, 0.025), np.random.default_rng(planned)
    runs, found = 300 if planned.compared < 6 else 120, 0
    for _ in range(runs):
        step = Step.of(draw.normal(size=tested), np.arange(tested) % 2)
        scores = draw.normal(0, np.sqrt(0.5), (planned.samples, planned.compared))  # differences have a spread of 1
        scores[:, 0] += step.detectable(planned)
        names = [str(number) for number in range(planned.compared)]
        family = all_pairs(Matrix({"metric": ""}, pd.DataFrame(scores, columns=names), "higher"), alpha=planned.alpha)
        found += family.better("0", "1")
    error = 3 * np.sqrt(0.8 * 0.2 / runs)
    assert 0.8 - error - 0.03 <= found / runs <= 0.8 + error + 0.05


def test_smaller_differences_are_detectable_with_more_samples_fewer_explainers_and_a_spread_that_is_known_better():
    usual = spreads_found(Planned(30, 4, 0.025), 20)
    assert spreads_found(Planned(90, 4, 0.025), 20) < 0.65 * usual
    assert spreads_found(Planned(30, 2, 0.025), 20) < usual < spreads_found(Planned(30, 8, 0.025), 20)
    assert spreads_found(Planned(30, 4, 0.1), 20) < usual < spreads_found(Planned(30, 4, 0.025), 4)
    assert spreads_found(Planned(5, 4, 0.025), 20) == float("inf")  # no five signs are that rare


def test_the_spread_is_that_within_halves_whose_best_maps_differ():
    draw = np.random.default_rng(0)
    halves = np.arange(4000) % 2
    step = Step.of(draw.normal(0, 0.5, 4000) + 3 * halves, halves)
    assert step.spread == pytest.approx(0.5, rel=0.05) and step.drop == pytest.approx(1.5, rel=0.05)
    assert np.isnan(Step.of(np.ones(2), np.array([0, 1])).detectable(PLANNED))
    assert np.isnan(Step.of(np.empty(0), np.empty(0)).detectable(PLANNED))


def test_the_ladder_tells_what_is_detectable_by_each_metric():
    trust, _ = trusted(falling(spread=0.3), samples=24, metrics=(SRG, DELETION))
    table = trust.table().groupby("metric", sort=False)[["spread", "detectable", "samples_to_confirm"]].first()
    assert table.loc["srg", "spread"] == pytest.approx(0.3 * np.sqrt(2), rel=0.4)
    ratio = table["detectable"] / table["spread"]
    assert ratio.tolist() == pytest.approx([spreads_found(PLANNED, 22)] * 2) and set(table["samples_to_confirm"]) == {
        18
    }
    assert trust.step.spread == pytest.approx(table.loc["srg", "spread"])  # the only one that is used
