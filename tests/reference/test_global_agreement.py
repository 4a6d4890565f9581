"""Global methods meet scikit-learn's, which are independent of the harness' engine."""

import os

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import RFE, mutual_info_classif
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import harness
from harness.explainers._tabular import global_key, training_table
from harness.explainers.permutation_importance import LOSSES, loss_increases
from harness.explainers.surrogates import tree_responses
from harness.predictor import Predictor
from harness.randomness import permutations
from harness.registry import EXPLAINERS


class Net(ClassifierMixin, BaseEstimator):
    """A torch model as a fitted scikit-learn classifier."""

    def __init__(self, module):
        self.module, self.classes_ = module, np.arange(3)

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        with torch.no_grad():
            return self.module(torch.as_tensor(x, dtype=torch.float32)).double().softmax(1).numpy()

    def predict(self, x):
        return self.predict_proba(x).argmax(1)


@pytest.fixture
def world():
    """A net, 300 training rows and labels that it gets mostly right."""
    seed = int(os.environ["HARNESS_TEST_SEED"])
    print(f"seed {seed}")
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    net[0].weight.data *= 3
    train = torch.randn(300, 6)
    labels = net(train).argmax(1)
    labels[::5] = torch.randint(3, (60,))
    return net, train, labels


@pytest.mark.parametrize(("score", "scoring"), [("accuracy", "accuracy"), ("log_loss", "neg_log_loss")])
def test_with_the_same_permutations_importances_are_scikit_learns(world, score, scoring):
    net, train, labels = world
    theirs = permutation_importance(
        Net(net), train.numpy(), labels.numpy(), scoring=scoring, n_repeats=4, random_state=5
    )
    # From one seed for every column, scikit-learn shuffles row numbers again and again, and a column that is permuted
    # already by them.
    generator = np.random.RandomState(np.random.RandomState(5).randint(np.iinfo(np.int32).max + 1))
    numbers, order, orders = np.arange(300), np.arange(300), []
    for _ in range(4):
        generator.shuffle(numbers)
        order = order[numbers]
        orders.append(torch.from_numpy(order))
    ours = loss_increases(
        Predictor(net, chunk=700),
        train,
        lambda outputs: LOSSES[score](outputs, labels),
        4,
        lambda pairs: torch.stack(orders)[pairs // 6],
        torch.arange(6),
    )
    assert np.allclose(ours.T, theirs.importances, atol=1e-6)
    assert theirs.importances.std() > 1e-3


def test_with_other_permutations_means_agree_within_their_error(world):
    net, train, labels = world
    theirs = permutation_importance(Net(net), train.numpy(), labels.numpy(), n_repeats=40, random_state=0)
    ours = harness.explain(
        "permutation_importance", net, harness.Data(train[:1], labels[:1], train_labels=labels), train=train, repeats=40
    )
    error = theirs.importances_std * np.sqrt(2 / 40)
    assert (np.abs(ours[0].numpy() - theirs.importances_mean) < 5.5 * error + 1e-9).all()


def given(world, name, **options):
    net, train, labels = world
    return harness.explain(name, net, harness.Data(train[:1], labels[:1], train_labels=labels), train=train, **options)[
        0
    ].numpy()


def table_of(world):
    net, train, labels = world
    return training_table(harness.api.samples_of(net, train[:1], labels[:1], train=train, train_labels=labels), 10_000)


def test_mutual_information_and_rfe_are_scikit_learns(world):
    net, train, labels = world
    x, predicted = train.double().numpy(), net(train).argmax(1).numpy()
    for kind, y in (("predicted", predicted), ("label", labels.numpy())):
        expected = mutual_info_classif(x, y, random_state=0)
        assert np.allclose(given(world, "mutual_information", labels=kind), expected, atol=1e-6)
        scaled = (x - x.mean(0)) / x.std(0)
        ranks = RFE(LogisticRegression(max_iter=1000), n_features_to_select=1).fit(scaled, y).ranking_
        assert np.array_equal(given(world, "rfe", labels=kind), 6 - ranks)
    assert not np.allclose(given(world, "mutual_information", neighbours=8), given(world, "mutual_information"))


def test_the_forest_is_scikit_learns_on_the_rows_not_held_out(world):
    table = table_of(world)
    fit, held = table.split(0.25)
    assert len(held) == 75 and sorted([*fit, *held]) == list(range(300))
    y = table.truth("predicted").numpy()
    forest = RandomForestClassifier(7, max_depth=3, random_state=table.random_state("random forest"))
    forest.fit(table.values[fit], y[fit])
    ours = given(world, "random_forest", trees=7, depth=3, held_out=0.25)
    assert np.allclose(ours, forest.feature_importances_, atol=1e-6)


def test_the_linear_surrogate_solves_the_normal_equations(world):
    table = table_of(world)
    fit, _ = table.split(0.3)
    x, y = table.values[fit], table.outputs.double().numpy()[fit]
    for alpha, standardise in ((1.0, True), (40.0, True), (40.0, False)):
        unit = x.std(0) if standardise else np.ones(6)
        centred = (x - x.mean(0)) / unit
        solution = np.linalg.solve(centred.T @ centred + alpha * np.eye(6), centred.T @ (y - y.mean(0))) / unit[:, None]
        ours = given(world, "linear_surrogate", penalty=alpha, standardise=standardise)
        assert np.allclose(ours, solution[:, int(world[2][0])], atol=1e-5)
        assert np.allclose(Ridge(alpha).fit(x / unit, y).coef_.T / unit[:, None], solution)


def test_a_tree_grown_on_classes_by_squared_error_is_ginis_tree(world):
    table = table_of(world)
    fit, _ = table.split(0.3)
    y = tree_responses(table, "class").argmax(1)
    state = table.random_state("tree surrogate")
    gini = DecisionTreeClassifier(max_depth=4, random_state=state).fit(table.values[fit], y[fit])
    assert np.allclose(given(world, "tree_surrogate", fit="class"), gini.feature_importances_, atol=1e-5)


def test_every_global_method_can_be_listed_with_its_scope():
    names = "permutation_importance mutual_information rfe random_forest linear_surrogate tree_surrogate rule_list"
    assert all(EXPLAINERS[name].scope == "global" for name in names.split())
    assert permutations(global_key(0, "use"), 1, 5).shape == (1, 1, 5)


def test_scikit_learn_takes_a_column_of_two_values_as_continuous():
    """A column that decides nothing and one that decides the class, of two values each: neighbours are ties."""
    rows = np.arange(400)
    x = np.stack([rows % 2, rows // 2 % 2], 1).astype(float)
    theirs = mutual_info_classif(x, rows % 2, random_state=0)
    net = nn.Linear(2, 2).eval()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[-9.0, 0], [9.0, 0]]))
        net.bias.copy_(torch.tensor([4.5, -4.5]))
    data = torch.from_numpy(x).float()
    found = harness.explain("mutual_information", net, data[:1], torch.tensor([0]), train=data)[0]
    assert np.allclose(found, [np.log(2), 0], atol=1e-6)
    assert abs(theirs - found.numpy()).max() > 0.01
