"""Scores of class activation maps, on models whose probability of the weighted input is known."""

import os

import pytest
import torch
from torch import nn

from harness.errors import NotApplicable
from metric_worlds import Additive, Constant, draw, explaining, generator, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
OF_PROBABILITIES = ("average_drop", "average_increase", "average_gain")
AGAIN = ("cam_coherency", "adcc")


def world(shape=(3, 6, 5), count=12):
    model = Additive(shape, generator=generator(SEED))
    model.w.data *= 0.2  # so that probabilities are not those of certainty, whose complement single precision rounds
    return model, draw(shape, SEED + 1, count), draw(shape[1:], SEED + 2, count)


def by_hand(model, inputs, maps, baseline=0.0):
    """Y, O and the weights in double precision."""
    positive = maps.double().clamp(min=0)
    low, high = positive.amin((1, 2), True), positive.amax((1, 2), True)
    weights = (positive - low) / (high - low)
    mixed = weights[:, None] * inputs + (1 - weights[:, None]) * baseline
    probability = lambda x: (model.b + (x.double() * model.w).flatten(1).sum(1)).sigmoid().detach()
    return probability(inputs), probability(mixed), weights


@pytest.mark.parametrize("baseline", ["zero", "tensor"])
def test_drop_increase_and_gain_of_an_additive_model(baseline):
    model, inputs, maps = world()
    chosen = torch.full((3, 6, 5), 0.7) if baseline == "tensor" else baseline
    before, after, _ = by_hand(model, inputs, maps, 0.7 if baseline == "tensor" else 0.0)
    expected = {
        "average_drop": (before - after).clamp(min=0) / before,
        "average_increase": (after > before).double(),
        "average_gain": (after - before).clamp(min=0) / (1 - before),
    }
    assert 0 < expected["average_increase"].mean() < 1
    for name, values in expected.items():
        found = scores(name, model, inputs, maps, options={"baseline": chosen}).values
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5)


def only_left(model, inputs, targets):
    """A map that follows the input in the left half of an image."""
    maps = inputs.sum(1)
    maps[..., 2:] = 0
    return maps[:, None]


def test_adcc_is_the_harmonic_mean_of_its_three_parts():
    model, inputs, _ = world()
    maps = only_left(model, inputs.clone(), None)[:, 0]
    before, after, weights = by_hand(model, inputs, maps)
    again = only_left(model, weights[:, None] * inputs, None)[:, 0]
    _, _, others = by_hand(model, inputs, again)
    pairs = zip(weights.flatten(1), others.flatten(1), strict=True)
    coherency = torch.stack([(torch.corrcoef(torch.stack(pair))[0, 1] + 1) / 2 for pair in pairs])
    complexity, drop = weights.mean((1, 2)), (before - after).clamp(min=0) / before
    expected = {
        "cam_coherency": coherency,
        "cam_complexity": complexity,
        "adcc": 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)),
    }
    assert coherency.std() > 0.001 and drop.amax() > 0.01
    for name, values in expected.items():
        found = scores(name, model, inputs, maps, by=explaining(only_left, model)).values
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5)


def test_a_second_map_without_weights_has_no_coherency_and_no_adcc():
    model, inputs, maps = world()
    flat = explaining(lambda model, inputs, targets: torch.ones_like(inputs), model)
    for name in AGAIN:
        assert (scores(name, model, inputs, maps, by=flat).values == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", AGAIN)
def test_a_second_map_that_is_not_finite_has_no_score(name, value):
    model, inputs, maps = world()

    def breaks(model, inputs, targets):
        found = torch.ones_like(inputs) if value == float("-inf") else inputs.clone()
        found[3, 0, 2, 2] = value
        return found

    found = scores(name, model, inputs, maps, by=explaining(breaks, model))
    assert found.values.isnan().tolist() == [row == 3 for row in range(12)]
    assert "weighted image is not finite" in found.reason


def test_a_rise_from_a_probability_of_0_is_an_increase_and_no_rise_is_none():
    model, inputs, _ = world()
    model.b = -110.0  # in single precision exp(-110) is 0 and exp(-80) is not
    with torch.no_grad():
        model.w.copy_(torch.zeros_like(model.w))
        model.w[0, 0, 0], inputs[:, 0, 0, 0] = 10.0, torch.linspace(-3, 0, 12)
    without_first = torch.ones(12, 6, 5)
    without_first[:, 0, 0] = 0
    assert (scores("average_increase", model, inputs, without_first).values == 0).all()  # exp(-110), for all but one
    model.b = -80.0
    rises = scores("average_increase", model, inputs, without_first).values
    drops = scores("average_drop", model, inputs, without_first).values
    assert drops.isnan().any() and rises[drops.isnan()].tolist() == [1.0] * int(drops.isnan().sum())


@pytest.mark.parametrize("name", [*OF_PROBABILITIES, *AGAIN, "cam_complexity"])
def test_a_map_whose_positive_part_is_the_same_everywhere_has_no_score(name):
    model, inputs, maps = world()
    by = explaining(only_left, model)
    whole = scores(name, model, inputs, maps, by=by).values
    maps[1], maps[4] = 3.0, -maps[4].abs()
    found = scores(name, model, inputs, maps, by=by)
    assert found.values.isnan().tolist() == [row in (1, 4) for row in range(12)] and "same everywhere" in found.reason
    others = [row for row in range(12) if row not in (1, 4)]
    torch.testing.assert_close(found.values[others], whole[others])


def test_the_scale_of_a_map_does_not_matter_and_nothing_changes_a_constant_model():
    model, inputs, maps = world()
    for name in OF_PROBABILITIES:
        torch.testing.assert_close(
            *(scores(name, model, inputs, factor * maps).values for factor in (1, 7)), rtol=1e-4, atol=1e-5
        )
        assert (scores(name, Constant(), inputs, maps).values == 0).all()


def test_a_probability_of_one_has_nothing_to_gain():
    model, inputs, maps = world()
    model.b = 200.0
    found = scores("average_gain", model, inputs, maps)
    assert found.values.isnan().all() and "1 already" in found.reason


@pytest.mark.parametrize("name", ["average_drop", "adcc"])
def test_a_probability_of_zero_has_no_share_to_lose(name):
    model, inputs, maps = world()
    model.b = -200.0
    found = scores(name, model, inputs, maps, by=explaining(only_left, model))
    assert found.values.isnan().all() and "probability is 0" in found.reason


def test_what_does_not_fit_is_said():
    model, inputs, maps = world()
    with pytest.raises(NotApplicable):
        scores("average_drop", model, inputs, maps, options={"baseline": "noisy_linear"})
    with pytest.raises(NotApplicable, match="explain"):
        scores("adcc", model, inputs, maps)
    number = nn.Sequential(nn.Flatten(), nn.Linear(90, 1))
    with pytest.raises(NotApplicable):
        scores("average_drop", number, inputs, maps, task="regression")


def test_a_rise_within_rounding_is_none():
    """Weights that are 1 but for rounding change the probability up or down by the rounding of sums alone."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 3)).eval()
    net[1].weight.data[:, 0] = 0  # of the pixel whose weight is 0
    inputs, maps = torch.rand(40, 1, 12, 12), 1 - 2e-7 * torch.rand(40, 1, 12, 12)
    maps[:, 0, 0, 0] = 0
    before, after = (net(each).softmax(1)[:, 0] for each in (inputs, inputs * maps))
    assert (after > before).any(), "else the next line could not fail"
    assert scores("average_increase", net, inputs, maps).values.eq(0).all()
