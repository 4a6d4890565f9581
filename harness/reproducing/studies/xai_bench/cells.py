"""The benchmark of Liu et al. 2021 (2106.12543): three models of correlated Gaussian columns, explained and scored."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from harness.api import explain
from harness.datasets.gaussian import covariance, draw_gaussian
from harness.datasets.gaussian_terms import GaussianFunction, sum_of_terms
from harness.models.black_box import BlackBox
from harness.reproducing.studies.xai_bench.coalitions import (
    Predict,
    conditional_worths,
    marginal_outputs,
    shapley_of_worths,
    symmetric_normals,
)
from harness.reproducing.studies.xai_bench.explainers import break_down, maple, released_regression, shapr
from harness.reproducing.studies.xai_bench.metrics import (
    changes_on_insertion,
    correlations_of_rows,
    drawn_changes,
    faithfulness_of,
    infidelity_over_sets,
    monotonicity_of,
    orders_of_insertion,
    released_monotonicity,
)
from harness.sources import LoadedModel

COLUMNS = 5
TARGETS = {
    "linear": "gaussianLinear",
    "additive": "gaussianNonLinearAdditive",
    "piecewise": "gaussianPiecewiseConstant",
}  # our names and the paper's
NOISE = 0.01  # of the targets, before they are standardised
DRAWS = 100  # of a column, for faithfulness
SHAPR_WIDTH = 0.4
TRUTH = "conditional Shapley values"
METHODS = ("SHAP", "BF-SHAP", "SHAPR", "BreakDown", "MAPLE", "LIME")
# Methods as they were when the published figures were made.
BF_SHAP_OF_FIGURES, SHAPR_OF_FIGURES = "BF-SHAP of the figures", "SHAPR of the figures"
CONTROLS = ("random", "constant", "input magnitude")
FAITHFULNESS, MONOTONICITY, CORRELATION, MSE, INFIDELITY = METRICS = (
    "faithfulness",
    "monotonicity",
    "Shapley correlation",
    "Shapley MSE",
    "infidelity",
)
LOWER_IS_BETTER = (MSE, INFIDELITY)
MONOTONICITY_OF_FIGURES = "monotonicity in the order of columns"


@dataclass(frozen=True)
class Drawn:
    """A table of correlated columns with standardised targets.

    train, test  (R, 5), (N, 5) float64; ``targets`` (R,) are those of ``train``
    covariance   (5, 5) of the columns, whose mean is 0
    """

    train: np.ndarray
    targets: np.ndarray
    test: np.ndarray
    covariance: np.ndarray


def drawn_table(target: str, rho: float, seed: int, training_rows: int, test_rows: int) -> Drawn:
    """The first ``training_rows`` and the test rows of the data set ``gaussian``, with noise on the targets."""
    train, test = draw_gaussian(rho, COLUMNS, test_rows, seed)
    train = train[:training_rows]
    labels = sum_of_terms(GaussianFunction(target, COLUMNS).terms, train).numpy()
    labels = labels + NOISE * np.random.default_rng([seed, 1]).normal(size=len(labels))
    labels = (labels - labels.mean()) / labels.std()
    return Drawn(train.numpy(), labels, test.numpy(), covariance(rho, COLUMNS).numpy())


def fitted_linear(table: Drawn, seed: int) -> Predict:
    """scikit-learn's linear regression."""
    return LinearRegression().fit(table.train, table.targets).predict


def fitted_tree(table: Drawn, seed: int) -> Predict:
    """scikit-learn's decision tree, at its defaults."""
    return DecisionTreeRegressor(random_state=seed).fit(table.train, table.targets).predict


