"""Prediction gaps of linear models, whose expectation over Gaussian noise is known."""

import math
import os

import pytest
import torch

from harness.errors import NotApplicable, UserError
from metric_worlds import Additive, Constant, Interacting, draw, generator, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
GAPS = {"prediction_gap_important": True, "prediction_gap_unimportant": False}
RANGE = {"value_range": (-2.0, 2.0)}


@pytest.mark.parametrize("name", GAPS)
def test_the_gap_of_a_linear_model_is_that_of_a_normal_number(name):
    model, inputs, maps = Additive((8,), generator=generator(SEED)), draw((8,), SEED), draw((8,), SEED + 1)
    options = {"percents": (25, 60), "draws": 4000, "score": "logit", "noise": 0.05}
    found = scores(name, model, inputs, maps, options=options, **RANGE)
    order = maps.abs().argsort(1, descending=True)
    for column, k in enumerate((2, 5)):
        part = order[:, :k] if GAPS[name] else order[:, k:]
        spread = 0.05 * 4 * model.w.detach()[part].square().sum(1).sqrt()
        expected = spread * math.sqrt(2 / math.pi)
        torch.testing.assert_close(found.curves[:, column].float(), expected, rtol=0.06, atol=0)
    torch.testing.assert_close(found.values, found.curves.mean(1))


def test_the_noise_is_the_same_whatever_the_sign_and_scale_of_the_map():
    model, inputs, maps = Interacting((6,), generator(SEED)), draw((6,), SEED), draw((6,), SEED + 1)
    for name in GAPS:
        first, second = (scores(name, model, inputs, each, **RANGE).values for each in (maps, -3 * maps))
        assert torch.equal(first, second) and (first > 0).all()
        assert (scores(name, Constant(), inputs, maps, **RANGE).values == 0).all()


def test_all_units_leave_none_and_what_is_wrong_is_said():
    model, inputs, maps = Interacting((6,), generator(SEED)), draw((6,), SEED), draw((6,), SEED + 1)
    found = scores("prediction_gap_unimportant", model, inputs, maps, options={"percents": (50, 99)}, **RANGE)
    assert found.values.isnan().all() and "none" in found.reason
    for options, text in (({"noise": 0.0}, "noise (of .* )?is 0"), ({"draws": 0}, "draws (of .* )?is 0")):
        with pytest.raises(UserError, match=text):
            scores("prediction_gap_important", model, inputs, maps, options=options, **RANGE)
    with pytest.raises(NotApplicable, match="train"):
        scores("prediction_gap_important", model, inputs, maps)
