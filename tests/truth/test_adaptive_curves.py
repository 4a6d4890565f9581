"""Curves from fewer evaluations: what is not evaluated is estimated, and the stated error holds."""

import os

import pytest
import torch

import harness
from harness.metrics._adaptive_curve import CAUTION, FIRST, FLOOR, _Gaps, estimate_curves
from harness.metrics._curve import AdaptiveCurve, Schedule, schedule
from harness.registry import DATASETS, METRICS, MODELS
from metric_worlds import SHAPES, Interacting, draw, generator, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
AREAS = sorted(name for name, entry in METRICS.items() if entry.options.get("standard_error") is not None)
RAW = {"baseline": "zero", "score": "logit"}


def estimated(curves, wanted, repeated=None):
    """What is estimated of known curves (N, K + 1), and the number of evaluations of each."""
    count, points = curves.shape
    asked = torch.zeros(count, dtype=torch.long)

    def evaluate(sample, point):
        assert len({*zip(sample.tolist(), point.tolist(), strict=True)}) == len(sample), "a point is evaluated twice"
        asked.index_add_(0, sample, torch.ones_like(sample))
        return curves[sample, point]

    repeated = torch.arange(points)[None] if repeated is None else repeated
    return estimate_curves(evaluate, curves[:, 0], curves[:, -1], repeated.expand(count, -1), wanted), asked


def mean_over_steps(curves):
    return torch.trapezoid(curves, dim=1) / (curves.shape[1] - 1)


def walks(count, points, seed):
    steps = torch.randn(count, points - 1, generator=generator(seed), dtype=torch.float64)
    return torch.cat([torch.zeros(count, 1, dtype=torch.float64), steps.cumsum(1)], 1)


def test_every_metric_whose_score_is_an_area_or_a_mean_over_a_curve_can_be_estimated():
    assert AREAS == ["abpc", "aopc", "deletion", "insertion", "selectivity", "srg"]


@pytest.mark.parametrize("groups", [64, 20, 12])
@pytest.mark.parametrize("wanted", [0.03, 0.1, 0.3])
def test_of_random_walks_the_mean_is_within_two_standard_errors_as_often_as_is_said(wanted, groups):
    """Samples of fewer groups than steps repeat points."""
    counts = schedule(torch.full((1,), groups), 64)[0]
    curves = walks(4000, groups + 1, SEED)[:, counts] / 8
    found, asked = estimated(curves, wanted, Schedule(counts[None], torch.full((1,), groups)).repeated)
    errors = mean_over_steps(found.heights) - mean_over_steps(curves)
    within = (errors.abs() <= 2 * found.standard_error).double().mean()
    assert within > 0.92, "of the 95 % of a normal distribution; the roughness is estimated"
    assert errors.mean().abs() <= 4 * errors.std() / 4000**0.5
    assert (found.standard_error <= wanted).all() and asked.max() <= groups - 1


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_the_points_of_a_random_walk_leave_the_line_between_its_ends_by_the_stated_variance(steps):
    paths = walks(200_000, steps + 1, SEED)
    lines = paths[:, -1:] * torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    assert (paths - lines).sum(1).var().item() == pytest.approx((steps**3 - steps) / 12, rel=0.02)


def test_the_variance_of_a_gap_follows_from_the_changes_around_it():
    """Six gaps of four steps, of which one changes, by 2: its square per step is 1, and the others have 0."""
    curve, known = torch.zeros(1, 25, dtype=torch.float64), torch.zeros(1, 25, dtype=torch.bool)
    curve[0, 9:], known[0, ::4] = 2.0, True
    gaps = _Gaps.of(curve, known, torch.arange(25)[None])
    whole = FLOOR * 4 / 24
    rough = torch.tensor([1 / 6, 2 / 8, 1.0, 2 / 9, 1 / 8, whole], dtype=torch.float64)
    expected = CAUTION**2 * rough.clamp(min=whole) * (4**3 - 4) / 12
    torch.testing.assert_close(gaps.variance[0, 4::4], expected)
    assert gaps.variance[~known].eq(0).all() and gaps.steps[0, 4::4].eq(4).all()


@pytest.mark.parametrize("points", [2, 3, 4, 6, 33])
def test_straight_lines_need_the_first_points_alone_and_are_exact(points):
    slopes = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    curves = 1 + slopes[:, None] * torch.linspace(0, 1, points, dtype=torch.float64)
    found, asked = estimated(curves, 0.2)
    torch.testing.assert_close(found.heights, curves)
    assert asked.tolist() == [min(FIRST, points) - 2] * 3
    assert found.standard_error[0] == (0.1 if points > FIRST else 0), "half of what is wanted, unless all is known"


