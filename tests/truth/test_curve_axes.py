"""What the points of a metric's curves are at is what the metric declares: the curves of a model that counts."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.results.curve_axes import curve_axes
from metric_worlds import scores

UNITS = 40


class Sum(nn.Module):
    """Logits (f, 0), where f is the sum of the input."""

    def forward(self, x):
        return torch.stack([x.sum(1), torch.zeros(len(x))], 1)


# Of inputs of ones, f is the number of units that are left: the height at a place of the axis, for each metric.
EXPECTED = {
    "deletion": lambda place: UNITS * (1 - place),
    "random_order": lambda place: UNITS * (1 - place),
    "naopc": lambda place: UNITS * (1 - place),
    "insertion": lambda place: UNITS * place,
    "monotonicity": lambda place: UNITS * place,
    "aopc": lambda place: UNITS * place,
    "irof": lambda place: 1 - place,
    "abc": lambda place: 0 * place,
    "aucse_top": lambda place: place,
    "comprehensiveness": lambda percent: UNITS * percent / 100,
    "sufficiency": lambda percent: UNITS * (1 - percent / 100),
}
OPTIONS = {
    "irof": {"granularity": "unit"},
    "naopc": {"granularity": "unit"},
    "comprehensiveness": {"percents": (5, 25, 50)},
    "sufficiency": {"percents": (5, 25, 50)},
}


@pytest.mark.parametrize("metric", EXPECTED)
def test_the_points_are_where_the_axis_says(metric):
    inputs, options = torch.ones(2, UNITS), {**OPTIONS.get(metric, {}), "baseline": "zero"}
    curves = scores(metric, Sum(), inputs, torch.rand(2, UNITS), options={**options, "score": "logit"}).curves
    axes = curve_axes(_row(metric, options), curves.shape[1])
    heights = np.tile(EXPECTED[metric](axes.places), (2, 1))
    unit = 1 if heights.max() > 1 else 1 / UNITS
    np.testing.assert_allclose(curves.numpy(), heights, atol=0.51 * unit)  # a point is at a whole number of units
    assert axes.across.startswith(("share", "%"))


def _row(metric, options, **more):
    return {"metric": metric, "unit": "", "config": {"metric": {"name": metric, **options}}, **more}


def test_heights_are_named_by_the_score_and_the_task():
    named = lambda metric, task="classes", **options: curve_axes(_row(metric, options, task=task), 5).height
    assert named("deletion") == "class probability"
    assert named("deletion", score="logit") == "class logit"
    assert named("deletion", task="regression") == "model output above the straight line"
    assert named("comprehensiveness", task="regression") == "drop of the model output"


def test_numbers_that_are_no_points_of_a_line_have_no_axes():
    assert curve_axes(_row("sanity", {}), 6) is None
    assert curve_axes(_row("max_sensitivity", {}), 2) is None


def test_curves_of_an_unknown_metric_have_numbered_points():
    axes = curve_axes({"metric": "mine", "unit": "dB", "config": {"metric": {"name": "mine"}}}, 3)
    assert (axes.across, axes.height, axes.places.tolist()) == ("point of the curve", "dB", [1, 2, 3])


def test_curves_that_keep_begin_at_the_whole_input():
    assert curve_axes(_row("roar", {"percents": [10, 50]}), 3).places.tolist() == [0, 10, 50]
    assert curve_axes(_row("roar", {"percents": [10, 50], "keep": True}), 3).places.tolist() == [100, 10, 50]
