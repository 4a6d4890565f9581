"""The mathematics of the study beexai: released scores with known values, ranks, exact tests, and tables of users."""

import numpy as np
import pandas as pd
import pytest
import torch

from harness.errors import UserError
from harness.reproducing.studies.beexai import ranks, released, tables
from harness.reproducing.studies.shared.mean_tests import means_all_above, sign_flip_p

WEIGHTS = torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0])


def linear_value(inputs):
    return inputs.double() @ WEIGHTS.double() + 1


@pytest.fixture
def rows_of_table():
    return torch.randn(30, 5, generator=torch.Generator().manual_seed(0))


def test_contributions_of_a_linear_function_correlate_by_1_with_the_drops_of_subsets_without_repeats(rows_of_table):
    found = released.faithfulness_of_table(
        linear_value, rows_of_table, (rows_of_table * WEIGHTS).double(), 0, absolute=False
    )
    assert found == pytest.approx(1, abs=1e-12)  # of five columns a subset holds one
    assert np.isnan(
        released.faithfulness_of_table(linear_value, rows_of_table, torch.zeros(30, 5).double(), 0, absolute=False)
    )


def test_the_gradient_of_a_linear_function_has_no_infidelity_and_zeros_have_that_of_no_attribution(rows_of_table):
    gradient = WEIGHTS.double().expand(30, 5)
    error, plain = released.infidelity_of_table(linear_value, rows_of_table, gradient, 0, absolute=False)
    assert error < 1e-12 * plain
    error, plain = released.infidelity_of_table(linear_value, rows_of_table, 0 * gradient, 0, absolute=False)
    assert error == plain > 0


def test_plain_infidelity_is_the_mean_square_of_the_output_less_that_of_noise(rows_of_table):
    draws = rows_of_table.repeat(400, 1)
    _, plain = released.infidelity_of_table(linear_value, draws, torch.zeros(len(draws), 5).double(), 0, absolute=False)
    spread = draws.std(0).double().square().mean() * WEIGHTS.double().square().sum()
    expected = (rows_of_table.double() @ WEIGHTS.double()).square().mean() + spread
    assert plain == pytest.approx(expected.item(), rel=0.02)


def test_a_map_that_does_not_change_has_no_sensitivity_and_that_of_the_input_is_at_most_the_noise(rows_of_table):
    still = torch.ones(30, 5).double()
    assert released.sensitivity_of_table(lambda changed: still, rows_of_table, still, 0, 2) == 0
    found = released.sensitivity_of_table(lambda changed: changed.double(), rows_of_table, rows_of_table.double(), 0, 3)
    assert 100 / np.sqrt(30) * 0.8 < found < 100  # a row's share of the norm of the noise of all rows


def test_scores_by_order_of_a_linear_function_are_sums_of_its_contributions(rows_of_table):
    inputs = rows_of_table.abs()
    contributions = inputs * WEIGHTS
    found = released.scores_by_order(linear_value, inputs, contributions, absolute=False)
    ordered = contributions.sort(1, descending=True).values.double()
    assert found["Comprehensiveness"] == pytest.approx(ordered[:, :1].sum(1).mean().item(), rel=1e-5)  # 30 % of five
    assert found["Sufficiency"] == pytest.approx(ordered[:, 1:].sum(1).mean().item(), rel=1e-4, abs=1e-5)
    best = released.scores_by_order(linear_value, inputs, -contributions, absolute=False)
    assert best["Comprehensiveness"] < found["Comprehensiveness"] and best["Sufficiency"] > found["Sufficiency"]


def test_the_area_of_agreement_is_1_less_the_share_of_the_last_half_step_where_no_class_changes(rows_of_table):
    same = released.agreement_area(lambda inputs: torch.zeros(len(inputs)), rows_of_table, rows_of_table)
    assert same == pytest.approx(4 / 5)  # five points, a trapezoid of length 4, over five columns


def test_entropy_and_gini_of_one_column_and_of_equal_columns():
    one, equal = torch.eye(4).double(), torch.ones(4, 4).double()
    assert released.entropy_of_maps(one) == pytest.approx(0, abs=1e-6)
    assert released.entropy_of_maps(equal) == pytest.approx(np.log(4) / 4, abs=1e-6)
    assert released.gini_of_maps(one) == pytest.approx(1 - 1 / 4)
    assert released.gini_of_maps(equal) == pytest.approx(0, abs=1e-6)