def fitted_mlp(table: Drawn, seed: int) -> Predict:
    """scikit-learn's MLP, at its defaults: one hidden layer of 100, at most 200 epochs. It computes in float32."""
    net = MLPRegressor(random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 epochs are the default, and the paper's
        net.fit(table.train.astype(np.float32), table.targets.astype(np.float32))
    return lambda rows: net.predict(rows.astype(np.float32))


MODELS: dict[str, Callable[[Drawn, int], Predict]] = {"LR": fitted_linear, "DTREE": fitted_tree, "MLP": fitted_mlp}


def benchmark_scores(
    target: str,
    seed: int,
    rhos: Sequence[float],
    models: Sequence[str],
    test_rows: int,
    training_rows: int,
    points: int,
    lime_samples: int,
    trees: int,
) -> pd.DataFrame:
    """Mean scores of all explainers on one target and seed, a row for each rho, model, explainer and metric.

    ``value`` is the mean over the test rows on which the score is defined, ``undefined`` the number of the others.
    """
    normals = symmetric_normals(points, COLUMNS, seed)
    found = []
    for rho in rhos:
        table = drawn_table(target, rho, seed, training_rows, test_rows)
        for model in models:
            predict = MODELS[model](table, seed)
            worths = conditional_worths(predict, table.test, table.covariance, normals)
            maps = attributions_of_all(predict, table, seed, lime_samples, trees)
            found += [
                {"target": target, "rho": rho, "seed": seed, "model": model, **row}
                for row in scored(predict, table, worths, maps, seed)
            ]
    return pd.DataFrame(found)


def attributions_of_all(
    predict: Predict, table: Drawn, seed: int, lime_samples: int, trees: int
) -> dict[str, np.ndarray]:
    """Explainer -> attributions (N, 5) float64 of the test rows: the paper's methods and the controls."""
    rows, background = table.test, table.train
    outputs = marginal_outputs(predict, rows, background)
    against_mean = marginal_outputs(predict, rows, background.mean(0, keepdims=True))[:, :, 0]
    registered = partial(registered_attributions, predict, table, seed=seed)
    return {
        "SHAP": registered("kernel_shap", background=100, samples=2**COLUMNS - 2),
        "BF-SHAP": shapley_of_worths(outputs.mean(2)),
        "SHAPR": shapr(outputs, rows, background, SHAPR_WIDTH),
        "BreakDown": break_down(outputs.mean(2)),
        "MAPLE": maple(rows, background, predict(background), trees, seed),
        "LIME": registered("lime", samples=lime_samples),
        BF_SHAP_OF_FIGURES: released_regression(against_mean),
        SHAPR_OF_FIGURES: shapr(outputs, rows, background, SHAPR_WIDTH, fewest=2),
        "random": registered("random"),
        "constant": np.ones_like(rows),
        "input magnitude": registered("input_magnitude"),
    }


def registered_attributions(
    predict: Predict, table: Drawn, explainer: str, *, seed: int = 0, **options: float | str
) -> np.ndarray:
    """Attributions (N, 5) float64 by a registered explainer."""
    found = explain(
        explainer,
        LoadedModel(BlackBox(predict), task="regression"),
        torch.from_numpy(table.test).float(),
        torch.zeros(len(table.test), dtype=torch.long),
        train=torch.from_numpy(table.train).float(),
        seed=seed,
        **options,
    )
    return found.double().numpy()


def scored(
    predict: Predict, table: Drawn, worths: np.ndarray, maps: dict[str, np.ndarray], seed: int
) -> list[dict[str, str | float]]:
    """A row for each explainer and metric; the true conditional Shapley values are scored too."""
    truth = shapley_of_worths(worths)
    changes = drawn_changes(predict, table.test, table.covariance, DRAWS, seed)
    against_zero = marginal_outputs(predict, table.test, np.zeros((1, COLUMNS)))[:, :, 0]
    found = []
    for explainer, values in {**maps, TRUTH: truth}.items():
        orders = orders_of_insertion(values, seed)
        scores = {
            FAITHFULNESS: faithfulness_of(values, changes),
            MONOTONICITY: monotonicity_of(changes_on_insertion(worths, orders)),
            CORRELATION: correlations_of_rows(values, truth),
            MSE: ((values - truth) ** 2).mean(1),
            INFIDELITY: infidelity_over_sets(values, against_zero),
            MONOTONICITY_OF_FIGURES: released_monotonicity(worths, orders),
        }
        for metric, each in scores.items():
            defined = np.isfinite(each)
            value = float(each[defined].mean()) if defined.any() else float("nan")
            found.append({"explainer": explainer, "metric": metric, "value": value, "undefined": int((~defined).sum())})
    return found
