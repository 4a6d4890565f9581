"""All pairs of explainers as one family: what is claimed by chance, what is found, and that all marks agree."""

import os
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.errors import UserError
from harness.results.family import all_pairs, corrected_t
from harness.results.letters import letters_of
from harness.results.level import ALPHA
from harness.results.matrices import Matrix, matrices
from harness.results.sign_flips import MOST_ENUMERATED
from harness.results.standing import standing
from harness.results.ties import are_one_number

SEED = int(os.environ["HARNESS_TEST_SEED"])
SIMULATED = 200
MOST_BY_CHANCE = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / SIMULATED)  # of what holds with 5 %, seen with three sigma


def table(values, better="higher"):
    frame = pd.DataFrame(values)
    frame.columns = [f"e{place}" for place in range(frame.shape[1])]
    return Matrix({"metric": "m"}, frame, better)


def worlds(seed=SEED):
    """Families of every size, number of samples and shape of scores: ties, constants, skewed, equal columns."""
    generator = np.random.default_rng(seed)
    for n in (2, 3, 5, 6, 9, 14, 15, 40):
        for count in (2, 3, 7):
            noise = generator.normal(size=(n, count)) + generator.normal(size=count)
            yield from (noise, noise.round(), np.exp(2 * noise), np.repeat(noise[:1], n, 0), (noise > 0).astype(float))
            yield np.column_stack([noise, noise[:, 0], noise[:, 0] + 1])


def pairs_of(family):
    return list(combinations(family.names, 2))


@pytest.mark.parametrize("n", [2, 5, 9, MOST_ENUMERATED])
def test_one_pair_of_few_samples_is_tested_exactly_as_scipy_does(n):
    differences = np.random.default_rng([SEED, n]).normal(0.3, 1, n)

    def statistic(x, axis):
        shape = x.mean(axis).shape
        return corrected_t(*(np.atleast_1d((x**power).mean(axis)) for power in (1, 2, 3)), n).reshape(shape)

    expected = stats.permutation_test((differences,), statistic, permutation_type="samples", n_resamples=np.inf).pvalue
    family = all_pairs(table(np.column_stack([differences, np.zeros(n)])))
    observed = abs(family.statistic[0, 1]) * (1 - 1e-9)
    assert (family.largest[0] >= observed).mean() == pytest.approx(expected)
    assert family.p_of("e0", "e1") >= expected * (1 - 1e-9)


def test_the_statistic_is_halls_and_without_skewness_students():
    x = np.random.default_rng(SEED).exponential(size=9)
    deviation, n = x.std(), len(x)
    size, skewness = x.mean() / deviation, stats.skew(x)
    hall = n**0.5 * (size + skewness * size**2 / 3 + skewness**2 * size**3 / 27 + skewness / (6 * n))
    moments = lambda x: (np.atleast_1d(np.mean(x**power)) for power in (1, 2, 3))
    assert corrected_t(*moments(x), n)[0] == pytest.approx(hall)
    symmetric = np.array([1.0, 2.0, 3.0])
    assert corrected_t(*moments(symmetric), 3)[0] * (2 / 3) ** 0.5 == pytest.approx(
        stats.ttest_1samp(symmetric, 0).statistic
    )


@pytest.mark.parametrize(("count", "n"), [(3, 20), (16, 11)])
@pytest.mark.parametrize("kind", ["normal", "skewed", "yes or no", "of different spread"])
def test_where_all_are_alike_any_claim_is_made_in_five_percent_of_tables_at_most(kind, count, n):
    generator = np.random.default_rng([SEED, count, len(kind)])
    draw = {
        "normal": lambda: generator.normal(size=(n, count)),
        "skewed": lambda: generator.exponential(size=(n, count)),
        "yes or no": lambda: generator.random((n, count)) < 0.3,
        "of different spread": lambda: generator.normal(size=(n, count)) * np.geomspace(0.1, 3, count),
    }[kind]
    wrong = [len(set(all_pairs(table(draw() * 1.0), seed=i).letters.values())) > 1 for i in range(SIMULATED)]
    assert np.mean(wrong) < MOST_BY_CHANCE


def test_claims_about_means_hold_where_differences_are_skewed():
    """Differences of mean 0 and skewness 2: flips of Student's t, which suppose symmetry, claim something in 9 %."""
    generator = np.random.default_rng(SEED)
    wrong = []
    for _ in range(1000):
        differences = generator.exponential(size=11) - 1
        family = all_pairs(table(np.column_stack([differences, np.zeros(11)])))
        wrong.append(family.differs("e0", "e1"))
    assert np.mean(wrong) < 0.06 + 2 * np.sqrt(0.06 * 0.94 / 1000)


def test_many_explainers_can_be_shown_to_differ():
    generator = np.random.default_rng(SEED)
    values = generator.normal(size=(20, 33)) * 0.1
    values[:, 0] += 1
    family = all_pairs(table(values))
    assert all(family.better("e0", name) for name in family.names[1:]) and family.letters["e0"] == "a"


def test_every_mark_of_a_family_says_the_same():
    for values in worlds():
        family = all_pairs(table(values))
        marks = standing(family, controls=["e1"])
        for first, second in pairs_of(family):
            assert bool(set(family.letters[first]) & set(family.letters[second])) != family.differs(first, second)
            low, high = family.interval(first, second)
            if not family.able:
                assert np.isnan([low, high]).all()
                continue
            if are_one_number(family.differences(first, second)):  # only their signs are tested
                assert np.isnan([low, high]).all()
                continue
            assert (not low <= 0 <= high) == family.differs(first, second) and low < high
            assert low <= family.difference(first, second) <= high
        best = family.best([name for name in family.names if name != "e1"])
        for name, row in marks.iterrows():
            assert row["best"] == (name == best or not family.better(best, name))
        assert family.able or len(set(family.letters.values())) == 1


