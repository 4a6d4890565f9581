"""Tests of means keep the error that they state, also where values are skewed."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.reproducing.studies.degradation_ladder.order import p_of_means
from harness.reproducing.studies.shared.mean_tests import (
    mean_above_p,
    mean_differs_p,
    means_all_above,
    means_differ,
    one_sided_limits,
)
from harness.results.statistics import interval

LEVEL, SIDES = 0.025, ("greater", "less")
DRAWN = {
    "normal": lambda draw, n: draw.normal(size=n),
    "skewed to the right": lambda draw, n: draw.exponential(size=n) - 1,
    "skewed to the left": lambda draw, n: 1 - draw.exponential(size=n),
    "mostly 0": lambda draw, n: np.where(draw.random(n) < 0.25, 1.0, 0.0) - 0.25,
}


def test_limits_of_symmetric_values_are_those_of_students_t_and_hold_the_interval_of_any():
    values = np.array([-0.3, -0.1, 0.0, np.nan, 0.1, 0.3]) + 2
    known = values[np.isfinite(values)]
    expected = stats.ttest_1samp(known, 0).confidence_interval(0.95)
    assert one_sided_limits(values, 0.025) == pytest.approx((2, expected.low, expected.high))
    skewed = np.array([0.1, 0.2, 0.2, 0.3, 3.0])
    assert one_sided_limits(skewed, 0.025)[1:] == pytest.approx(interval(skewed))
    assert one_sided_limits(np.array([0.3]), 0.025) == (0.3, -math.inf, math.inf)


@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.2, 1.0])
@pytest.mark.parametrize("drawn", DRAWN)
def test_the_p_value_is_the_level_at_which_the_limit_is_0(drawn, shift):
    values = DRAWN[drawn](np.random.default_rng(1), 12) + shift
    p = mean_above_p(values)
    assert one_sided_limits(values, p)[1] == pytest.approx(0, abs=1e-9)


def test_values_that_say_nothing_have_the_p_value_1_and_equal_ones_that_of_their_signs():
    assert mean_above_p(np.array([3.0])) == mean_above_p(np.zeros(9)) == 1
    for missing in (np.nan, np.inf, -np.inf):
        assert mean_above_p(np.array([2.0, 2.1, missing, 1.9])) == 1
    assert mean_above_p(np.full(5, 2.0)) == 0 and means_all_above([np.full(5, 2.0)]) == (True, 1 / 32)
    assert mean_above_p(np.full(5, -2.0)) == 1
    assert p_of_means(np.zeros((6, 2))).tolist() == [1, 1]


@pytest.mark.parametrize("drawn", DRAWN)
def test_a_mean_of_0_is_called_above_or_below_0_about_as_often_as_stated(drawn):
    """Of 20 values; if they are skewed, the plain t errs more than twice as often as stated on one side."""
    draw = np.random.default_rng(0)
    samples = np.array([DRAWN[drawn](draw, 20) for _ in range(2000)])
    errors = [np.mean([mean_above_p(sign * each) <= LEVEL for each in samples]) for sign in (1, -1)]
    assert max(errors) <= 1.7 * LEVEL  # of which .4 are three standard errors
    if "skewed" in drawn:
        plain = [np.mean(stats.ttest_1samp(samples, 0, axis=1, alternative=side).pvalue <= LEVEL) for side in SIDES]
        assert max(plain) > 2 * LEVEL
    assert np.mean([mean_differs_p(each) <= 2 * LEVEL for each in samples]) == pytest.approx(sum(errors))
    assert np.mean([means_differ(*pair, 2 * LEVEL) for pair in zip(samples[::2], samples[1::2], strict=True)]) <= LEVEL
    assert np.mean([one_sided_limits(each, LEVEL)[1] > 0 for each in samples]) == pytest.approx(errors[0], abs=1e-3)
