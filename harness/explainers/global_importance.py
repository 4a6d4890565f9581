"""Importances of a table's columns by fits to training rows: mutual information, recursive feature elimination.

There is one number per column for the whole data set, computed once and the same for every sample.
"""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._tabular import (
    GLOBAL,
    SEVEN_TO_THREE,
    TRAINING_ROWS,
    FittedLabels,
    Rows,
    Table,
    broadcast,
    deviations,
    fit_facts,
    held_out_scores,
    training_table,
    values_repeat,
)
from harness.option_types import Positive, Range
from harness.registry import explainer
from harness.samples import Samples


def _mutual_information(model: nn.Module, context: Samples, /, labels: str, neighbours: int, rows: int) -> Tensor:
    from sklearn.feature_selection import (  # a second to import; few runs need it
        mutual_info_classif,
        mutual_info_regression,
    )

    table = training_table(context, rows)
    estimate = mutual_info_regression if table.single else mutual_info_classif
    response = table.response(labels)
    if len(response) <= neighbours:
        raise NotApplicable(f"needs more training inputs than neighbours={neighbours}, there are {len(response)}")
    values, categories = _values_of_columns(table)
    estimates = estimate(values, response, discrete_features=categories, n_neighbors=neighbours, random_state=0)
    if not estimates.any():
        raise NotApplicable("no single column has information about the class: all estimates are 0")
    context.tell(**fit_facts(table, labels))
    return torch.from_numpy(estimates)


def _values_of_columns(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """The columns as one number each (R, C), and which of them are categories (C,).

    A column is a category if it is several numbers, or if its values repeat (``values_repeat``): its number is the
    place among its distinct rows. NotApplicable where a column's several numbers hardly repeat.
    """
    values, single, categories = table.values_in_units, [], []
    for column, name in enumerate(table.names):
        own = values[:, table.columns == column]
        kinds, place = np.unique(own, axis=0, return_inverse=True)
        several = own.shape[1] > 1
        if several and 2 * len(kinds) > len(own):
            raise NotApplicable(f"column {name} is several numbers that hardly repeat: {len(kinds)} in {len(own)} rows")
        categories.append(several or values_repeat(len(kinds), len(own)))
        single.append(place.reshape(-1) if categories[-1] else own[:, 0])
    return np.stack(single, 1), np.array(categories)


@explainer(**GLOBAL, signed=False, prepare=_mutual_information, tunable={"neighbours": (5, 10)})
def mutual_information(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    labels: FittedLabels = "predicted",
    neighbours: Annotated[int, Range(1, 1000)] = 3,
    rows: Rows = TRAINING_ROWS,
) -> Tensor:
    """The mutual information of each single column and the class, estimated from distances to nearest neighbours (Ross
    2014, doi 10.1371/journal.pone.0087357; Kraskov et al. 2004, cond-mat/0305641, for a single output).

    Shape (N, C), the same for all samples; in nats; at least 0. The class is the one the model has ``predicted``, or
    the true ``label``: then the model has no part in it, and the result explains the data. What only several columns
    together say is not seen. A column is a category if the training rows say so: if it has two distinct values, or at
    most 20 and at least ten rows to each, or if it is several numbers (one category for each of its distinct rows).
    With classes, categories are counted, which is biased upwards by about (categories - 1) (classes - 1) / (2 rows).
    All other columns are taken as continuous: scikit-learn's estimate from ``neighbours`` neighbours, with noise of
    1e-10, the same for every seed, to break ties. Not applicable without training inputs or the labels asked for; where
    these are the same for all rows; where there are no more than ``neighbours`` rows; where a column's several numbers
    hardly repeat; and where all estimates are 0.

    Example: classes(x) is class 1 where x1 > 0, in half of the training rows. x1 determines the class, one bit or ln 2
    = 0.69 nats; x2 says nothing of it.

    >>> harness.explain("mutual_information", classes, x, target, train=train).round(decimals=1)
    tensor([[0.7000, 0.0000]])
    """
    return broadcast(prepared, inputs, targets)


def _rfe(model: nn.Module, context: Samples, /, labels: str, penalty: float, standardise: bool, rows: int) -> Tensor:
    table = training_table(context, rows)
    if len(table.names) < 2:
        raise NotApplicable("needs at least two columns: with one there is nothing to rank")
    x, y = table.values, table.response(labels)
    x = (x - x.mean(0)) / deviations(x) if standardise else x
    order = eliminated(lambda left: _linear_model(table, penalty).fit(x[:, left], y).coef_, table)
    context.tell(**fit_facts(table, labels), **_held_out_fidelity(table, lambda: _linear_model(table, penalty), x, y))
    return torch.from_numpy(np.argsort(order)).double()


def eliminated(coefficients: Callable[[np.ndarray], np.ndarray], table: Table) -> list[int]:
    """All columns in the order in which they are eliminated; the one that stays is the last.

    ``coefficients(left)`` are those (..., numbers) of a fit to the numbers ``left`` (D,) bool. Each time the column is
    eliminated whose numbers have the smallest sum of squared coefficients, over all classes.
    """
    gone: list[int] = []
    while len(gone) < len(table.names) - 1:
        left = ~np.isin(table.columns, gone)
        squares = np.zeros(len(left))
        squares[left] = np.square(np.atleast_2d(coefficients(left))).sum(0)
        sums = table.of_columns(squares)
        sums[gone] = np.inf
        gone.append(int(sums.argmin()))
    return [*gone, *(set(range(len(table.names))) - set(gone))]


@explainer(**GLOBAL, signed=False, prepare=_rfe, renamed={"alpha": "penalty"}, tunable={"penalty": (0.01, 100.0)})
def rfe(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    labels: FittedLabels = "predicted",
    penalty: Positive = 1.0,
    standardise: bool = True,
    rows: Rows = TRAINING_ROWS,
) -> Tensor:
    """Recursive feature elimination: how long a column stays when a linear classifier is fitted again and again, each
    time without the column of the smallest coefficient (Guyon et al. 2002, doi 10.1023/A:1012487302797).

    Shape (N, C), the same for all samples: from 0 for the column that is eliminated first to C - 1 for the last one.
    The classifier is a logistic regression with the penalty ``penalty`` / 2 on squared coefficients, or a ridge
    regression where the model has a single output; numbers have mean 0 and deviation 1 unless ``standardise`` is off.
    Squared coefficients are summed over the classes and over the numbers of a column, which is eliminated as a whole.
    It is fitted to the class the model has ``predicted`` or to the true ``label``. Facts: the ``fidelity`` (r2) of the
    regression on all columns, on rows held out from a separate fit. Not applicable to a single column, without
    training inputs or the labels asked for, and where these are the same for all rows.

    Example: classes(x) depends on x1 alone, so that x2 is eliminated first.

    >>> harness.explain("rfe", classes, x, target, train=train)
    tensor([[1., 0.]])
    """
    return broadcast(prepared, inputs, targets)


def _linear_model(table: Table, penalty: float) -> Any:
    """A ridge regression for a single output, else a logistic regression."""
    from sklearn.linear_model import LogisticRegression, Ridge

    return Ridge(penalty) if table.single else LogisticRegression(C=1 / penalty, max_iter=1000)


def _held_out_fidelity(table: Table, make: Callable[[], Any], x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How well an estimator predicts rows held out from its fit; empty where the rows to fit on are of one class."""
    fit, held = table.split(SEVEN_TO_THREE.held_out)
    one_class = (y[fit] == y[fit][0]).all()
    return {} if one_class else held_out_scores(table, make().fit(x[fit], y[fit]), x[held], y[held])
