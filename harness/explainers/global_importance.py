"""Importances of a table's columns: one number per column for the whole data set, made once and given to every sample.

They are fitted to, or measured on, training rows: at most ``rows``, drawn by the seed where there are more.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicable, UserError, unknown
from harness.explainers._coalitions import check_number
from harness.explainers._tabular import (
    GLOBAL,
    Table,
    broadcast,
    deviations,
    fit_facts,
    global_key,
    held_out_scores,
    repeats_table,
    shares_of_splits,
    training_table,
)
from harness.predictor import Predictor
from harness.randomness import element, permutations
from harness.registry import explainer
from harness.samples import Samples

ROWS = 10_000
HELD_OUT = 0.3


def _error_rate(outputs: Tensor, truth: Tensor) -> Tensor:
    return (outputs.argmax(-1) != truth).double().mean(-1)


def _log_loss(outputs: Tensor, truth: Tensor) -> Tensor:
    picked = F.log_softmax(outputs.double(), -1).gather(-1, truth.expand(outputs.shape[:-1])[..., None])
    return -picked[..., 0].mean(-1)


def _squared_error(outputs: Tensor, truth: Tensor) -> Tensor:
    return (outputs[..., 0].double() - truth).square().mean(-1)


# Losses (...,) of outputs (..., R, K) against the truth (R,).
LOSSES = {"accuracy": _error_rate, "log_loss": _log_loss, "squared_error": _squared_error}


def _permute(model: nn.Module, context: Samples, /, repeats: int, score: str, labels: str, rows: int) -> Tensor:
    check_number("repeats", repeats, 1)
    if score not in LOSSES:
        raise unknown("score", score, LOSSES)
    table = training_table(context, rows)
    if table.single != (score == "squared_error"):
        what = "a single output: use score=squared_error" if table.single else "several classes"
        raise NotApplicable(f"score={score} does not fit a model with {what}")
    truth = table.truth(labels).to(table.inputs.device)
    key = global_key(context.seed, "permutation importance").to(table.inputs.device)
    values = loss_increases(
        context.predictor,
        table.inputs,
        lambda outputs: LOSSES[score](outputs, truth),
        repeats,
        lambda pairs: permutations(element(key, pairs), 1, len(truth))[:, 0],
        torch.from_numpy(table.columns),
    )
    if not values.any():
        raise NotApplicable(f"no permutation of any column changes the {score} on the {len(truth)} training rows")
    loss = float(LOSSES[score](table.outputs, truth))
    context.tell(
        repeats=repeats_table(table.names, values.T.cpu().numpy()),
        explains="model",
        measured_on=labels,
        training_rows=len(truth),
        **({"accuracy": 1 - loss} if score == "accuracy" else {score: loss}),
    )
    return values.mean(0)


def loss_increases(
    predictor: Predictor,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    repeats: int,
    orders: Callable[[Tensor], Tensor],
    columns: Tensor,
) -> Tensor:
    """How much the loss grows when one column (of C) of ``inputs`` (R, D) is permuted: (repeats, C), float64.

    ``columns`` (D,) says which column each number belongs to: they are permuted together. ``loss`` maps outputs (P, R,
    K) to (P,), ``orders`` the numbers of P pairs, repeat * C + column, to orders of the rows (P, R). As many pairs at
    once as fill a forward pass.
    """
    count, columns = len(inputs), columns.to(inputs.device)
    total = int(columns.max()) + 1
    losses = []
    for some in torch.arange(repeats * total, device=inputs.device).split(max(1, predictor.chunk // count)):
        own = columns == (some % total)[:, None]
        permuted = torch.where(own[:, None], inputs[orders(some)], inputs)
        losses.append(loss(predictor.logits(permuted.flatten(0, 1)).view(len(some), count, -1)))
    intact = loss(predictor.logits(inputs).view(1, count, -1))
    return torch.cat(losses).double().view(repeats, total) - intact.double()


@explainer(**GLOBAL | {"cost": "once: (R C + 1) T F"}, stochastic=True, prepare=_permute)
def permutation_importance(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    repeats: int = 10,
    score: str = "accuracy",
    labels: str = "label",
    rows: int = ROWS,
) -> Tensor:
    """How much worse the model gets when a column's values are permuted among the training rows (Breiman 2001; Fisher
    et al. 2018, 1801.01489, as a difference).

    (N, C), the same for all samples: the mean over ``repeats`` permutations of each of C columns, all the numbers that
    encode it together, of the drop of the
    ``accuracy``, or of the growth of the mean ``log_loss`` (nats) or ``squared_error``; about 0 for columns that are
    not used, negative by chance. ``labels``: right is the true ``label``, or the class the model itself has
    ``predicted``. R (C + 1) evaluations a repeat for R training rows. Facts: the table ``repeats`` (unit, repeat,
    value). Not applicable without training inputs, without their labels unless ``labels`` is predicted, to a single
    output other than by ``squared_error``, and where no permutation changes anything.
    """
    return broadcast(prepared, inputs, targets)


def _mutual_information(model: nn.Module, context: Samples, /, labels: str, neighbours: int, rows: int) -> Tensor:
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression  # a second; few runs need it

    check_number("neighbours", neighbours, 1)
    table = training_table(context, rows)
    estimate = mutual_info_regression if table.single else mutual_info_classif
    response = table.response(labels)
    if len(response) <= neighbours:
        raise NotApplicable(f"needs more training inputs than neighbours={neighbours}, there are {len(response)}")
    values, categories = _values_of_columns(table)
    found = estimate(values, response, discrete_features=categories, n_neighbors=neighbours, random_state=0)
    if not found.any():
        raise NotApplicable("no column by itself tells anything of the class: all estimates are 0")
    context.tell(**fit_facts(table, labels))
    return torch.from_numpy(found)


def _values_of_columns(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """The columns as one number each (R, C), of several the place among their distinct rows, and which those are (C,).

    NotApplicable where such rows hardly repeat: they are no categories.
    """
    values, sizes, found = table.values, np.bincount(table.columns), []
    for column, name in enumerate(table.names):
        own = values[:, table.columns == column]
        kinds, place = np.unique(own, axis=0, return_inverse=True)
        if sizes[column] > 1 and 2 * len(kinds) > len(own):
            raise NotApplicable(f"column {name} is several numbers that hardly repeat: {len(kinds)} in {len(own)} rows")
        found.append(own[:, 0] if sizes[column] == 1 else place.reshape(-1))
    return np.stack(found, 1), sizes > 1


@explainer(**GLOBAL, signed=False, prepare=_mutual_information)
def mutual_information(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    labels: str = "predicted",
    neighbours: int = 3,
    rows: int = ROWS,
) -> Tensor:
    """The mutual information of each column by itself and the class, by distances to nearest neighbours (Ross 2014,
    doi 10.1371/journal.pone.0087357; Kraskov et al. 2004, cond-mat/0305641, for a single output).

    (N, C), the same for all samples, in nats, at least 0. The class is the one the model has ``predicted``, or the
    true ``label``: then the model has no part in it, and the row explains the data. Blind to what columns tell only
    together. scikit-learn's estimate from ``neighbours`` neighbours, with columns of one number taken as continuous;
    noise of 1e-10, the same for every seed, breaks ties. A column of several numbers is a category, one for each of
    its distinct rows: beside a class it is counted, which is biased upwards by about (categories - 1) (classes - 1) /
    (2 rows). Not applicable without training inputs or the labels asked for, where these are the same for all rows,
    where rows are no more than ``neighbours``, where several numbers are no category, or where no column by itself
    tells anything of them.
    """
    return broadcast(prepared, inputs, targets)


def _rfe(model: nn.Module, context: Samples, /, labels: str, alpha: float, standardise: bool, rows: int) -> Tensor:
    if not alpha > 0:
        raise UserError(f"alpha is {alpha!r}, expected a number above 0")
    table = training_table(context, rows)
    if len(table.names) < 2:
        raise NotApplicable("needs at least two columns: with one there is nothing to rank")
    x, y = table.values, table.response(labels)
    x = (x - x.mean(0)) / deviations(x) if standardise else x
    order = eliminated(lambda kept: _linear(table, alpha).fit(x[:, kept], y).coef_, table)
    context.tell(**fit_facts(table, labels), **_held_out(table, lambda: _linear(table, alpha), x, y))
    return torch.from_numpy(np.argsort(order)).double()


def eliminated(coefficients: Callable[[np.ndarray], np.ndarray], table: Table) -> list[int]:
    """The columns in the order in which they are eliminated, the last one to stay included.

    ``coefficients(kept)`` are those (..., kept) of a fit to the numbers ``kept`` (D,) bool. The column goes whose
    numbers have the smallest sum of squared coefficients, over all classes.
    """
    gone: list[int] = []
    while len(gone) < len(table.names) - 1:
        kept = ~np.isin(table.columns, gone)
        squares = np.zeros(len(kept))
        squares[kept] = np.square(np.atleast_2d(coefficients(kept))).sum(0)
        sums = table.of_columns(squares)
        sums[gone] = np.inf
        gone.append(int(sums.argmin()))
    return [*gone, *(set(range(len(table.names))) - set(gone))]


@explainer(**GLOBAL, signed=False, prepare=_rfe)
def rfe(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    labels: str = "predicted",
    alpha: float = 1.0,
    standardise: bool = True,
    rows: int = ROWS,
) -> Tensor:
    """Recursive feature elimination: how long a column stays when a linear classifier is fitted again and again, each
    time without the column of the smallest coefficient (Guyon et al. 2002, doi 10.1023/A:1012487302797).

    (N, C), the same for all samples: from 0 for the column that goes first to C - 1 for the last. On a logistic
    regression with penalty ``alpha`` / 2 on squared coefficients, or a ridge regression where the model has a single
    output; of numbers with mean 0 and deviation 1 unless ``standardise`` is off. Squared coefficients are summed over
    classes, and over the numbers of a column that is several: it goes as a whole. Fitted
    to what the model has ``predicted`` or to the true ``label``. Facts: the ``fidelity`` (r2) of the regression on
    all columns, on rows held out from a fit of its own. Not applicable to a single column, without training inputs or
    the labels asked for, and where these are the same for all rows.
    """
    return broadcast(prepared, inputs, targets)


def _forest(
    model: nn.Module,
    context: Samples,
    /,
    labels: str,
    importance: str,
    trees: int,
    depth: int | None,
    columns: str | float,
    repeats: int,
    held_out: float,
    rows: int,
) -> Tensor:
    _check_forest(importance, trees, depth, columns, repeats)
    table = training_table(context, rows)
    x, y = table.values, table.response(labels)
    fit, held = table.split_for(y, held_out)
    forest = _new_forest(table, trees, depth, columns).fit(x[fit], y[fit])
    if importance == "impurity":
        values = table.of_columns(np.stack([tree.feature_importances_ for tree in forest], 1))
        found = shares_of_splits(table, forest.feature_importances_)
    else:
        values = _permuted_in_forest(forest, x[held], y[held], repeats, table)
        if not values.any():
            raise NotApplicable(f"no permutation of any column changes the score on the {len(held)} held-out rows")
        found = torch.from_numpy(values.mean(1))
    context.tell(
        **fit_facts(table, labels),
        repeats=repeats_table(table.names, values),
        **held_out_scores(table, forest, x[held], y[held]),
    )
    return found


@explainer(**GLOBAL, stochastic=True, prepare=_forest)
def random_forest(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    labels: str = "predicted",
    importance: str = "impurity",
    trees: int = 100,
    depth: int | None = None,
    columns: str | float = "sqrt",
    repeats: int = 10,
    held_out: float = HELD_OUT,
    rows: int = ROWS,
) -> Tensor:
    """How much a column serves a random forest that imitates the model (Breiman 2001, doi 10.1023/A:1010933404324).

    (N, C), the same for all samples. ``importance``: ``impurity``, the share of the decrease of impurity that is the
    column's, at least 0 and of sum 1, which favours columns of many values; or ``permutation``, the drop of the
    forest's accuracy (r2 where the model has a single output) on the held-out rows, over ``repeats`` permutations.
    scikit-learn's forest of ``trees`` trees of at most ``depth``, with ``columns`` tried at each split (a number, a
    share, or ``sqrt`` or ``log2`` of all), fitted to what the model has ``predicted`` or to the true ``label`` of all
    but the ``held_out`` share of the rows. Facts: ``fidelity`` (or r2) on these beside the ``majority``; the table
    ``repeats`` (unit, repeat, value), by tree or by permutation. Not applicable without training inputs or the labels
    asked for, where these are the same for all rows to fit on, and where no tree splits or no permutation changes
    anything.
    """
    return broadcast(prepared, inputs, targets)


def _check_forest(importance: str, trees: int, depth: int | None, columns: str | float, repeats: int) -> None:
    if importance not in ("impurity", "permutation"):
        raise unknown("importance", importance, ("impurity", "permutation"))
    for name, value in (("trees", trees), ("repeats", repeats), ("depth", 1 if depth is None else depth)):
        check_number(name, value, 1)
    count = isinstance(columns, int) and columns >= 1
    if columns not in ("sqrt", "log2") and not count and (isinstance(columns, str) or not 0 < columns <= 1):
        raise UserError(f"columns is {columns!r}, expected sqrt, log2, a number of columns or a share up to 1.0")


def _new_forest(table: Table, trees: int, depth: int | None, columns: str | float) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if table.single else RandomForestClassifier
    return kind(trees, max_depth=depth, max_features=columns, random_state=table.random_state("random forest"))


def _permuted_in_forest(forest: Any, x: np.ndarray, y: np.ndarray, repeats: int, table: Table) -> np.ndarray:
    """What the forest's score loses by each permutation (C, repeats) of each column, all its numbers together."""
    from sklearn.inspection import permutation_importance as permuted

    def score(
        forest: Any, rows: np.ndarray, y: np.ndarray
    ) -> float:  # rows (R, C): where each column's values are from
        return forest.score(np.take_along_axis(x, rows[:, table.columns], 0), y)

    rows, state = np.arange(len(x))[:, None].repeat(len(table.names), 1), table.random_state("forest permutations")
    return permuted(forest, rows, y, scoring=score, n_repeats=repeats, random_state=state).importances


def _linear(table: Table, alpha: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    return Ridge(alpha) if table.single else LogisticRegression(C=1 / alpha, max_iter=1000)


def _held_out(table: Table, make: Callable[[], Any], x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How well an estimator does on rows held out from its own fit; empty where the others are all of one class."""
    fit, held = table.split(HELD_OUT)
    one_class = (y[fit] == y[fit][0]).all()
    return {} if one_class else held_out_scores(table, make().fit(x[fit], y[fit]), x[held], y[held])
