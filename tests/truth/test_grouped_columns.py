"""Global explainers and libraries on a table whose categorical columns are several numbers: each column is one unit."""

import numpy as np
import pytest
import torch
from sklearn.feature_selection import RFE
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score
from torch import nn

import harness
from harness.api import samples_of
from harness.errors import NotApplicable
from harness.explainers._tabular import training_table
from harness.explainers._trees import Condition
from harness.explainers.global_importance import eliminated
from harness.explainers.rule_list import DecisionRule, used_shares

COLUMNS = (0, 1, 1, 1, 2, 2, 3)  # a number, a category of three, a category of two that is not used, a number
GLOBALS = ["permutation_importance", "mutual_information", "rfe", "random_forest", "tree_surrogate", "rule_list"]

pytestmark = pytest.mark.usefixtures("seed")


class ByCategory(nn.Module):
    """Two classes, decided by the category of three alone: the first of them against the others."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, inputs):
        logit = self.scale * (inputs[:, 1] - 0.5)
        return torch.stack([-logit, logit], 1)


def table(count):
    one_hot = lambda kinds: nn.functional.one_hot(torch.randint(kinds, (count,)), kinds).float()
    return torch.cat([torch.randn(count, 1), one_hot(3), one_hot(2), torch.randn(count, 1)], 1)


def world(count=400):
    model, train = ByCategory().eval().requires_grad_(False), table(count)
    return model, train, model(train).argmax(1)


def explained(name, model, train, labels, columns=COLUMNS, **options):
    found = harness.explain(
        name, model, harness.Data(train[:3], labels[:3], train_labels=labels, columns=columns), train=train, **options
    )
    return found[0].double().numpy()


@pytest.mark.parametrize("name", GLOBALS)
def test_a_global_method_gives_one_number_per_column_and_the_used_category_the_most(name):
    found = explained(name, *world())
    assert found.shape == (4,) and found.argmax() == 1


def test_permutation_importance_moves_a_whole_category_and_loses_what_exchanged_rows_lose():
    model, train, labels = world()
    found = explained("permutation_importance", model, train, labels, repeats=200)
    share = labels.double().mean().item()
    assert found[1] == pytest.approx(2 * share * (1 - share), abs=0.02)  # two rows drawn apart differ so often
    assert found[[0, 2, 3]].tolist() == [0, 0, 0]


def test_permuted_rows_hold_one_category_each():
    model, train, labels = world(60)
    seen = []

    class Watched(ByCategory):
        def forward(self, inputs):
            seen.append(inputs)
            return super().forward(inputs)

    explained("permutation_importance", Watched().eval().requires_grad_(False), train, labels)
    rows = torch.cat(seen)
    assert (rows[:, 1:4].sum(1) == 1).all() and (rows[:, 4:6].sum(1) == 1).all() and len(rows) > 600


def test_the_mutual_information_of_a_category_is_that_of_its_counts():
    model, train, labels = world()
    found = explained("mutual_information", model, train, labels)
    assert found[1] == pytest.approx(mutual_info_score(train[:, 1:4].argmax(1), labels), abs=1e-6)
    assert found[2] == pytest.approx(mutual_info_score(train[:, 4:6].argmax(1), labels), abs=1e-6)


def test_several_numbers_that_hardly_repeat_are_no_category():
    model, train, labels = world()
    with pytest.raises(NotApplicable, match="hardly repeat"):
        explained("mutual_information", model, torch.randn_like(train), labels)


def test_a_forests_shares_of_a_column_are_the_sum_over_its_numbers():
    model, train, labels = world()
    apart = explained("random_forest", model, train, labels, columns=None, trees=5)
    joined = explained("random_forest", model, train, labels, trees=5)
    assert np.allclose(joined, np.bincount(COLUMNS, weights=apart)) and joined.sum() == pytest.approx(1)


def test_a_forests_permutations_move_a_column_as_a_whole():
    model, train, labels = world()
    found = explained("random_forest", model, train, labels, importance="permutation", trees=5, repeats=50)
    share = labels.double().mean().item()
    assert found.shape == (4,) and found[1] == pytest.approx(2 * share * (1 - share), abs=0.1)


def test_elimination_of_columns_of_one_number_is_scikit_learns():
    model, train, labels = nn.Linear(5, 2).eval().requires_grad_(False), torch.randn(200, 5), None
    labels = model(train).argmax(1)
    given = training_table(samples_of(model, train[:1], labels[:1], train=train), 200)
    x, y = train.double().numpy(), labels.numpy()
    fit = lambda: LogisticRegression(max_iter=1000)
    order = eliminated(lambda kept: fit().fit(x[:, kept], y).coef_, given)
    ranks = RFE(fit(), n_features_to_select=1).fit(x, y).ranking_
    assert order == np.argsort(-ranks).tolist()


def test_a_column_is_eliminated_by_the_sum_of_its_squares():
    model, train, labels = world()
    given = training_table(samples_of(model, train[:1], labels[:1], train=train, columns=COLUMNS), 400)
    weights = np.array([1.2, 0.9, 0.9, 0.9, 0.5, 0.5, 1.0])  # squares by column: 1.44, 2.43, 0.5, 1
    assert eliminated(lambda kept: weights[kept], given) == [2, 3, 0, 1]


def test_a_rule_on_two_numbers_of_a_column_counts_once():
    rule = DecisionRule((Condition(1, True, 0.5), Condition(2, False, 0.5)), 1, 0.5, 1.0)
    assert used_shares([rule, DecisionRule((), 0, 0.5, 1.0)], np.array(COLUMNS)).tolist() == [0, 0.5, 0, 0]


@pytest.mark.parametrize("name", ["captum_kernel_shap", "captum_lime"])
def test_captums_value_of_a_column_counts_once(name):
    weight = torch.randn(7)
    model = nn.Linear(7, 1, bias=False).eval().requires_grad_(False)
    model.weight.copy_(weight)
    inputs = table(3)
    found = harness.explain(
        name, model, harness.Data(inputs, torch.zeros(3).long(), columns=COLUMNS), samples=400, baseline="zero"
    )
    whole = torch.zeros(3, 4).index_add_(1, torch.tensor(COLUMNS), inputs * weight)
    assert found.shape == (3, 4)
    torch.testing.assert_close(found.float(), whole, rtol=0, atol=0.02 if name == "captum_kernel_shap" else 0.2)


def test_quantus_needs_a_number_for_every_number():
    pytest.importorskip("quantus")
    model, train, labels = world(30)
    per_column, per_number = torch.randn(3, 4), torch.randn(3, 7)
    with pytest.raises(NotApplicable, match="one for each column"):
        harness.score("quantus.Sparseness", model, harness.Data(train[:3], labels[:3], columns=COLUMNS), per_column)
    assert harness.score(
        "quantus.Sparseness", model, harness.Data(train[:3], labels[:3], columns=COLUMNS), per_number
    ).shape == (3,)