def test_more_groups_than_the_alphabet_has_letters_share_none_by_mistake():
    names = [f"e{place}" for place in range(80)]
    place = lambda name: int(name[1:])
    marks = letters_of(names, lambda first, second: abs(place(first) - place(second)) > 1)
    for first, second in combinations(names, 2):
        assert bool(set(marks[first]) & set(marks[second])) == (abs(place(first) - place(second)) <= 1)


def test_fewer_than_six_samples_can_show_nothing_and_it_is_said():
    apart = lambda n: all_pairs(table(np.column_stack([np.arange(n) + 10.0, np.arange(n)])))
    assert [apart(n).able for n in (2, 5, 6, 20)] == [False, False, True, True]
    assert [apart(n).differs("e0", "e1") for n in (2, 5, 6, 20)] == [False, False, True, True]


def test_all_intervals_of_a_family_hold_together():
    generator, truth = np.random.default_rng(SEED), np.array([0.0, 0.3, 1.0, 2.0])
    held = []
    for number in range(SIMULATED):
        family = all_pairs(table(generator.normal(size=(10, 4)) + truth), seed=number)
        ends = {pair: family.interval(*pair) for pair in pairs_of(family)}
        held.append(all(low <= truth[int(a[1])] - truth[int(b[1])] <= high for (a, b), (low, high) in ends.items()))
    assert np.mean(held) > 1 - MOST_BY_CHANCE


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_scale_of_the_scores_changes_no_claim(scale):
    values = np.random.default_rng(SEED).normal(size=(20, 4)) + [0, 0, 1, 2]
    np.testing.assert_allclose(all_pairs(table(values * scale)).p, all_pairs(table(values)).p)


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
def test_a_planted_difference_is_found_with_its_sign_and_size(better, sign):
    generator = np.random.default_rng(SEED)
    level, noise = generator.normal(size=300) * 5, generator.normal(size=300)
    found = standing(all_pairs(table({"a": level, "b": level + sign * (1 + noise)}, better)), ["e0"]).loc["e1"]
    assert found["vs_control"] == pytest.approx(1, abs=0.25) and found["low_control"] < 1 < found["high_control"] + 0.1
    assert found["effect_control"] == pytest.approx(1, abs=0.25) and found["p_control"] < 1e-3
    assert found["share_control"] == pytest.approx(stats.norm.cdf(1), abs=0.1)


def test_only_samples_that_all_have_are_compared_and_who_lacks_many_is_left_out():
    values = np.random.default_rng(SEED).normal(size=(30, 3))
    values[:2, 0], values[:10, 2] = np.nan, np.nan
    family = all_pairs(table(values))
    assert family.names == ["e0", "e1"] and family.n == 28
    assert family.difference("e0", "e1") == pytest.approx((values[2:, 0] - values[2:, 1]).mean())


@pytest.mark.parametrize("spread", [0.1, 1e-2, 1e-3, 1e-6])
def test_no_p_value_is_0_however_alike_the_differences_are(spread):
    random = np.random.default_rng(SEED)
    for _ in range(20):
        scores = random.normal(size=(1, 3)) + spread * random.normal(size=(40, 3))
        family = all_pairs(table(scores))
        pairs = ~np.eye(3, dtype=bool)
        assert (family.p[pairs] > 0).all()


def test_a_constant_difference_is_an_infinite_effect_and_none_is_no_effect():
    level = np.arange(20.0)
    family = all_pairs(table({"a": level, "b": level + 1, "c": level}))
    assert family.effect("e1", "e0") == np.inf and family.differs("e1", "e0")
    assert family.effect("e2", "e0") == 0 and family.p_of("e2", "e0") == 1
    rounded = all_pairs(table({"a": np.arange(3, 9) / 10, "b": np.arange(6) / 10}))
    assert rounded.effect("e0", "e1") == np.inf


@pytest.mark.parametrize("gap", [0.0, 1.0, 0.3])
def test_differences_that_are_all_one_number_have_no_interval(gap):
    level = np.arange(6.0) / 10
    family = all_pairs(table({"a": level, "b": level + gap}))
    assert np.isnan(family.interval("e1", "e0")).all()
    assert family.p_of("e1", "e0") == (1 / 32 if gap else 1)


@pytest.mark.parametrize("n", [6, 10, 40])
def test_the_critical_value_to_plan_with_is_one_of_students_t(n):
    """Differences without skewness, shifted so that they are just at the edge of what is shown."""
    half = np.random.default_rng(SEED).normal(size=n // 2)
    values = np.r_[half, -half] + 1
    family = all_pairs(table({"a": values, "b": np.zeros(n)}))
    at_the_edge = replace(family, largest=np.full((2, 100), family.statistic[0, 1]))
    assert at_the_edge.critical_t == pytest.approx(stats.ttest_1samp(values, 0).statistic)
    assert all_pairs(table({"a": values[:5], "b": np.zeros(5)})).critical_t is None


def test_scores_that_differ_by_rounding_are_equal():
    scores = np.random.default_rng(SEED).normal(size=20).astype(np.float32)
    family = all_pairs(table({"a": scores, "b": np.nextafter(scores, np.float32(-9))}))
    assert family.p_of("e0", "e1") == 1 and family.letters == {"e0": "a", "e1": "a"}


def test_ties_count_half_in_the_share_of_samples_that_are_better():
    family = all_pairs(table({"a": [1.0, 0.0, 0.0, 2.0], "b": [0.0, 0.0, 0.0, 3.0]}))
    assert family.share_better("e0", "e1") == 0.5


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
