"""Agreement of samples, stability of rankings, power, and the split of variance."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.results.agreement import as_square, metric_agreement
from harness.results.matrices import Matrix
from harness.results.reliability import (
    krippendorff_alpha,
    ordinal_alpha,
    samples_needed,
    split_half,
    stability,
    taus,
    variance_split,
)

SEED = int(os.environ["HARNESS_TEST_SEED"])
# Krippendorff (2011), "Computing Krippendorff's alpha-reliability": four observers, twelve units.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, np.nan, np.nan, np.nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, np.nan, 3],
        [np.nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, np.nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, np.nan],
    ]
)


def table(values, metric="m", better="higher"):
    frame = pd.DataFrame(np.asarray(values))
    frame.columns = [f"e{place}" for place in range(frame.shape[1])]
    return Matrix({"model": "net", "metric": metric}, frame, better)


def test_the_ordinal_alpha_is_that_of_krippendorffs_example():
    assert ordinal_alpha(OBSERVERS) == pytest.approx(0.815, abs=5e-4)


def test_samples_that_order_alike_agree_whatever_their_level():
    order = np.arange(5.0)
    level = np.random.default_rng(SEED).normal(size=(30, 1)) * 100
    assert krippendorff_alpha(order * 0.01 + level) == pytest.approx(1)


def test_samples_that_order_by_chance_do_not_agree():
    assert abs(krippendorff_alpha(np.random.default_rng(SEED).normal(size=(400, 6)))) < 0.02


def test_one_sample_or_one_explainer_cannot_agree():
    assert np.isnan(krippendorff_alpha(np.ones((1, 4)))) and np.isnan(krippendorff_alpha(np.ones((4, 1))))
    assert np.isnan(krippendorff_alpha(np.ones((4, 4))))  # all tied: there is no order to agree on


def test_halves_agree_where_differences_are_large_and_not_where_there_are_none():
    generator = np.random.default_rng(SEED)
    noise = generator.normal(size=(80, 8))
    assert split_half(table(noise + 5 * np.arange(8))) == pytest.approx(1)
    assert abs(split_half(table(noise - noise.mean(0)))) > 0.3  # what one half has above the mean the other has below
    assert split_half(table(noise - noise.mean(0))) < 0


def test_taus_are_scipys():
    generator = np.random.default_rng(SEED)
    rows, full = generator.normal(size=(20, 7)).round(), generator.normal(size=7).round()
    expected = [stats.kendalltau(row, full).statistic for row in rows]
    np.testing.assert_allclose(taus(rows, full[None]), expected)


def test_values_nearer_than_asked_are_tied_and_a_row_without_an_order_has_no_tau():
    near, apart = np.array([[0.0, 1.0, 1.0 + 1e-9, 3.0]]), np.array([[0.0, 2.0, 1.0, 3.0]])
    tied = stats.kendalltau([0, 1, 1, 3], apart[0]).statistic
    assert taus(near, apart, equal=1e-6)[0] == pytest.approx(tied) and taus(near, apart)[0] != pytest.approx(tied)
    assert np.isnan(taus(np.ones((1, 4)), apart, equal=1e-6)[0])


def test_a_clear_order_needs_few_samples_and_an_unclear_one_many():
    generator = np.random.default_rng(SEED)
    noise = generator.normal(size=(300, 4))
    clear, close = stability(table(noise + [5, 0, 0, 0])), stability(table(noise + [0.25, 0, 0, 0]))
    assert clear.enough <= 3 and (close.enough is None or close.enough > 60)
    assert clear.curve["top_stays"].iloc[-1] == 1 and clear.curve["tau"].iloc[-1] == pytest.approx(1)


def test_the_smallest_number_is_the_one_from_which_on_the_first_stays():
    found = stability(table(np.random.default_rng(SEED).normal(size=(200, 3)) + [0.5, 0, -1]))
    below = found.curve[found.curve["n"] < (found.enough or np.inf)]
    above = found.curve[found.curve["n"] >= (found.enough or np.inf)]
    assert (above["top_stays"] >= 0.95).all() and (below.empty or below["top_stays"].iloc[-1] < 0.95)


@pytest.mark.parametrize(("effect", "published"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_the_samples_needed_are_those_of_the_tables_of_power(effect, published):
    assert samples_needed(effect) == published  # Cohen's small, medium and large, paired t-test, 80 %, two-sided 5 %


def test_no_effect_needs_no_end_of_samples():
    assert all(samples_needed(effect) == np.inf for effect in (0, 1e-17, float("nan")))
    assert samples_needed(np.inf) == 2


def test_the_samples_needed_do_find_the_effect_four_times_in_five():
    generator, n = np.random.default_rng(SEED), int(samples_needed(0.5))
    p = stats.ttest_1samp(generator.normal(0.5, 1, (n, 4000)), 0).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_planted_variances_are_told_apart():
    generator = np.random.default_rng(SEED)
    values = 3 * generator.normal(size=(2000, 1)) + generator.normal(size=(2000, 4))
    found = variance_split(values)
    assert found["sample"] == pytest.approx(9, rel=0.1) and found["seed"] == pytest.approx(1, rel=0.1)
    assert found["share"] == pytest.approx(0.9, abs=0.02)
    assert np.isnan(variance_split(values[:, :1])["share"])
    alike = np.random.default_rng(SEED).normal(size=(4000, 3))  # all of it is the seeds'
    assert variance_split(alike)["sample"] < 0.1


def test_metrics_that_order_alike_have_a_tau_of_one_and_opposite_ones_of_minus_one():
    values = np.random.default_rng(SEED).normal(size=(50, 5)) * 0.1 + np.arange(5)
    found = metric_agreement([table(values, "a"), table(values * 2, "b"), table(values, "c", better="lower")])
    square = as_square(found)
    assert square.loc["a", "b"] == 1 and square.loc["a", "c"] == -1 and square.loc["c", "a"] == -1
    assert (found["low"] <= found["tau"]).all() and (found["tau"] <= found["high"]).all() and set(found["n"]) == {50}


def test_the_interval_of_tau_covers_what_more_samples_would_show():
    generator = np.random.default_rng(SEED)
    means = np.linspace(0, 1, 6), np.array([0, 0.4, 0.2, 0.6, 1.0, 0.8])
    truth = stats.kendalltau(*means).statistic
    inside = []
    for _ in range(60):
        first, second = (generator.normal(size=(60, 6)) + mean for mean in means)
        row = metric_agreement([table(first, "a"), table(second, "b")]).iloc[0]
        inside.append(row["low"] <= truth <= row["high"])
    assert np.mean(inside) > 0.85


def test_two_explainers_are_too_few_to_compare_metrics():
    assert metric_agreement([table(np.ones((5, 2)), "a"), table(np.ones((5, 2)), "b")]).empty
