"""TreeSHAP: the exact Shapley values of ensembles of trees, averaged over the background rows."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import harness
from explainer_worlds import near, smooth_net

pytest.importorskip("shap")

CLASSIFIERS = {
    "a tree": lambda: DecisionTreeClassifier(max_depth=3, random_state=0),
    "a forest": lambda: RandomForestClassifier(5, max_depth=3, random_state=0),
}
REGRESSORS = {
    "a forest": lambda: RandomForestRegressor(5, max_depth=3, random_state=0),
    "boosted histograms": lambda: HistGradientBoostingRegressor(max_iter=4, min_samples_leaf=5, random_state=0),
}


def world():
    x = torch.randn(80, 4)
    return x, (x[:, 0] * x[:, 1] + x[:, 2]).numpy()


def by_hand(model, x, targets, train):
    return torch.stack([harness.explain("exact_shapley", model, x, targets, baseline=row) for row in train]).mean(0)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_of_a_classifier_they_share_the_probability_of_the_target(kind, seed):
    x, response = world()
    model = CLASSIFIERS[kind]().fit(x.numpy(), response > 0)
    rows, targets, train = x[:3], torch.tensor([0, 1, 1]), x[20:30]
    found = harness.explain("tree_shap", model, rows, targets, train=train)
    assert near(found, by_hand(model, rows, targets, train), 1e-4)
    change = model.predict_proba(rows.numpy()) - model.predict_proba(train.numpy()).mean(0)
    assert near(found.sum(1), torch.from_numpy(change)[range(3), targets], 1e-4)


def test_of_boosted_trees_they_share_each_change_of_probability_in_proportion_to_the_values_of_the_log_odds(seed):
    x, response = world()
    model = GradientBoostingClassifier(n_estimators=4, random_state=0).fit(x.numpy(), response > 0)
    rows, targets, train = x[:3], torch.ones(3, dtype=torch.long), x[20:30]
    odds, probability, expected = model.decision_function, model.predict_proba, []
    log_odds = harness.LoadedModel(odds, task="regression")
    for row in train:
        values = harness.explain("exact_shapley", log_odds, rows, 0 * targets, baseline=row).double()
        changes = [f(rows.numpy()) - f(row[None].numpy()) for f in (lambda a: probability(a)[:, 1], odds)]
        slope = np.divide(changes[0], changes[1], out=np.zeros(3), where=changes[1] != 0)
        expected.append(values * torch.from_numpy(slope)[:, None])
    found = harness.explain("tree_shap", model, rows, targets, train=train)
    assert near(found, torch.stack(expected).mean(0), 1e-3)
    assert not near(found, by_hand(model, rows, targets, train), 1e-2)


def test_of_more_than_two_classes_each_has_its_own(seed):
    x, response = world()
    model = RandomForestClassifier(4, max_depth=3, random_state=0).fit(x.numpy(), np.digitize(response, [-0.5, 0.5]))
    targets, train = torch.tensor([2, 1, 0]), x[20:28]
    found = harness.explain("tree_shap", model, x[:3], targets, train=train)
    assert near(found, by_hand(model, x[:3], targets, train), 1e-4)


@pytest.mark.parametrize("kind", REGRESSORS)
def test_of_a_regressor_they_share_its_number(kind, seed):
    x, response = world()
    model, targets = REGRESSORS[kind]().fit(x.numpy(), response), torch.zeros(3, dtype=torch.long)
    found = harness.explain("tree_shap", model, x[:3], targets, train=x[20:30])
    assert near(found, by_hand(model, x[:3], targets, x[20:30]), 1e-4)


def test_the_background_is_the_same_for_all_samples_and_seeds(seed):
    x, response = world()
    model, targets = RandomForestRegressor(3, random_state=0).fit(x.numpy(), response), torch.zeros(3, dtype=torch.long)
    explain = lambda rows, **more: harness.explain("tree_shap", model, rows, targets[: len(rows)], train=x, **more)
    few = explain(x[:3], background=5)
    assert torch.equal(few[1:2], explain(x[1:2], background=5))
    assert torch.equal(few, explain(x[:3], background=5, seed=1))
    assert not torch.equal(few, explain(x[:3], background=6))
    assert torch.equal(explain(x[:3], background=80), explain(x[:3], background=500, seed=1))


@pytest.mark.parametrize("model", [LogisticRegression().fit(np.eye(4), [0, 1, 0, 1]), smooth_net(4)], ids=type)
def test_other_models_are_not_applicable(model):
    with pytest.raises(harness.NotApplicable):
        harness.explain("tree_shap", model, torch.eye(4)[:3], torch.tensor([0, 1, 1]), train=torch.eye(4))
