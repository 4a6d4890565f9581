"""Functions on arrays as models: explained by what only calls the model, and told about in one line by all others."""

import copy
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR, LinearSVC
from torch import nn

import harness
from harness.errors import UserError
from harness.models.black_box import BlackBox, estimator_model
from harness.registry import EXPLAINERS

WEIGHT = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])


def logits(array):
    return array @ WEIGHT.T


RETURNED = {
    "an array": lambda y: y,
    "one column": lambda y: y[:, :1],
    "one number a row": lambda y: y[:, 0],
    "double precision": lambda y: y.astype(np.float64),
    "half precision": lambda y: y.astype(np.float16),
    "lists": lambda y: y.tolist(),
    "a tensor": lambda y: torch.tensor(y, requires_grad=True),
    "a table": lambda y: pd.DataFrame(y, columns=["no", "yes"]),
    "a series": lambda y: pd.Series(y[:, 0]),
    "a view that cannot be written": lambda y: np.broadcast_to(y[:1], y.shape),
    "columns first in memory": lambda y: np.asfortranarray(y),
}


@pytest.mark.parametrize("way", RETURNED)
def test_what_functions_return_is_taken(way):
    inputs = torch.randn(4, 3)
    values = RETURNED[way](logits(inputs.numpy()).round(1))
    expected = np.array(values.tolist() if way == "a tensor" else values)
    outputs = BlackBox(lambda x: RETURNED[way](logits(x).round(1)))(inputs)
    assert outputs.is_floating_point() and not outputs.requires_grad
    assert torch.equal(outputs.double(), torch.tensor(expected.astype(np.float64)))


NOT_TAKEN = {
    "class indices": (lambda x: x[:, 0] > 0, "bool.*class indices.*predict_proba"),
    "whole numbers": (lambda x: logits(x).argmax(1), "int64.*class indices"),
    "names of classes": (lambda x: ["cat"] * len(x), "expected floats"),
    "ragged lists": (lambda x: [[1.0], [1.0, 2.0], [], []], "no array"),
    "fewer rows": (lambda x: logits(x)[:2], r"\(2, 2\) for 4 rows"),
    "one number": (lambda x: 0.5, r"\(\) for 4 rows"),
    "an axis too many": (lambda x: logits(x)[:, None], r"\(4, 1, 2\)"),
    "classes first": (lambda x: logits(x).T, r"\(2, 4\) for 4 rows"),
    "a mapping": (lambda x: {"proba": logits(x)}, "expected floats"),
    "nothing": (lambda x: None, "expected floats"),
    "complex numbers": (lambda x: logits(x) * 1j, "complex"),
    "a failure": (lambda x: {}["no\nkey"], r"raised KeyError: .* for an array \(4, 3\)"),
}


