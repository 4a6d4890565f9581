"""Tests of paired differences, one by one and corrected for their number."""

import os

import numpy as np
import pytest
from scipy import stats

from harness.results.pairs import flip_test, holm

SEED = int(os.environ["HARNESS_TEST_SEED"])


@pytest.mark.parametrize("n", [2, 5, 9, 13])
def test_few_samples_are_tested_exactly_as_scipy_does(n):
    differences = np.random.default_rng([SEED, n]).normal(0.3, 1, n)
    expected = stats.permutation_test(
        (differences, np.zeros(n)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert flip_test(differences[:, None])[0] == pytest.approx(expected)


def test_many_samples_are_tested_as_the_t_test_does_where_differences_are_normal():
    differences = np.random.default_rng(SEED).normal(0.15, 1, (200, 5))
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert np.abs(flip_test(differences) - expected).max() < 0.02


def test_differences_that_are_all_zero_show_nothing():
    assert flip_test(np.zeros((40, 2))).tolist() == [1, 1]


@pytest.mark.parametrize("n", [8, 60])
def test_no_more_than_five_percent_of_the_tests_of_nothing_claim_something(n):
    nothing = np.random.default_rng([SEED, n]).standard_t(4, (n, 2000))
    assert (flip_test(nothing) < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_the_scale_of_the_differences_changes_no_p_value():
    differences = np.random.default_rng(SEED).normal(0.2, 1, (50, 3))
    for scale in (1e-200, 1e200):
        np.testing.assert_allclose(flip_test(differences * scale), flip_test(differences))


def test_holms_correction_on_a_worked_example():
    # Holm (1979) as in R's p.adjust: 0.01, 0.02, 0.03, 0.005 of four.
    assert holm(np.array([0.01, 0.02, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.04, 0.04, 0.02])


def test_unknown_p_values_do_not_count():
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.03])), [0.02, np.nan, 0.03])


def test_no_drawn_p_is_zero():
    assert flip_test(np.ones((40, 1)))[0] == pytest.approx(1 / 10_001)
