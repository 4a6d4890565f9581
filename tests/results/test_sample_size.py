"""How many samples are enough: the numbers of the tables of power, and limits that are hardly ever too low."""

import os

import numpy as np
import pytest
from scipy import stats

from harness.results.numbers import one_figure
from harness.results.sample_size import effect_limits, enough_samples, normal_limits, samples_needed, samples_range

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
    low, high = normal_limits(effect, n, alpha=0.1)
    tails = (
        stats.nct.sf(effect * np.sqrt(n), n - 1, low * np.sqrt(n)),
        stats.nct.cdf(effect * np.sqrt(n), n - 1, high * np.sqrt(n)),
    )
    assert low < effect < high and tails == pytest.approx((0.05, 0.05), abs=1e-6)


def test_the_upper_end_of_the_range_is_rarely_below_what_is_needed():
    drawn = np.random.default_rng(SEED).normal(0.5, 1, size=(20, 100))
    found = [samples_range(differences) for differences in drawn.T]
    short = np.mean([each.high < samples_needed(0.5) for each in found])
    assert short < 0.12  # 0.05 and three standard errors
    assert np.mean([each.about < samples_needed(0.5) for each in found]) > 0.3  # what the observed effect alone tells
    assert all(each.low <= each.about <= each.high for each in found)


def with_effect(effect, n=20):
    drawn = np.random.default_rng(SEED).normal(size=n)
    return (drawn - drawn.mean()) / drawn.std(ddof=1) + effect


def test_a_long_tail_below_widens_the_limits_and_one_value_apart_lifts_them():
    normal = effect_limits(stats.norm.ppf((np.arange(40) + 0.5) / 40) + 0.8)
    tail = stats.expon.ppf((np.arange(40) + 0.5) / 40)
    low, high = effect_limits((tail.mean() - tail) / tail.std() + 0.8)
    assert low < normal[0] - 0.1 and high > normal[1] + 0.1
    assert effect_limits(np.r_[np.ones(9), 0.0]) == (-np.inf, np.inf)
    assert effect_limits(np.ones(9)) == (0, np.inf) and effect_limits(-np.ones(9)) == (-np.inf, 0)


def test_a_critical_value_of_many_pairs_asks_for_more_samples_and_knows_less():
    one, many = samples_range(with_effect(0.9)), samples_range(with_effect(0.9), critical=3.5)
    assert many.about > one.about and many.high > one.high
    assert samples_range(with_effect(0.9), critical=stats.t.isf(0.025, 19)).high == one.high
    assert samples_range(-with_effect(0.9)) == one


def test_without_a_shown_difference_the_range_is_open():
    found = samples_range(with_effect(0.1))
    assert found.high == np.inf and np.isfinite(found.about)


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