def test_scaled_attributions_have_norm_1_and_zeros_stay():
    maps = torch.tensor([[3.0, -4.0]])
    assert released.scaled_to_one(maps, absolute=True).tolist() == [[0.6, 0.8]]
    assert not released.scaled_to_one(torch.zeros(2, 2), absolute=False).any()


def scores_of_two_tables(values):
    rows = [
        {"table": table, "seed": seed, "explainer": each, "metric": "Infidelity", "value": value + 0.1 * seed}
        for table in ("first", "second")
        for seed in (0, 1)
        for each, value in zip(ranks.EXPLAINERS_OF_PAPER, values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_ranks_share_ties_give_undefined_scores_the_last_place_and_average_seeds():
    found = ranks.ranks_by_table(scores_of_two_tables([1, 2, 2, 4, np.nan, 0]), "Infidelity")
    assert found.shape == (2, 6)
    assert found.loc["first"].tolist() == [2, 3.5, 3.5, 5, 6, 1]


def test_a_sign_flip_test_is_exact_and_cannot_pass_with_four_tables():
    assert sign_flip_p(np.ones(5)) == 1 / 32
    assert sign_flip_p(np.ones(4)) == 1 / 16
    assert means_all_above([np.ones(5), np.ones(5)]) == (True, 1 / 32)
    assert means_all_above([np.ones(4)])[0] is None
    assert means_all_above([-np.ones(8), np.ones(8)])[0] is False
    with pytest.raises(ValueError, match="not a number"):
        sign_flip_p(np.array([-1.0, np.nan, -2.0]))
    assert sign_flip_p(np.zeros(5)) == 1
    many = np.random.default_rng(0).normal(0.5, 1, 53)
    assert sign_flip_p(many) < 0.01


def test_friedmans_test_by_permutation_is_exact_for_three_explainers_on_three_tables():
    found = ranks.friedman_p(np.tile([1.0, 2.0, 3.0], (3, 1)))
    assert found == pytest.approx(1 / 36, abs=0.004)  # all tables agree: 6 of 216
    assert ranks.friedman_p(np.full((4, 3), 2.0)) == 1


@pytest.fixture
def folder_of_tables(tmp_path):
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(200, 3))
    frame = pd.DataFrame(numbers, columns=["a", "b", "c"]).assign(kind=draw.choice(["x", "y"], 200))
    frame.assign(target=np.where(numbers[:, 0] > 0, "yes", "no")).to_csv(tmp_path / "classes.csv", index=False)
    frame.assign(target=numbers.sum(1))[["target", "a", "b", "kind"]].to_csv(tmp_path / "numbers.csv", index=False)
    (tmp_path / "targets.csv").write_text("file,target\nnumbers.csv,target\n")
    return tmp_path


def test_tables_of_the_user_take_the_last_or_the_stated_column_as_target(folder_of_tables, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(folder_of_tables / "cache"))
    assert tables.tables_of_folder(folder_of_tables) == {"classes.csv": "target", "numbers.csv": "target"}
    subject = tables.net_of_table("classes.csv", str(folder_of_tables), 0, 10)
    assert subject.task == tables.CLASSES_TASK and subject.inputs.shape == (10, 5) and subject.score > 0.8
    torch.testing.assert_close(subject.net_of_scores(subject.inputs).sum(1), torch.ones(10))
    again = tables.net_of_table("numbers.csv", str(folder_of_tables), 0, 10)
    assert again.task == tables.NUMBERS_TASK and again.net(again.inputs).shape == (10, 1) and again.score > 0.3


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"other.txt": "a"}, "no CSV files"),
        ({"few.csv": "a,b\n" + "1.5,x\n2.5,y\n" * 10}, "rows to train"),
        ({"a.csv": "a,b\n1,2\n", "targets.csv": "file,target\nb.csv,b\n"}, "names b.csv"),
        ({"a.csv": "a,b\n1,2\n", "targets.csv": "name\na.csv\n"}, "lacks the column file"),
        ({"a.csv": "a,b\n1,2\n", "targets.csv": "file,target\na.csv,c\n"}, "no column 'c'"),
    ],
)
def test_a_folder_without_usable_tables_is_refused_in_one_line(files, told, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told) as error:
        tables.tables_of_folder(tmp_path)
    assert "\n" not in str(error.value)
