"""Surrogates: a linear model or a tree, fitted to a model's answers on training rows, and how well it imitates them.

Each is fitted to a part of the rows and tested on the others, which the seed draws. ``fidelity`` is the share of the
others for which surrogate and model agree on the class; ``majority`` is the share that one class for all would get.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.explainers._tabular import (
    GLOBAL,
    SEVEN_TO_THREE,
    HeldOutRows,
    Table,
    broadcast,
    class_agreement,
    deviations,
    fit_facts,
    r_squared,
    shares_of_splits,
    training_table,
)
from harness.explainers._trees import in_words, leaves
from harness.option_types import Count, NotNegative, Range
from harness.predictor import pick
from harness.registry import explainer
from harness.samples import Samples
from harness.task import Score


def _fit_linear(
    model: nn.Module, context: Samples, /, score: str, penalty: float, standardise: bool, split: HeldOutRows
) -> Tensor:
    from sklearn.linear_model import Ridge  # a second to import; few runs need it

    table = training_table(context, split.rows)
    x, y = table.values, _scores_of_classes(table, score)
    fit, held = table.split_for(y, split.held_out)
    unit = deviations(x[fit]) if standardise else np.ones(x.shape[1])
    fitted = Ridge(penalty).fit(x[fit] / unit, y[fit])
    context.tell(**fit_facts(table, "predicted"), **_fidelity(table, fitted.predict(x[held] / unit), y[held]))
    return torch.from_numpy(fitted.coef_ / unit).view(y.shape[1], -1)


@explainer(
    **GLOBAL | {"per_class": True},
    stochastic=True,
    convention="local",
    prepare=_fit_linear,
    renamed={"alpha": "penalty"},
    tunable={"penalty": (10.0, 100.0)},
)
def linear_surrogate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    score: Score = "logit",
    penalty: NotNegative = 1.0,
    standardise: bool = True,
    split: HeldOutRows = SEVEN_TO_THREE,
) -> Tensor:
    """Linear surrogate: the coefficients of a ridge regression of the target's score on the columns (Molnar 2019,
    Interpretable Machine Learning; ridge: Hoerl and Kennard 1970).

    Shape (N, D); signed; ``score`` (logit, probability or log_odds) per unit of the number; the same for all samples of
    a target, and on a linear model the gradient. The ``penalty`` is on squared coefficients, not on the
    intercept; columns are scaled to deviation 1 for the fit unless ``standardise`` is off. Facts, on the ``held_out``
    share of the rows: r2, of all classes together, and, where there are classes, ``fidelity`` beside ``majority``. Not
    applicable without training inputs, to a single output's probability, or where the model's answers are the same for
    all rows.

    Example: f(x) = 2 x1 - x2 is linear itself. Without a penalty its coefficients are the model's weights.

    >>> harness.explain("linear_surrogate", linear, x, target, train=train, penalty=0.0)
    tensor([[ 2., -1.]])
    """
    return broadcast(prepared, inputs, targets)


def _fit_tree(model: nn.Module, context: Samples, /, depth: int, least: int, fit: str, split: HeldOutRows) -> Tensor:
    from sklearn.tree import DecisionTreeRegressor

    table = training_table(context, split.rows)
    x, y = table.values_in_units.astype(np.float32), tree_responses(table, fit)
    fitting, held = table.split_for(y, split.held_out)
    state = table.random_state("tree surrogate")
    tree = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=least, random_state=state)
    tree.fit(x[fitting], y[fitting])
    shares = shares_of_splits(table, tree.feature_importances_)
    context.tell(
        **fit_facts(table, "predicted"),
        rules=_tree_in_words(tree, table),
        **_fidelity(table, tree.predict(x[held]), y[held]),
    )
    return shares


@explainer(
    **GLOBAL, signed=False, stochastic=True, prepare=_fit_tree, tunable={"depth": (3, 6, 8), "fit": ("probability",)}
)
def tree_surrogate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    depth: Annotated[int, Range(1, 1000)] = 4,
    least: Count = 1,
    fit: Literal["class", "probability"] = "class",
    split: HeldOutRows = SEVEN_TO_THREE,
) -> Tensor:
    """Tree surrogate: a column's share of the decrease of impurity in a small decision tree that imitates the model
    (Craven and Shavlik 1996; CART: Breiman et al. 1984).

    Shape (N, C); at least 0 and of sum 1; the same for all samples. The tree has at most ``depth`` levels and at least
    ``least`` rows in a leaf. ``fit`` = ``class`` grows it on the predicted class by Gini's criterion; ``probability``
    on the probabilities of all classes by squared error, where rounding can decide between equally good splits. For a
    single output it is grown on the output itself, by squared error. Facts, on the ``held_out`` share of the rows: r2,
    and ``fidelity`` beside ``majority``; the leaves in words as ``rules``. Not applicable without training inputs,
    where the model's answers are the same for all rows, or where no split is allowed.

    Example: classes(x) is class 1 where x1 > 0, which a tree with one split by x1 imitates.

    >>> harness.explain("tree_surrogate", classes, x, target, train=train)
    tensor([[1., 0.]])
    """
    return broadcast(prepared, inputs, targets)


def _scores_of_classes(table: Table, score: str) -> np.ndarray:
    """The score of each class for each row, (R, K) float64."""
    everyone = torch.arange(table.outputs.shape[1], device=table.outputs.device)
    tracked = [table.task.track(table.outputs, each.expand(len(table.outputs))) for each in everyone]
    return torch.stack([pick(each, score) for each in tracked], 1).double().cpu().numpy()


def tree_responses(table: Table, fit: str) -> np.ndarray:
    """The numbers to which a tree is fitted, (R, K): probabilities, the predicted class one-hot, or a single output.

    The squared error of one-hot classes is Gini's impurity.
    """
    outputs = table.outputs.double().cpu()
    if table.single:
        return outputs.numpy()
    if fit == "class":
        return nn.functional.one_hot(outputs.argmax(1), outputs.shape[1]).double().numpy()
    table.check_probabilities()
    return table.task.probabilities(outputs).numpy()


def _fidelity(table: Table, answers: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """How well scores (R, K) imitate the right ones: r2, and where there are classes how often the highest agree."""
    answers = answers.reshape(right.shape)  # scikit-learn drops the axis of a single output
    fit = {"r2": r_squared(answers, right)}
    return fit if table.single else fit | class_agreement(answers.argmax(1), right.argmax(1))


def _tree_in_words(tree: object, table: Table) -> list[str]:
    words = lambda conditions: in_words(conditions, table.number_names, table.units)
    return [f"{words(conditions)}: {_leaf_in_words(value)}" for conditions, value in leaves(tree)]


def _leaf_in_words(value: np.ndarray) -> str:
    return f"{value[0]:.4g}" if len(value) == 1 else f"class {value.argmax()} ({value.max():.0%})"
