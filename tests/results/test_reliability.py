"""Agreement of samples, stability of rankings, and the split of variance."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.results.agreement import metric_agreement
from harness.results.matrices import Matrix
from harness.results.reliability import (
    krippendorff_alpha,
    ordinal_alpha,
    split_half,
    stability,
    taus,
    variance_split,
)
from harness.results.trust import reliability

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
    assert taus(near, apart)[0] == pytest.approx(tied)
    farther = np.array([[0.0, 1.0, 1.0 + 1e-3, 3.0]])
    assert taus(farther, apart, equal=1e-2)[0] == pytest.approx(tied) != taus(farther, apart)[0]
    assert np.isnan(taus(np.ones((1, 4)), apart)[0])


def test_all_samples_give_their_own_ranking():
    noise = np.random.default_rng(SEED).normal(size=(300, 4))
    curve = stability(table(noise + [5, 0, 0, 0])).curve
    assert curve["top_stays"].iloc[-1] == 1 and curve["tau"].iloc[-1] == pytest.approx(1)


def test_planted_variances_are_told_apart():
    generator = np.random.default_rng(SEED)
    values = 3 * generator.normal(size=(2000, 1)) + generator.normal(size=(2000, 4))
    found = variance_split(values)
    assert found["sample"] == pytest.approx(9, rel=0.1) and found["seed"] == pytest.approx(1, rel=0.1)
    assert found["share"] == pytest.approx(0.9, abs=0.02)
    assert np.isnan(variance_split(values[:, :1])["share"])
    alike = np.random.default_rng(SEED).normal(size=(4000, 3))  # all of it is the seeds'
    assert variance_split(alike)["sample"] < 0.1


# Two orders of four explainers whose tau-b is 0, and the control's place.
FIRST_ORDER, OTHER_ORDER = np.array([0, 1, 2, 3, 0]), np.array([1, 3, 0, 2, 0])


def with_a_control_far_behind(generator):
    """Four explainers in an order of chance on every sample, and a control that is behind all of them on each."""
    values = generator.normal(size=(60, 4))
    return np.c_[values - values.mean(0), generator.normal(-9, 1, 60)]


def test_a_control_that_is_far_behind_would_inflate_agreement_and_so_is_left_out():
    generator = np.random.default_rng(SEED)
    one, other = (table(with_a_control_far_behind(generator), name) for name in "ab")
    assert krippendorff_alpha(one.values.to_numpy()) > 0.4
    found = reliability([one], {"e4"}).iloc[0]
    assert abs(found["alpha"]) < 0.05 and found["reading"].startswith("only the mean")
    assert split_half(one) > found["split_half"] + 0.5
    ordered = [
        table(each.values + step, name) for name, each, step in (("a", one, FIRST_ORDER), ("b", other, OTHER_ORDER))
    ]
    with_control, without = (metric_agreement(ordered, each).iloc[0] for each in ((), {"e4"}))
    assert with_control["tau"] == pytest.approx(0.4) and without["tau"] == 0 and without["explainers"] == 4


def test_no_number_on_reliability_depends_on_a_control():
    values = with_a_control_far_behind(np.random.default_rng(SEED)) + [0, 0.3, 0.6, 0.9, 0]
    lacking = np.where(np.arange(60)[:, None] % 2 * [0, 0, 0, 0, 1], np.nan, values)
    alone = reliability([table(values[:, :4])])
    for each in (values, lacking):
        pd.testing.assert_frame_equal(reliability([table(each)], {"e4"}), alone)


def test_a_control_alone_has_no_agreement_and_the_table_says_so():
    found = reliability([table(np.random.default_rng(SEED).normal(size=(9, 2)))], {"e0", "e1"}).iloc[0]
    assert np.isnan(found["alpha"]) and found["reading"].startswith("no agreement")
