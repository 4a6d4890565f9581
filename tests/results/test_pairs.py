"""Which explainers are shown to differ on the same samples, and how much is claimed by chance."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.errors import UserError
from harness.results.matrices import Matrix, matrices
from harness.results.pairs import against, all_pairs, flip_test, holm, letters, standing

SEED = int(os.environ["HARNESS_TEST_SEED"])


def table(values, better="higher"):
    frame = pd.DataFrame(values)
    frame.columns = [f"e{place}" for place in range(frame.shape[1])]
    return Matrix({"metric": "m"}, frame, better)


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


def test_holm_keeps_the_chance_of_any_false_claim_below_five_percent():
    generator = np.random.default_rng(SEED)
    wrong = [np.nanmin(all_pairs(table(generator.normal(size=(20, 5))))["p_holm"]) < 0.05 for _ in range(200)]
    assert np.mean(wrong) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
def test_a_planted_difference_is_found_with_its_sign_and_size(better, sign):
    generator = np.random.default_rng(SEED)
    level = generator.normal(size=300) * 5
    noise = generator.normal(size=300)
    found = against(table({"a": level, "b": level + sign * (1 + noise)}, better), "e0").iloc[0]
    assert found["difference"] == pytest.approx(1, abs=0.25) and found["low"] < 1 < found["high"] + 0.1
    assert found["effect"] == pytest.approx(1, abs=0.25) and found["p_holm"] < 1e-3
    assert found["share_better"] == pytest.approx(stats.norm.cdf(1), abs=0.1)


def test_only_samples_that_both_have_are_compared():
    values = np.random.default_rng(SEED).normal(size=(30, 2))
    values[:10, 0] = np.nan
    found = against(table(values), "e0").iloc[0]
    assert found["n"] == 20 and found["difference"] == pytest.approx((values[10:, 1] - values[10:, 0]).mean())


def test_a_constant_difference_is_an_infinite_effect_and_none_is_no_effect():
    level = np.arange(20.0)
    found = against(table({"a": level, "b": level + 1, "c": level}), "e0").set_index("explainer")
    assert found.loc["e1", "effect"] == np.inf and found.loc["e2", "effect"] == 0 and found.loc["e2", "p"] == 1


def test_explainers_share_a_letter_exactly_if_no_difference_is_shown():
    generator = np.random.default_rng(SEED)
    for _ in range(20):
        values = generator.normal(size=(40, 6)) + generator.normal(size=6) * 0.4
        matrix = table(values)
        marks, pairs = letters(matrix), all_pairs(matrix)
        for row in pairs.itertuples():
            assert bool(set(marks[row.first]) & set(marks[row.second])) == (row.p_holm >= 0.05)
        assert "a" in marks[matrix.values.mean().idxmax()]


def test_the_best_the_controls_and_those_not_shown_to_be_worse():
    generator = np.random.default_rng(SEED)
    level = generator.normal(size=(200, 1))
    shift = np.array([2.0, 2.0, 1.0, 0.0])
    found = standing(table(level + shift + 0.3 * generator.normal(size=(200, 4))), controls=["e3"]).set_index(
        "explainer"
    )
    assert found["best"].tolist() == [True, True, False, False] or found["best"].sum() == 1
    assert (found.loc[["e0", "e1", "e2"], "p_control"] < 0.01).all() and np.isnan(found.loc["e3", "vs_control"])
    assert found.loc["e2", "vs_control"] == pytest.approx(1, abs=0.15)


def test_scores_become_matrices_by_metric_with_missing_ones_as_holes():
    scores = pd.DataFrame(
        {
            "model": "net",
            "dataset": "data",
            "explainer": list("aabb"),
            "metric": "m",
            "sample": [1, 2, 1, 2],
            "value": [1.0, np.inf, 3.0, 4.0],
            "better": "lower",
        }
    )
    (matrix,) = matrices(scores)
    assert matrix.names == {"model": "net", "dataset": "data", "metric": "m"}
    assert matrix.signed["b"].tolist() == [-3, -4] and np.isnan(matrix.values.loc[2, "a"]) and len(matrix.complete) == 1


def test_two_cells_of_one_explainer_are_refused():
    scores = pd.DataFrame({"explainer": "a", "metric": "m", "sample": [1, 1], "value": 1.0, "better": "lower"})
    with pytest.raises(UserError, match="several cells"):
        list(matrices(scores))


def test_no_drawn_p_is_zero():
    assert flip_test(np.ones((40, 1)))[0] == pytest.approx(1 / 10_001)


def test_ties_count_half_in_the_share_of_samples_that_are_better():
    values = pd.DataFrame({"a": [1.0, 0.0, 0.0, 2.0], "b": [0.0, 0.0, 0.0, 3.0]})
    assert against(Matrix({"metric": "m"}, values, "higher"), "b")["share_better"][0] == 0.5
