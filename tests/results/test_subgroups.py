"""Gaps between groups of samples, where the true gap is known."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import harness
from harness.errors import UserError
from harness.results.subgroups import by_group, disparity, divisions

SEED = int(os.environ["HARNESS_TEST_SEED"])


@pytest.fixture
def generator():
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def scores(values, groups, better="higher", name="sex", **more):
    texts = [json.dumps({name: group}) for group in groups]
    return pd.DataFrame({"explainer": "e", "metric": "m", "better": better, "value": values, "groups": texts, **more})


def drawn(generator, means, count=60, spread=1.0, **more):
    groups = np.repeat([f"group {i}" for i in range(len(means))], count)
    return scores(generator.normal(np.repeat(means, count), spread), groups, **more)


def test_the_gap_is_the_largest_less_the_smallest_mean_and_names_who_is_worst():
    frame = scores([1.0, 2.0, 3.0, 5.0, 9.0, 11.0], ["a", "a", "b", "b", "c", "c"])
    (row,) = disparity(frame, "sex", least=2).to_dict("records")
    assert (row["worst"], row["best"], row["gap"], row["groups"], row["n"]) == ("a", "c", 8.5, 3, 6)
    assert row["ratio"] == pytest.approx(1.5 / 10)
    (low,) = disparity(frame.assign(better="lower"), "sex", least=2).to_dict("records")
    assert (low["worst"], low["best"], low["gap"]) == ("c", "a", 8.5)
    assert (low["worst_mean"], low["best_mean"]) == (10.0, 1.5)


@pytest.mark.parametrize("means", [(5.0, 6.0), (5.0, 5.0, 6.5, 5.2)], ids=str)
def test_the_interval_of_the_gap_covers_the_true_gap_at_least_as_often_as_it_says(generator, means):
    covered = 0
    for _ in range(60):
        (row,) = disparity(drawn(generator, means), "sex").to_dict("records")
        covered += row["gap_low"] <= np.ptp(means) <= row["gap_high"]
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"] <= 1
    assert covered >= 50  # 95 % of 60 is 57; fewer than 50 happen once in ten thousand times


def test_without_a_difference_the_interval_reaches_down_to_0_and_chance_explains_the_gap(generator):
    small, lowest = 0, 0
    for _ in range(40):
        (row,) = disparity(drawn(generator, (5.0, 5.0, 5.0), count=30), "sex").to_dict("records")
        small, lowest = small + (row["p"] < 0.05), lowest + (row["gap_low"] > 0)
    assert small <= 9 and lowest <= 9  # 2 are expected; 10 happen once in ten thousand times


def test_a_large_difference_is_beyond_chance(generator):
    (row,) = disparity(drawn(generator, (5.0, 8.0)), "sex").to_dict("records")
    assert row["p"] < 0.001 and row["gap_low"] > 1.5 and row["worst"] == "group 0"


def test_small_groups_count_in_nothing_and_are_named(generator):
    frame = pd.concat([drawn(generator, (5.0, 6.0), count=40), scores([900.0] * 5, ["rare"] * 5)])
    (row,) = disparity(frame, "sex").to_dict("records")
    assert row["small"] == "rare" and row["groups"] == 2 and row["gap"] < 10
    (row,) = disparity(frame, "sex", least=5).to_dict("records")
    assert row["small"] == "" and row["best"] == "rare"


def test_values_that_are_not_finite_are_counted_and_enter_nothing(generator):
    frame = drawn(generator, (5.0, 6.0), count=40)
    frame.loc[:4, "value"] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    means = by_group(frame, "sex").set_index("group")
    assert (means.loc["group 0", "n"], means.loc["group 0", "n_invalid"]) == (35, 5)
    assert np.isfinite(means["mean"]).all() and disparity(frame, "sex").n.item() == 75


@pytest.mark.parametrize("values", [[1.0] * 40 + [-1.0] * 40, [0.0] * 80])
def test_means_that_are_not_positive_have_no_ratio(values):
    (row,) = disparity(scores(values, ["a"] * 40 + ["b"] * 40), "sex").to_dict("records")
    assert np.isnan(row["ratio"]) and row["gap"] == abs(values[0] - values[-1])


def test_one_group_has_nothing_to_differ_from(generator):
    (row,) = disparity(drawn(generator, (5.0,)), "sex").to_dict("records")
    assert row["worst"] is None and np.isnan(row["gap"]) and row["groups"] == 1


def test_accuracy_stands_beside_the_mean(generator):
    frame = drawn(generator, (5.0, 6.0), count=40).assign(label=1, prediction=[1] * 30 + [0] * 10 + [1] * 40)
    assert by_group(frame, "sex")["accuracy"].tolist() == [0.75, 1.0]
    assert divisions(frame) == ["prediction", "label", "correct", "sex"]
    by_correct = by_group(frame, "correct").set_index("group")
    assert by_correct.loc["wrong", "n"] == 10 and by_correct.loc["correct", "n"] == 70


def test_a_group_of_hits_alone_has_the_binomial_interval():
    frame = scores([1.0] * 5 + [0.0, 1.0] * 4, ["a"] * 5 + ["b"] * 8)
    known = by_group(frame.assign(least=0.0, most=1.0), "sex").set_index("group")
    expected = stats.binomtest(5, 5).proportion_ci(method="exact")
    assert known.loc["a", ["ci_low", "ci_high"]].tolist() == pytest.approx([expected.low, expected.high])
    unknown = by_group(frame, "sex").set_index("group")
    assert np.isnan(unknown.loc["a", ["ci_low", "ci_high"]].astype(float)).all() and unknown.loc["b", "ci_low"] < 0.5


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_groups_of_one_number_may_differ_by_what_was_not_seen(value):
    frame = scores([value] * 60, ["a"] * 30 + ["b"] * 30)
    (row,) = disparity(frame.assign(least=0.0, most=1.0), "sex").to_dict("records")
    assert row["gap"] == row["gap_low"] == 0 and 0.05 < row["gap_high"] < 0.2 and row["p"] == 1
    (row,) = disparity(frame, "sex").to_dict("records")
    assert row["gap"] == 0 and np.isnan([row["gap_low"], row["gap_high"]]).all()


def test_the_interval_of_the_gap_covers_the_true_gap_where_a_group_has_hits_alone(generator):
    covered, shares = 0, (0.99, 0.9)
    for _ in range(60):
        hits = (generator.random((2, 30)) < np.array(shares)[:, None]).astype(float)
        frame = scores(hits.ravel(), ["a"] * 30 + ["b"] * 30, least=0.0, most=1.0)
        (row,) = disparity(frame, "sex").to_dict("records")
        covered += row["gap_low"] <= 0.09 <= row["gap_high"]
    assert covered >= 50  # 95 % of 60 is 57


def test_an_unknown_division_is_refused_with_what_there_is(generator):
    with pytest.raises(UserError, match="division of the samples 'race': .*available: sex"):
        disparity(drawn(generator, (5.0, 6.0)), "race")
    with pytest.raises(UserError, match="column better"):
        disparity(drawn(generator, (5.0, 6.0)).drop(columns="better"), "sex")


def test_evaluate_hands_groups_and_labels_to_every_row():
    import torch

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    inputs, targets = torch.randn(80, 3, 2, 2), torch.arange(80) % 2
    frame = harness.evaluate(
        model,
        harness.Data(inputs, targets, groups={"sex": np.array(["f", "m"] * 40), "age": torch.arange(80) // 40}),
        explainers=["saliency", "random"],
        metrics=["sparseness"],
    )
    assert {"label", "correct", "target", "sex", "age"} <= set(divisions(frame))
    found = disparity(frame, "sex")
    assert found["explainer"].tolist() == ["saliency", "random"] and (found["n"] == 80).all()
    with pytest.raises(UserError, match="groups 'sex' have 3 entries, expected one for each of 80 samples"):
        harness.evaluate(
            model, harness.Data(inputs, targets, groups={"sex": "abc"}), explainers=["random"], metrics=["sparseness"]
        )


def test_a_metric_without_a_direction_has_a_gap_but_no_worst_group(generator):
    (row,) = disparity(drawn(generator, (5.0, 8.0), better=None), "sex").to_dict("records")
    assert row["worst"] is None and row["best"] is None and np.isnan([row["worst_mean"], row["best_mean"]]).all()
    assert row["gap"] > 1.5 and row["p"] < 0.001


def test_cells_of_several_protocols_are_not_pooled(generator):
    frame = drawn(generator, (5.0, 6.0))
    both = pd.concat([frame.assign(cell="a"), frame.assign(cell="b")])
    found = disparity(both, "sex")
    assert found["cell"].tolist() == ["a", "b"] and found["n"].tolist() == [120, 120]
    assert by_group(both, "sex")["n"].tolist() == [60] * 4
    assert "cell" not in disparity(frame.assign(cell="a"), "sex")


def test_a_division_that_the_data_brings_goes_before_one_of_the_same_name():
    frame = scores([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"], name="label", label=[0, 1, 0, 1])
    assert divisions(frame) == ["label"] and disparity(frame, "label", least=2)["gap"].item() == 2


def test_scores_that_are_left_out_are_counted(generator):
    frame = drawn(generator, (5.0, 6.0), count=40)
    frame.loc[:4, "value"] = np.nan
    assert disparity(frame, "sex")[["n", "n_invalid"]].values.tolist() == [[75, 5]]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (["f", "m"], "groups are a list, expected a mapping"),
        ({"sex": [["f"], ["m"]]}, "groups 'sex' hold a list"),
        ({"age": np.array([[1.0, 2.0], [3.0, 4.0]])}, "groups 'age' hold a ndarray"),
        ({"day": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")}, "groups 'day' hold a date"),
    ],
    ids=str,
)
def test_groups_that_are_no_names_are_refused_in_one_line(groups, said):
    import torch

    model, inputs = torch.nn.Linear(3, 2).eval(), torch.randn(2, 3)
    with pytest.raises(UserError, match=said):
        harness.evaluate(
            model,
            harness.Data(inputs, torch.tensor([0, 1]), groups=groups),
            explainers=["random"],
            metrics=["sparseness"],
        )