def test_a_single_step_is_found_by_halving():
    curves = torch.ones(31, 33, dtype=torch.float64)
    for row in range(31):
        curves[row, row + 1 :] = 0
    found, asked = estimated(curves, 0.01)
    torch.testing.assert_close(mean_over_steps(found.heights), mean_over_steps(curves), atol=1e-9, rtol=0)
    assert asked.max() <= 16, "31 evaluations find it without"


def test_evaluated_points_are_the_curve_and_others_lie_on_the_line_between_them():
    curves = walks(50, 33, SEED)
    found, asked = estimated(curves, 0.3)
    at = (found.heights - curves).abs() < 1e-12
    assert (at.sum(1) >= asked + 2).all()
    bends = found.heights.diff(n=2, dim=1).abs() > 1e-9
    assert not (bends & ~at[:, 1:-1]).any(), "the line bends at evaluated points alone"


def test_a_curve_does_not_depend_on_its_company():
    curves = walks(6, 33, SEED)
    together, _ = estimated(curves, 0.3)
    for row in range(6):
        alone, _ = estimated(curves[row : row + 1], 0.3)
        assert torch.equal(alone.heights[0], together.heights[row])


def test_points_that_repeat_others_are_not_evaluated():
    """A sample of 3 groups on a grid of 8 steps has its inputs at 4 points alone."""
    latest = torch.tensor([[0, 0, 2, 2, 4, 4, 8, 8, 8]])
    heights, seen = torch.tensor([[9.0, 9, 5, 5, 7, 7, 1, 1, 1]], dtype=torch.float64), []

    def evaluate(sample, point):
        seen.extend(point.tolist())
        return heights[sample, point]

    found = estimate_curves(evaluate, heights[:, 0], heights[:, -1], latest, 1e-9)
    assert sorted(seen) == [2, 4] and torch.equal(found.heights, heights)
    assert found.standard_error.item() == 0


@pytest.mark.parametrize("name", AREAS)
def test_with_the_least_error_the_score_is_that_of_all_points(name):
    shape = SHAPES["grey"]
    model, inputs = Interacting(shape, generator=generator(SEED)), draw(shape, SEED, 4)
    maps = torch.randn(inputs.shape, generator=generator(SEED + 1))
    every, estimate = (
        scores(name, model, inputs, maps, options={**RAW, "steps": 16, "standard_error": wanted})
        for wanted in (0, 1e-12)
    )
    torch.testing.assert_close(estimate.values, every.values, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(estimate.curves, every.curves, rtol=1e-6, atol=1e-6)
    assert every.standard_error is None and estimate.standard_error.max() < 1e-6


def test_the_error_of_a_difference_is_that_of_both_curves():
    shape = SHAPES["grey"]
    model, inputs = Interacting(shape, generator=generator(SEED)), draw(shape, SEED, 4)
    maps = torch.randn(inputs.shape, generator=generator(SEED + 1))
    options = {**RAW, "steps": 32, "standard_error": 0.5}
    error = {name: scores(name, model, inputs, maps, options=options).standard_error for name in AREAS}
    torch.testing.assert_close(error["srg"], torch.hypot(error["deletion"], error["insertion"]))
    assert (error["srg"] > 0).any()


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_a_trained_net_has_nearly_the_same_areas_with_fewer_passes(order):
    model, data = MODELS["digits_cnn"].function(), DATASETS["digits"].function()
    explainers, wanted = ["saliency", "input_x_gradient", "random"], 0.005
    frames = {
        goal: harness.evaluate(
            model,
            data.inputs[:40],
            data.labels[:40],
            explainers=explainers,
            metrics={"deletion": {"standard_error": goal, "order": order}},
        )
        for goal in (0, wanted)
    }
    gap = (frames[0]["value"] - frames[wanted]["value"]).abs()
    within = (gap <= 2 * frames[wanted]["standard_error"] + 1e-9).mean()
    assert gap.mean() < 0.003 and within > 0.85
    assert frames[0]["standard_error"].isna().all()


def test_the_number_of_evaluations_is_what_is_saved():
    shape = SHAPES["grey"]
    model, inputs = Interacting(shape, generator=generator(SEED)), draw(shape, SEED, 4)
    maps, rows = torch.randn(inputs.shape, generator=generator(SEED + 1)), {}
    for wanted in (0, 0.05, 1e6):
        seen = []
        hook = model.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(len(args[0])))
        scores("deletion", model, inputs, maps, options={**RAW, "steps": 32, "standard_error": wanted})
        hook.remove()
        rows[wanted] = sum(seen)
    assert rows[1e6] < rows[0.05] <= rows[0]


def test_the_evenly_spaced_curve_is_shared_with_metrics_without_the_option():
    one, other = (AdaptiveCurve(steps=7, tie_draws=2, standard_error=wanted) for wanted in (0, 1))
    assert one.evenly_spaced == other.evenly_spaced
