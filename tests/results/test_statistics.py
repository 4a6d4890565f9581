"""The interval covers what it should; ranks say nothing that the numbers do not."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.catalogue import CATALOGUES
from harness.registry import METRICS
from harness.results.statistics import (
    binomial_interval,
    cell_ranks,
    corrected_interval,
    interval,
    interval_on_scale,
    limits_in,
    not_comparable,
    side_of,
    summarise,
)

SEED = int(os.environ["HARNESS_TEST_SEED"])
# The draws of a score, their mean, and the least share of intervals that must hold it: docs/claims.py has the table.
DRAWS = {
    "normal": (lambda rng, n: rng.normal(3, 2, n), 3.0, 0.945),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0, 0.935),
    "lognormal": (lambda rng, n: rng.lognormal(0, 0.5, n), np.exp(0.125), 0.93),
    "heavy": (lambda rng, n: rng.standard_t(3, n), 0.0, 0.945),
    "of few values": (lambda rng, n: rng.integers(0, 4, n) / 4, 0.375, 0.945),
}
SIMULATED = 2000


@pytest.mark.parametrize("n", [8, 20, 50, 200])
@pytest.mark.parametrize("kind", DRAWS)
def test_the_interval_holds_the_true_mean_as_often_as_it_says(kind, n):
    draw, truth, least = DRAWS[kind]
    rng = np.random.default_rng([SEED, n, len(kind)])
    ends = np.array([interval(draw(rng, n)) for _ in range(SIMULATED)])
    held = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    noise = 3 * np.sqrt(0.05 * 0.95 / SIMULATED)
    assert least - noise < held < 0.965 + noise


@pytest.mark.parametrize("n", [8, 20, 50, 200])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_interval_of_yes_or_no_scores_holds_their_share_at_least_as_often_as_it_says(share, n):
    hits = np.arange(n + 1)
    ends = np.array([binomial_interval(k, n) for k in hits])
    held = stats.binom.pmf(hits, n, share)[(ends[:, 0] <= share) & (share <= ends[:, 1])].sum()
    assert held >= 0.95
    expected = stats.binomtest(3, n).proportion_ci(method="exact")
    assert binomial_interval(3, n) == pytest.approx((expected.low, expected.high))


def test_yes_or_no_scores_are_known_by_their_limits_and_what_else_is_0_or_1_is_not_taken_for_them():
    every = summarise(np.ones(20), limits=(0.0, 1.0))
    assert every["ci_low"] == pytest.approx(0.025 ** (1 / 20)) and every["ci_high"] == 1
    passes = summarise(np.ones(20), limits=(0.0, np.inf))
    assert np.isnan([passes["ci_low"], passes["ci_high"]]).all()
    between = summarise(np.array([0, 1, 0.5]), limits=(0.0, 1.0))
    assert (between["ci_low"], between["ci_high"]) == (0, 1)
    some = np.array([0.0] * 9 + [1.0])
    assert summarise(some, limits=(-1.0, 1.0))["ci_low"] == interval(some)[0] < 0


@pytest.mark.parametrize(("least", "most"), [(0, 1), (-1, 1), (0.5, 2), (-np.inf, np.inf), (0, np.inf)])
def test_an_interval_does_not_leave_the_limits_of_scores_that_keep_them(least, most):
    scores = np.array([0.99] * 15 + [0.1])
    low, high = interval(scores)
    assert high > 1
    found = summarise(scores, limits=(least, most))
    kept = (max(low, least), min(high, most)) if least <= 0.1 else (low, high)
    assert (found["ci_low"], found["ci_high"]) == kept


def test_a_mean_that_can_be_below_0_has_an_interval_that_can():
    scores = np.array([0.02, 0.30, 0.05])
    student = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert summarise(scores, limits=(-1.0, 1.0))["ci_low"] == pytest.approx(student.low) and student.low < -0.2


@pytest.mark.parametrize("n", [2, 10, 30])
@pytest.mark.parametrize("score", [-1.0, 0.0, 0.25, 1.0])
def test_scores_that_are_all_one_number_hold_the_mean_of_any_scores_that_may_have_made_them(score, n):
    """Of every distribution with a number of a share that is not rare, and the others at a limit."""
    low, high = interval_on_scale(np.full(n, score), (-1.0, 1.0))
    assert -1 <= low <= score <= high <= 1 and low < high
    share = 0.025 ** (1 / n)
    for others in (-1.0, 1.0):
        assert low - 1e-12 <= share * score + (1 - share) * others <= high + 1e-12
    for limits in ((-np.inf, np.inf), (-1.0, np.inf), (2.0, 3.0)):
        assert np.isnan(interval_on_scale(np.full(n, score), limits)).all()


@pytest.mark.parametrize("n", [2, 6, 50])
@pytest.mark.parametrize("score", [-3.0, 0.0, 0.1, 1e9])
@pytest.mark.parametrize("rounding", [0.0, 1e-8])
def test_no_interval_has_a_width_of_zero(score, n, rounding):
    scores = score * (1 + rounding * np.random.default_rng(SEED).random(n))
    assert np.isnan(interval(scores)).all()
    assert np.isnan(corrected_interval(scores, 2.0)).all()
    low, high = interval_on_scale(scores, (score - 1 - abs(score), score + 1 + abs(score)))
    assert high - low > 1e-3


@pytest.mark.parametrize("name", sorted(CATALOGUES["metric"]))
def test_the_interval_of_every_metric_keeps_to_what_it_can_score(name):
    """Scores of 0 and 1 are shares only where nothing else is possible, and no end is cut off that scores can reach."""
    entry = METRICS[name]
    least, most = entry.span_of(entry.options) or (None, None)
    limits = limits_in({"least": least, "most": most})
    found = np.array([summarise(hits, limits=limits)["ci_low"] for hits in (np.zeros(10), np.array([0.0] * 9 + [1.0]))])
    if (least, most) == (0, 1):
        assert found.tolist() == [0, binomial_interval(1, 10)[0]]
    elif limits[0] <= 0 and limits[1] >= 1:
        assert found[1] == max(interval(np.array([0.0] * 9 + [1.0]))[0], limits[0])
        assert np.isnan(found[0]) if not np.isfinite(limits).all() else found[0] < 0


def test_equal_scores_are_judged_by_their_signs():
    assert [side_of(np.ones(n), 0.9) for n in (5, 6)] == [0, 1] and side_of(np.ones(20), 1 + 1e-9) == 0
    assert [side_of(np.ones(n), 1.5, level=0.99) for n in (7, 8)] == [0, -1]
    varied = np.random.default_rng(SEED).normal(size=30)
    low, high = interval(varied)
    assert [side_of(varied, bound) for bound in (low - 1e-6, low + 1e-6, high - 1e-6, high + 1e-6)] == [1, 0, 0, -1]
    assert side_of(np.array([1.0]), 0.0) == 0


def test_without_skewness_the_interval_is_students():
    scores = np.array([1.0, 2.0, 3.0, 4.0, 10.0, 16.0, 17.0, 18.0, 19.0])
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert interval(scores) == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_skewed_scores_have_an_interval_that_is_students_on_one_side_and_halls_on_the_other():
    scores = np.random.default_rng(SEED).exponential(size=30)
    student = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    low, high = interval(scores)
    assert low == pytest.approx(student.low) and high > student.high
    n, deviation, skewness = 30, scores.std(), stats.skew(scores)
    size = (scores.mean() - high) / deviation
    hall = n**0.5 * (size + skewness * size**2 / 3 + skewness**2 * size**3 / 27 + skewness / (6 * n))
    assert hall == pytest.approx(-stats.t.ppf(0.975, n - 1) * (n / (n - 1)) ** 0.5)


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e6, 1e200])
def test_the_interval_scales_with_the_scores(scale):
    scores = np.random.default_rng(SEED).normal(size=25)
    assert np.allclose(np.array(interval(scores * scale)) / scale, interval(scores), rtol=1e-9)


def test_one_score_has_a_mean_but_no_interval():
    found = summarise(np.array([0.3]))
    assert found["value"] == 0.3 and found["n"] == 1
    assert np.isnan([found["std"], found["ci_low"], found["ci_high"]]).all()


def test_equal_scores_have_their_value_as_mean():
    found = summarise(np.full(7, 0.1))
    assert (found["value"], found["std"]) == (0.1, 0.0)


def test_scores_that_differ_in_their_last_digit_have_the_interval_of_equal_ones():
    draws = np.random.default_rng(SEED)
    for _ in range(100):
        steps = (draws.random(20) < 0.3) * draws.integers(1, 4, 20)
        scores = 1 - steps * np.finfo(float).eps / 2
        assert interval_on_scale(scores, (0.0, 2.0)) == pytest.approx(interval_on_scale(np.ones(20), (0.0, 2.0)))


def test_no_valid_score_gives_nan_not_zero():
    found = summarise(np.array([np.nan, np.nan]))
    assert (found["n"], found["n_invalid"]) == (0, 2)
    assert np.isnan([found[name] for name in ("value", "std", "ci_low", "ci_high")]).all()


def test_invalid_nan_and_infinite_scores_are_counted_and_enter_nothing_else():
    scores = np.random.default_rng(SEED).normal(size=12)
    spoiled = np.concatenate([scores, [np.nan, np.inf, 99.0]])
    found = summarise(spoiled, np.arange(15) != 14)
    assert found == {**summarise(scores), "n_invalid": 3}
    assert found["std"] == pytest.approx(scores.std(ddof=1))


def cells(values, better="higher", metric="srg", **more):
    frame = pd.DataFrame({"value": values, "better": better, "metric": metric, "model": "m", "dataset": "d"})
    about = {
        "status": "ok",
        "n": 20,
        "n_invalid": 0,
        "stick": "s",
        "kind": "faithfulness",
        "device": "cpu",
        "config": None,
    }
    names = [f"e{i}" for i in range(len(frame))]
    return frame.assign(explainer=names, **{"config": None, **about, **more})


def test_ranks_respect_the_direction():
    assert cell_ranks(cells([0.1, 0.3, 0.2])).tolist() == [3, 1, 2]
    assert cell_ranks(cells([0.1, 0.3, 0.2], better="lower")).tolist() == [1, 3, 2]


def test_ties_share_the_better_rank():
    assert cell_ranks(cells([0.3, 0.1, 0.3, 0.2])).tolist() == [1, 4, 1, 3]
    assert cell_ranks(cells([0.3, 0.3 + 1e-9, 0.0])).tolist() == [1, 1, 3]


def test_a_metric_without_a_direction_has_no_ranks():
    assert cell_ranks(cells([0.1, 0.2], better=None)).isna().all()
    assert cell_ranks(cells([0.1, 0.2], metric="monotonicity", kind="check")).isna().all()


def test_failed_cells_have_no_rank_and_do_not_spoil_the_others():
    frame = cells([0.1, np.nan, 0.2], status=["ok", "failed", "ok"], n=[20, 0, 20])
    assert cell_ranks(frame).fillna(0).tolist() == [2, 0, 1]


def test_models_data_sets_metrics_and_protocols_are_ranked_apart():
    protocol = [json.dumps({"protocol": {"samples": n}}) for n in (20, 50)]
    parts = [
        cells([0.1, 0.2]),
        cells([0.4, 0.3]).assign(model="other"),
        cells([0.1, 0.2], "lower", "deletion"),
        cells([1.0, 2.0], config=protocol[1], n=50),
    ]
    parts[0]["config"] = protocol[0]
    assert cell_ranks(pd.concat(parts, ignore_index=True)).tolist() == [2, 1, 1, 2, 1, 2, 2, 1]


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"n": [20, 19]}, "explainers have scores on different samples"),
        ({"n": 19, "n_invalid": 1}, "explainers have scores on different samples"),
        ({"valid": [1, 2]}, "explainers have scores on different samples"),
        ({"stick": ["s", "t"]}, "code versions of the measurement differ"),
        ({"kind": "cost", "device": ["cpu", "cuda"]}, "different devices"),
    ],
)
def test_what_is_not_comparable_has_no_rank_and_a_reason(difference, reason):
    frame = cells([0.1, 0.2]).assign(**difference)
    assert cell_ranks(frame).isna().all()
    assert not_comparable(frame).str.contains(reason).all()


def test_an_explainer_with_two_cells_under_one_name_is_not_ranked():
    frame = cells([0.1, 0.2, 0.3]).assign(explainer=["a", "a", "b"])
    assert cell_ranks(frame).isna().all()
