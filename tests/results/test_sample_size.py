"""How many samples are enough: the numbers of the tables of power, and limits that are hardly ever too low."""

import os

import numpy as np
import pytest
from scipy import stats

from harness.results.numbers import one_figure
from harness.results.sample_size import effect_limits, enough_samples, samples_needed, samples_range

SEED = int(os.environ["HARNESS_TEST_SEED"])


@pytest.mark.parametrize(("effect", "published"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_the_samples_needed_are_those_of_the_tables_of_power(effect, published):
    assert samples_needed(effect) == published  # Cohen's small, medium and large, paired t-test, 80 %, two-sided 5 %


def test_no_effect_needs_no_end_of_samples():
    assert all(samples_needed(effect) == np.inf for effect in (0, 1e-17, float("nan")))
    assert samples_needed(np.inf) == 2


def test_a_larger_effect_never_needs_more_samples():
    needed = [samples_needed(effect) for effect in np.geomspace(0.05, 50, 60)]
    assert needed == sorted(needed, reverse=True) and needed[-1] <= 3


def test_the_samples_needed_do_find_the_effect_four_times_in_five():
    generator, n = np.random.default_rng(SEED), int(samples_needed(0.5))
    p = stats.ttest_1samp(generator.normal(0.5, 1, (n, 4000)), 0).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("effect", "n"), [(0.0, 2), (0.3, 2), (1, 5), (-2, 20), (0.02, 5000), (60, 8)])
def test_at_the_limits_of_an_effect_the_observed_one_is_as_rare_as_said(effect, n):
    low, high = effect_limits(effect, n, alpha=0.1)
    tails = (
        stats.nct.sf(effect * np.sqrt(n), n - 1, low * np.sqrt(n)),
        stats.nct.cdf(effect * np.sqrt(n), n - 1, high * np.sqrt(n)),
    )
    assert low < effect < high and tails == pytest.approx((0.05, 0.05), abs=1e-6)


def test_the_upper_end_of_the_range_is_rarely_below_what_is_needed():
    drawn = np.random.default_rng(SEED).normal(0.5, 1, size=(20, 100))
    found = [samples_range(effect, 20) for effect in drawn.mean(0) / drawn.std(0, ddof=1)]
    short = np.mean([each.high < samples_needed(0.5) for each in found])
    assert short < 0.12  # 0.05 and three standard errors
    assert np.mean([each.about < samples_needed(0.5) for each in found]) > 0.3  # what the observed effect alone tells
    assert all(each.low <= each.about <= each.high for each in found)


def test_a_critical_value_of_many_pairs_asks_for_more_samples_and_knows_less():
    one, many = samples_range(0.9, 20), samples_range(0.9, 20, critical=3.5)
    assert many.about > one.about and many.high > one.high
    assert samples_range(0.9, 20, critical=stats.t.isf(0.025, 19)).high == one.high


def test_without_a_shown_difference_the_range_is_open():
    assert samples_range(0.1, 20).high == np.inf and np.isfinite(samples_range(0.1, 20).about)


def test_enough_is_told_where_the_best_is_shown_and_only_there():
    noise = np.random.default_rng(SEED).normal(size=(300, 4))
    clear = enough_samples(noise + [5, 0, 0, 0])
    near = enough_samples(noise + [0.6, 0, 0, 0])
    assert clear <= 3 and 20 < near < 300
    assert enough_samples(noise) is None and enough_samples(noise[:1]) is None and enough_samples(noise[:, :1]) is None


def test_enough_is_rarely_below_what_is_needed():
    """Of 40 samples where 22 are needed; the samples' own subsamples tell fewer in half of the cases."""
    generator, needed = np.random.default_rng(SEED), int(np.ceil((stats.norm.isf(0.05) / 0.5 * np.sqrt(2)) ** 2))
    told = [enough_samples(generator.normal(size=(40, 2)) + [0.5, 0]) for _ in range(200)]
    assert np.mean([each is not None and each < needed for each in told]) < 0.05


@pytest.mark.parametrize(("value", "up", "down"), [(52, 60, 50), (50, 50, 50), (9.1, 10, 9), (199, 200, 100)])
def test_one_figure_is_rounded_the_way_that_is_asked(value, up, down):
    assert one_figure(value) == up and one_figure(value, up=False) == down and one_figure(np.inf) == np.inf
