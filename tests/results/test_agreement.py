"""Agreement of metrics: tau-b between their rankings, and an interval that holds the tau-b of the population means."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.results.agreement import as_square, metric_agreement, tau_interval
from harness.results.matrices import Matrix

SEED = int(os.environ["HARNESS_TEST_SEED"])
SPACED = np.linspace(0, 2, 8)
MEANS = {
    "identical": (SPACED, SPACED),
    "opposite": (SPACED, -SPACED),
    "unrelated": (SPACED, SPACED[[3, 6, 0, 5, 2, 7, 1, 4]]),
    "nearly tied": (SPACED * 0.01, SPACED),
    "tied in pairs": (SPACED // 0.6, SPACED),
}


def table(values, metric="m", better="higher"):
    frame = pd.DataFrame(np.asarray(values))
    frame.columns = [f"e{place}" for place in range(frame.shape[1])]
    return Matrix({"model": "net", "metric": metric}, frame, better)


@pytest.mark.parametrize("case", MEANS)
def test_the_interval_holds_the_tau_of_the_true_means(case):
    """For identical orders, 20 samples and 8 explainers a percentile bootstrap of tau holds it never."""
    generator, (first, second) = np.random.default_rng(SEED), MEANS[case]
    truth, ends = stats.kendalltau(first, second).statistic, []
    for _ in range(60):
        noise = generator.normal(size=(20, 8))
        other = 0.6 * noise + 0.8 * generator.normal(size=(20, 8))
        _, low, high = tau_interval(first + noise, second + other, seed=SEED)
        ends.append((low, high))
    low, high = np.transpose(ends)
    assert ((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean() >= 0.9  # 0.95 less 1.8 standard errors


def test_clear_orders_leave_no_doubt_and_unknown_ones_all():
    noise = np.random.default_rng(SEED).normal(size=(2, 40, 6))
    clear = 5 * np.arange(6)
    assert tau_interval(clear + noise[0], clear[::-1] + noise[1]) == (-1, -1, -1)
    tau, low, high = tau_interval(noise[0] - noise[0].mean(0) + clear * 1e-6, clear + noise[1])
    assert (tau, low, high) == (1, -1, 1)


@pytest.mark.parametrize(("n", "sure"), [(4, False), (20, True)])
def test_differences_without_spread_are_certain_only_where_a_test_of_signs_could_show_them(n, sure):
    values = np.tile([0.0, 1.0, 2.0], (n, 1))
    assert tau_interval(values, values) == ((1, 1, 1) if sure else (1, -1, 1))


def test_scores_that_tie_on_all_samples_may_differ_on_others():
    values = np.random.default_rng(SEED).normal(size=(60, 3)) + [0, 9, 18]
    tied = np.c_[values, values[:, 0]]
    tau, low, high = tau_interval(tied, np.c_[values, values[:, 0] - 9])
    assert tau == pytest.approx(5 / np.sqrt(5 * 6)) and low == pytest.approx(4 / 6) and high == 1


def test_all_tied_has_no_tau():
    values = np.random.default_rng(SEED).normal(size=(10, 4))
    assert np.isnan(tau_interval(np.ones((10, 4)), values)).all()
    assert np.isnan(tau_interval(1 + 1e-9 * values[:, [0]] * [1, 1, 1, 1], values, equal=1e-6)).all()


def test_metrics_that_order_alike_have_a_tau_of_one_and_opposite_ones_of_minus_one():
    values = np.random.default_rng(SEED).normal(size=(50, 5)) * 0.1 + np.arange(5)
    found = metric_agreement([table(values, "a"), table(np.exp(values), "b"), table(values, "c", better="lower")])
    square = as_square(found)
    assert square.loc["a", "b"] == 1 and square.loc["a", "c"] == -1 and square.loc["c", "a"] == -1
    assert (found["low"] <= found["tau"]).all() and (found["tau"] <= found["high"]).all() and set(found["n"]) == {50}


@pytest.mark.parametrize("sparse_in", ["a", "b", "both"])
def test_an_explainer_with_few_scores_is_named_and_takes_no_samples_from_the_others(sparse_in):
    generator = np.random.default_rng(SEED)
    one, other = (generator.normal(size=(100, 5)) + np.arange(5) for _ in "ab")
    whole = metric_agreement([table(one[:, :4], "a"), table(other[:, :4], "b")])
    for name, values in (("a", one), ("b", other)):
        values[3:, 4] = np.nan if sparse_in in (name, "both") else values[3:, 4]
    found = metric_agreement([table(one, "a"), table(other, "b")])
    assert found["lacking"].tolist() == ["e4"] and found["n"].tolist() == [100] and found["explainers"].tolist() == [4]
    pd.testing.assert_frame_equal(found.drop(columns="lacking"), whole.drop(columns="lacking"))


def test_two_explainers_are_too_few_to_compare_metrics():
    assert metric_agreement([table(np.ones((5, 2)), "a"), table(np.ones((5, 2)), "b")]).empty
