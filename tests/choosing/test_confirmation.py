"""What is confirmed on fresh samples, and the conditions that are no scores: by explainers with planted faults."""

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.choosing.confirmation import check_conditions, confirm
from harness.choosing.confirmation_plan import PART, level_of_answer, parts_of_confirmation
from harness.choosing.finalists import most_confirmed
from harness.choosing.headline import Headline
from harness.choosing.measuring import InMemory, Part
from harness.choosing.split import Split
from harness.results.sanity import Bounds
from planted_scores import DELETION, HEADLINE, SRG, PlantedScores, candidate_called, measuring_of, real_candidate


def gradient_of(model, inputs, targets):
    """The gradient of the output that is explained."""
    inputs = inputs.detach().requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


def sane(model, inputs, targets):
    """Depends on weights and class, and hardly on small noise."""
    return gradient_of(model, inputs, targets)


def ignores_weights(model, inputs, targets):
    """A map of the input alone, with a sign of each class."""
    return inputs * (1 - 2 * (targets[:, None] % 2)) + inputs.roll(1, 1) * targets[:, None]


def ignores_class(model, inputs, targets):
    """The map of class 0, whatever is asked for."""
    return gradient_of(model, inputs, torch.zeros_like(targets))


def chaotic(model, inputs, targets):
    """Depends on weights and class; the smallest noise makes another map of it."""
    return gradient_of(model, inputs, targets) * (1e6 * inputs).sin()


def fails(model, inputs, targets):
    """Makes no map."""
    raise RuntimeError("no such luck")


def net(outputs):
    """A net with two layers that is not trained; its maps differ between classes."""
    draw = torch.Generator().manual_seed(4)
    layers = nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, outputs)
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw) / 3)
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def of_classes():
    """Real measuring of a net with four classes."""
    inputs = torch.rand(24, 12, generator=torch.Generator().manual_seed(5))
    return measuring_of(net(4), harness.Data(inputs, task="classes", value_range=(0, 1)))


FAULTS = {
    sane: ("pass", "pass", "pass"),
    ignores_weights: ("fail", "pass", "pass"),
    ignores_class: ("fail", "fail", "pass"),
    chaotic: ("pass", "pass", "fail"),
    fails: ("not done", "not done", "not done"),
}


@pytest.mark.parametrize("explainer", FAULTS, ids=lambda function: function.__name__)
def test_conditions_find_the_fault_of_an_explainer(of_classes, explainer):
    found = check_conditions(of_classes, real_candidate(explainer), range(4, 24))
    assert (found.sanity, found.per_class, found.stable) == FAULTS[explainer], found.rows.to_string()
    assert found.rows["check"].tolist() == ["sanity", "random_logit", "stability"]
    assert (found.rows["explainer"] == explainer.__name__).all()
    assert found.rows["reason"].str.contains("no such luck|no sample").all() == (explainer is fails)


def test_conditions_are_undecided_on_few_samples(of_classes):
    found = check_conditions(of_classes, real_candidate(sane), range(8))
    assert (found.sanity, found.per_class, found.stable) == ("undecided",) * 3
    assert found.rows["reason"].tolist() == [f"8 samples have a score, {Bounds().least} are needed"] * 3


def test_of_a_single_output_the_class_tells_nothing():
    inputs = torch.rand(20, 12, generator=torch.Generator().manual_seed(6))
    measuring = measuring_of(net(1), harness.Data(inputs, task="regression", value_range=(0, 1)))
    found = check_conditions(measuring, real_candidate(sane), range(20))
    assert (found.sanity, found.per_class, found.stable) == ("pass", "not applicable", "pass")


@pytest.mark.parametrize("count", [20, 50, 120, 400, 5000])
def test_no_sample_is_for_two_things_and_left_over_ones_confirm(count):
    split = Split.of(count, seed=3)
    assert sorted([*split.trust, *split.race, *split.confirmation]) == list(range(count))
    for taken in (8, len(split.race) // 2, len(split.race)):
        fresh = split.fresh(taken)
        assert not set(fresh) & {*split.trust, *split.race[:taken]} and set(fresh) >= set(split.confirmation)
        parts = parts_of_confirmation(split, taken, len(fresh))
        assert [row for part in parts for row in part.rows] == list(fresh)
        assert len({part.name for part in parts}) == len(parts)
        few = parts_of_confirmation(split, taken, min(2 * PART, len(split.confirmation)))
        assert parts[:1] == few[:1] or len(few[0]) < PART


def test_of_few_samples_one_half_confirms_and_few_explainers_are_confirmed():
    sizes = {count: tuple(Split.of(count, 0).sizes.values()) for count in (20, 50, 100, 1000, 5000)}
    assert sizes[20] == (6, 6, 8) and sizes[50] == (10, 15, 25) and sizes[100] == (20, 50, 30)
    assert sizes[1000] == (32, 868, 100) and sizes[5000] == (32, 4568, 400)
    assert [most_confirmed(size[-1]) for size in sizes.values()] == [1, 3, 3, 6, 6]


def test_all_answers_of_a_command_share_one_level_and_the_same_answer_keeps_its_own():
    keeper = InMemory()
    levels = [level_of_answer(keeper, [number], 0.025) for number in range(30)]
    assert sum(levels) == pytest.approx(0.025) and sum(levels) <= 0.025
    assert levels[0] == pytest.approx(0.75 * 0.025)
    assert level_of_answer(keeper, [2], 0.025) == levels[2]


MEANS = {"best": 0.6, "near": 0.59, "worse": 0.2, "random": 0.0}


def planted(explainer, metric, rows, *, lacking=()):
    """Scores about MEANS, that share what is hard about a sample; and seconds."""
    if metric.entry.name == "seconds_per_sample":
        return np.full(len(rows), 0.5)
    if explainer.label in lacking:
        return lacking[explainer.label]
    own = np.random.default_rng([1, *explainer.label.encode(), *rows]).normal(0, 0.05, len(rows))
    return MEANS[explainer.label] + 0.1 * np.sin(rows) + own


def confirmed(names=tuple(MEANS), headline=HEADLINE, score=planted, count=40):
    """A confirmation by planted scores."""
    candidates = [candidate_called(name, control=name == "random") for name in names]
    return confirm(PlantedScores(score), headline, candidates, [Part("confirmation", tuple(range(count)))], 0.025)


def test_planted_differences_are_shown_and_others_are_not():
    found = confirmed()
    assert found.family.n == 40 and found.family.alpha == 0.025 and found.seconds["near"] == 0.5
    better = found.family.better
    assert better("best", "worse") and better("worse", "random") and not better("random", "best")
    assert not better("best", "near") and not better("near", "best")
    low, high = found.family.interval("best", "random")
    assert low < 0.6 < high and not found.lacking


def test_who_lacks_a_score_is_named_with_the_reason_and_is_not_compared():
    lacking = {"near": "failed: no such luck", "worse": np.full(8, np.nan)}
    found = confirmed(score=lambda *given: planted(*given, lacking=lacking), count=8)
    assert found.lacking == {"near": "failed: no such luck", "worse": "samples have no score"}
    assert found.family.names == ["best", "random"] and set(found.seconds) == {"best", "random"}


def test_of_several_metrics_the_mean_counts_each_with_its_direction():
    headline = Headline((SRG, DELETION), (-1, 1), "probability")
    of_metric = lambda explainer, metric, rows: planted(explainer, metric, rows) * (1 if metric is SRG else -1)
    both, one = confirmed(headline=headline, score=of_metric), confirmed()
    assert both.family.mean == pytest.approx(one.family.mean)
