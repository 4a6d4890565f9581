"""Cumulative prediction differences equal a loop over steps, and count changes in either direction."""

import pytest
import torch

from harness.errors import UserError
from metric_worlds import Additive, Constant, Interacting, draw, generator, scores

CPD, CPP = "cumulative_prediction_difference", "cumulative_prediction_preservation"
SHAPE = (2, 12)  # two channels, twelve time steps


def series(name, model, inputs, maps, **options):
    return scores(name, model, inputs, maps, options={"baseline": "zero", **options}, modality="series")


@pytest.mark.parametrize("name", [CPD, CPP])
@pytest.mark.parametrize("steps", [3, 12])
def test_it_equals_a_loop_over_steps(name, steps, seed):
    model, inputs, maps = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), draw(SHAPE, seed + 1)
    found = series(name, model, inputs, maps, largest_share=1.0, steps=steps)
    for x, a, curve in zip(inputs, maps, found.curves, strict=True):
        order = a.sum(0).abs().argsort(descending=name == CPD)
        before, total, by_hand = model(x[None]).double().softmax(1), 0.0, []
        for step in range(1, steps + 1):
            kept = torch.ones(12, dtype=torch.bool).index_fill(0, order[: 12 * step // steps], False)
            after = model((x * kept)[None]).double().softmax(1)
            total += (after - before).abs().sum().item()
            before = after
            by_hand.append(total)
        assert curve.tolist() == pytest.approx(by_hand, abs=1e-6)
    assert torch.equal(found.values, found.curves[:, -1])


@pytest.mark.parametrize("name", [CPD, CPP])
def test_more_steps_than_units_remove_each_unit_once_and_the_others_none(name, seed):
    """Curves have as many points as steps for inputs of any size; a point that removes no unit adds nothing."""
    model, inputs, maps = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), draw(SHAPE, seed + 1)
    one_by_one, finer = (series(name, model, inputs, maps, largest_share=1.0, steps=steps) for steps in (12, 30))
    assert finer.curves.shape == (len(inputs), 30)
    removed = [round(12 * step / 30) for step in range(1, 31)]  # units after each step: 0, 1, 1, 2, 2, 2, ...
    padded = torch.cat([torch.zeros(len(inputs), 1, dtype=torch.float64), one_by_one.curves], 1)
    torch.testing.assert_close(finer.curves, padded[:, removed], atol=1e-6, rtol=0)
    torch.testing.assert_close(finer.values, one_by_one.values, atol=1e-6, rtol=0)


def test_points_for_and_against_the_class_add_up(seed):
    """f falls when the first point goes and rises again when the second does: the area under f would cancel."""
    model = Additive((1, 2))
    model.w.data = torch.tensor([[3.0, -3.0]])
    found = series(CPD, model, torch.ones(1, 1, 2), torch.tensor([[[2.0, -1.0]]]), largest_share=1.0)
    p = [torch.sigmoid(torch.tensor(f, dtype=torch.float64)) for f in (0.3, -2.7)]
    assert found.values.item() == pytest.approx(2 * 2 * (p[0] - p[1]).item(), abs=1e-6)


def test_what_nothing_changes_is_0_and_the_right_order_beats_the_wrong_one(seed):
    inputs, maps = draw(SHAPE, seed), draw(SHAPE, seed + 1)
    assert series(CPD, Constant(), inputs, maps).values.tolist() == [0, 0, 0]
    model = Additive(SHAPE, generator=generator(seed))
    contributions = model.contributions(inputs, torch.zeros_like(inputs)).sum(1, keepdim=True)
    right, wrong = (
        series(CPD, model, inputs, each, largest_share=1 / 12).values for each in (contributions, 1 / contributions)
    )
    assert (right > wrong).all()


@pytest.mark.parametrize("options", [{"largest_share": 0.0}, {"largest_share": 1.5}, {"steps": 0}])
def test_a_wrong_option_is_told(options, seed):
    with pytest.raises(UserError, match=next(iter(options))):
        series(CPD, Constant(), draw(SHAPE, seed), draw(SHAPE, seed), **options)