@pytest.mark.parametrize("what", NOT_TAKEN)
def test_what_is_no_score_is_refused_in_one_line(what):
    function, words = NOT_TAKEN[what]
    with pytest.raises(UserError, match=words) as caught:
        BlackBox(function)(torch.randn(4, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_the_function_gets_a_contiguous_array_of_the_inputs_dtype(kind):
    seen = []
    inputs = torch.randn(5, 3, 2, 2).to(kind).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        BlackBox(lambda x: seen.append(x) or x.mean((1, 2, 3)))(inputs)
    wanted = np.float32 if kind == torch.bfloat16 else np.dtype(str(kind).removeprefix("torch."))
    assert seen[0].dtype == wanted and seen[0].flags.c_contiguous and seen[0].flags.writeable
    assert np.array_equal(seen[0], inputs.float().numpy().astype(wanted))


def test_a_function_that_writes_into_its_array_does_not_change_the_inputs():
    def careless(x):
        x[:] = 0
        return x.sum(1)

    inputs = torch.ones(3, 2)
    assert BlackBox(careless)(inputs).tolist() == [0, 0, 0] and inputs.sum() == 6


def test_what_is_carried_comes_by_name():
    box = BlackBox(lambda x, other: x.sum(1) + other)
    assert box(torch.ones(2, 3), other=torch.tensor([1.0, 2.0])).tolist() == [4, 5]


def test_memory_that_ran_out_is_left_to_the_caller():
    def full(x):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        BlackBox(full)(torch.ones(2, 3))


def test_the_module_is_frozen_in_eval_mode_and_copies_call_the_same_function():
    class Client:
        def __init__(self):
            self.lock = threading.Lock()  # which cannot be copied

        def ask(self, x):
            return logits(x)

    box = BlackBox(Client().ask).train()
    copied = copy.deepcopy(nn.Sequential(box))[0]
    assert not box.training and not copied.training and not list(box.parameters())
    assert torch.equal(box(torch.ones(2, 3)), copied(torch.ones(2, 3)))


def test_no_function_is_refused():
    with pytest.raises(UserError, match="expected a function on NumPy arrays"):
        BlackBox(0.5)


def _linear():
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data = torch.tensor(WEIGHT, dtype=torch.float32)
    return layer.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tried():
    """Every explainer on a function: its status, and what it says."""
    torch.manual_seed(0)
    inputs, train = torch.randn(2, 3), torch.randn(40, 3)

    def nothing(batch):
        """Nothing: only the explanations count."""
        return torch.zeros(len(batch), dtype=torch.float64)

    data = harness.Data(inputs, torch.tensor([0, 1]), train_labels=torch.randint(2, (40,)))
    frame = harness.evaluate(BlackBox(logits), data, explainers=list(EXPLAINERS), metrics=[nothing], train=train)
    return frame.drop_duplicates("explainer").set_index("explainer")


def test_every_explainer_works_on_a_function_or_says_why_not(tried):
    assert set(tried["status"]) == {"ok", "not_applicable"}, tried[tried["status"] == "failed"]["error"].to_dict()
    refused = tried[tried["status"] == "not_applicable"]["error"]
    assert refused.str.len().min() > 10


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "smoothgrad", "deep_lift", "captum_deep_lift"])
def test_gradients_are_not_applicable_in_one_line(tried, name):
    assert tried.loc[name, "error"] == "no gradient of the model's output reaches its input"
    with pytest.raises(harness.NotApplicable, match="no gradient of the model's output reaches its input"):
        harness.explain(name, BlackBox(logits), torch.randn(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", ["occlusion", "feature_ablation", "kernel_shap", "exact_shapley", "lime"])
def test_a_function_is_explained_like_the_same_module(name):
    inputs, targets = torch.randn(3, 3), torch.tensor([0, 1, 0])
    of_function, of_module = (harness.explain(name, each, inputs, targets) for each in (BlackBox(logits), _linear()))
    assert torch.allclose(of_function, of_module, atol=1e-4)


def test_a_function_is_scored_like_the_same_module_and_is_never_folded():
    inputs, targets = torch.randn(3, 3), torch.tensor([0, 1, 0])
    how = {"explainers": ["occlusion", "random"], "metrics": {"deletion": {"baseline": "zero"}}, "tuned": True}
    frames = [harness.evaluate(each, inputs, targets, **how) for each in (BlackBox(logits), _linear())]
    assert (frames[0]["status"] == "ok").all(), frames[0]["error"].unique()
    assert np.allclose(frames[0]["value"], frames[1]["value"], atol=1e-5)


COLUMNS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
CLASSES = np.array(["low", "mid", "high"])[COLUMNS.argmax(1)]
TABLE = pd.DataFrame(COLUMNS, columns=["age", "income", "debt"])
CLASSIFIERS = {
    "linear": lambda: LogisticRegression().fit(COLUMNS, CLASSES),
    "trees": lambda: HistGradientBoostingClassifier(max_iter=3).fit(COLUMNS, CLASSES),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(COLUMNS, CLASSES),
    "search": lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(COLUMNS, CLASSES),
    "columns by name": lambda: make_pipeline(
        ColumnTransformer([("scaled", StandardScaler(), ["debt", "age"])]), LogisticRegression()
    ).fit(TABLE, CLASSES),
}


@pytest.mark.filterwarnings("error:X does not have valid feature names")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_gives_its_probabilities_named_by_its_classes(name):
    estimator = CLASSIFIERS[name]()
    loaded = estimator_model(estimator)
    given = TABLE if name == "columns by name" else COLUMNS
    outputs = loaded.module(torch.from_numpy(COLUMNS))
    assert loaded.task == "probabilities" and loaded.classes == ("high", "low", "mid") == tuple(estimator.classes_)
    assert np.allclose(outputs.numpy(), estimator.predict_proba(given), atol=1e-7)
    assert np.allclose(outputs.sum(1), 1, atol=1e-6)


def test_a_classifier_of_two_classes_has_two_columns():
    loaded = estimator_model(LogisticRegression().fit(COLUMNS, COLUMNS[:, 0] > 0))
    assert loaded.classes == ("False", "True") and loaded.module(torch.from_numpy(COLUMNS)).shape == (60, 2)


@pytest.mark.parametrize("estimator", [LinearRegression(), SVR(), make_pipeline(StandardScaler(), SVR())])
def test_a_regressor_gives_its_prediction(estimator):
    estimator.fit(COLUMNS, COLUMNS @ [1.0, 2.0, 3.0])
    loaded = estimator_model(estimator)
    assert loaded.task == "regression" and loaded.classes is None
    assert np.allclose(loaded.module(torch.from_numpy(COLUMNS)), estimator.predict(COLUMNS), atol=1e-6)


class OfTheOldWay:
    """A classifier of a library without scikit-learn's tags."""

    classes_ = np.array([0, 1])
    _estimator_type = "classifier"

    def predict_proba(self, x):
        return np.full((len(x), 2), 0.5)


def test_estimators_of_other_libraries_are_told_by_what_they_have():
    loaded = estimator_model(OfTheOldWay())
    assert loaded.task == "probabilities" and loaded.module(torch.ones(2, 3)).tolist() == [[0.5, 0.5]] * 2


NOT_CERTAIN = {
    "margins": lambda: LinearSVC().fit(COLUMNS, CLASSES),
    "clusters": lambda: KMeans(2, n_init=1).fit(COLUMNS),
    "outliers": lambda: IsolationForest(n_estimators=2).fit(COLUMNS),
    "components": lambda: GaussianMixture(2).fit(COLUMNS),
    "several labels": lambda: RandomForestClassifier(2).fit(COLUMNS, COLUMNS[:, :2] > 0),
    "no estimator": lambda: logits,
}


@pytest.mark.parametrize("what", NOT_CERTAIN)
def test_an_estimator_whose_output_is_not_certain_is_refused_with_what_to_type(what):
    with pytest.raises(UserError, match=r"not certain: .* BlackBox\(estimator.decision_function\).* task=") as caught:
        estimator_model(NOT_CERTAIN[what]())
    assert "\n" not in str(caught.value)


def test_an_estimator_that_is_not_fitted_is_refused():
    with pytest.raises(UserError, match="call fit first"):
        estimator_model(LogisticRegression())
    with pytest.raises(UserError, match="raised NotFittedError"):
        estimator_model(SVR()).module(torch.ones(2, 3))


def test_another_number_of_columns_than_in_training_is_refused():
    with pytest.raises(UserError, match=r"\(2, 4\), expected \(N, 3\).*age, income, debt"):
        estimator_model(CLASSIFIERS["columns by name"]()).module(torch.ones(2, 4))


def test_fitted_estimators_are_told_apart_by_their_fingerprints():
    marks = [
        estimator_model(LogisticRegression(C=strength).fit(COLUMNS, CLASSES)).module.fingerprint.tolist()
        for strength in (1.0, 1.0, 0.1)
    ]
    assert marks[0] == marks[1] != marks[2]
    assert BlackBox(lambda x: x).fingerprint is None
