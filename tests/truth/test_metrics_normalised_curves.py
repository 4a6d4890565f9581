"""Areas normalised by the best and the worst order, found by trying all orders, and areas from the straight line."""

import itertools
import os

import pytest
import torch
from torch import nn

import harness
from harness.errors import NotApplicable, UserError
from metric_worlds import Additive, Constant, Interacting, draw, generator, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
UNITS = {"granularity": "unit", "baseline": "zero", "score": "logit"}


def aopc_of_orders(model, inputs):
    """The AOPC (N, d!) of every order of the d columns, and the orders."""
    orders = list(itertools.permutations(range(inputs.shape[1])))
    kept = torch.ones(len(orders), inputs.shape[1] + 1, inputs.shape[1])
    for number, order in enumerate(orders):
        for step, unit in enumerate(order):
            kept[number, step + 1 :, unit] = 0
    found = []
    for row in inputs:
        outputs = model((kept * row).flatten(0, 1))[:, 0].detach().double().view(len(orders), -1)
        found.append((outputs[:, :1] - outputs).mean(1))
    return torch.stack(found), orders


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_limits_are_those_of_all_orders(order):
    model, inputs = Interacting((5,), generator(SEED)), draw((5,), SEED, 4)
    areas, orders = aopc_of_orders(model, inputs)
    low, high = areas.amin(1), areas.amax(1)
    for number in torch.randint(120, (5,), generator=generator(SEED)).tolist():
        first_to_last = orders[number] if order == "morf" else orders[number][::-1]
        maps = torch.empty(4, 5)
        maps[:, list(first_to_last)] = torch.arange(5, 0, -1.0)
        found = scores("naopc", model, inputs, maps, options={**UNITS, "order": order}).values
        torch.testing.assert_close(found, (areas[:, number] - low) / (high - low), rtol=1e-4, atol=1e-4)


def test_a_beam_that_is_wide_enough_finds_the_limits_and_a_narrow_one_nearly():
    model, inputs, maps = Interacting((8,), generator(SEED)), draw((8,), SEED, 6), draw((8,), SEED + 1, 6)
    exact, wide, narrow = (
        scores("naopc", model, inputs, maps, options={**UNITS, "most_exact": 0, **each}).values
        for each in ({"most_exact": 8}, {"beam": 70}, {"beam": 2})
    )
    torch.testing.assert_close(wide, exact, rtol=1e-4, atol=1e-5)
    assert (narrow - exact).abs().amax() < 0.2


def test_of_an_additive_model_the_contributions_are_the_best_order_for_either_search():
    model, inputs = Additive((12,), generator=generator(SEED)), draw((12,), SEED, 5)
    right = model.contributions(inputs, torch.zeros_like(inputs))
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        found = scores("naopc", model, inputs, sign * right, options=UNITS).values
        torch.testing.assert_close(found, torch.full_like(found, expected), rtol=0, atol=1e-4)


def test_a_models_scale_and_offset_do_not_matter():
    model, inputs, maps = Interacting((6,), generator(SEED)), draw((6,), SEED, 4), draw((6,), SEED + 1, 4)
    before = scores("naopc", model, inputs, maps, options=UNITS).values
    with torch.no_grad():
        model.last.weight *= 7
        model.last.bias += 3
    torch.testing.assert_close(scores("naopc", model, inputs, maps, options=UNITS).values, before, rtol=1e-4, atol=1e-4)


def test_segments_of_different_number_are_searched_sample_by_sample():
    model, inputs, maps = Interacting((1, 8, 8), generator(SEED)), draw((1, 8, 8), SEED), draw((1, 8, 8), SEED + 1)
    labels = torch.arange(64).view(1, 8, 8) // torch.tensor([16, 64, 1]).view(3, 1, 1)
    options = {"segments": "given", "baseline": "zero"}
    found = scores("naopc", model, inputs, maps, options=options, segments=labels)
    assert found.values.isnan().tolist() == [False, True, True] and "single segment" in found.reason
    alone = scores("naopc", model, inputs[:1], maps[:1], options=options, segments=labels[:1])
    torch.testing.assert_close(found.values[:1], alone.values)


def test_a_model_that_does_not_react_has_no_best_order():
    inputs = draw((6,), SEED)
    found = scores("naopc", Constant(), inputs, draw((6,), SEED + 1), options=UNITS)
    assert found.values.isnan().all() and "does not depend on the order" in found.reason
    with pytest.raises(NotApplicable, match="at most 62 groups"):
        scores("naopc", Constant(), draw((70,), SEED), draw((70,), SEED + 1), options=UNITS)
    with pytest.raises(UserError, match="beam (of .* )?is 0"):
        scores("naopc", Constant(), inputs, inputs, options={**UNITS, "beam": 0})


@pytest.mark.parametrize("test", ["insertion", "deletion"])
def test_the_area_from_the_line_of_an_additive_model(test):
    model, inputs = Additive((6,), torch.sin, generator(SEED)), draw((6,), SEED, 5)
    right, maps = model.contributions(inputs, torch.zeros_like(inputs)), draw((6,), SEED + 1, 5)
    own = right.gather(1, maps.argsort(1, descending=True)).double()
    shares = 1 - (torch.arange(6) + 0.5) / 6
    expected = (own * (shares - 0.5)).sum(1)
    options = {**UNITS, "test": test}
    found = scores("abc", model, inputs, maps, options=options).values
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    relative = scores("abc", model, inputs, maps, options={**options, "relative": True}).values
    torch.testing.assert_close(relative, expected / own.sum(1).abs(), rtol=1e-4, atol=1e-4)


def test_for_a_number_it_is_insertion_and_minus_deletion():
    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).eval()
    data, maps = harness.Data(draw((6,), SEED), torch.zeros(3).long(), task="regression"), draw((6,), SEED + 1)
    for test, sign in (("insertion", 1), ("deletion", -1)):
        ours = harness.score("abc", model, data, maps, baseline="zero", test=test)
        same = harness.score(test, model, data, maps, baseline="zero")
        torch.testing.assert_close(ours, sign * same)
    with pytest.raises(UserError, match="test"):
        harness.score("abc", model, data, maps, test="both")
