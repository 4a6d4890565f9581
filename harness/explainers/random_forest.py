"""A random forest that imitates a model on a table, and how much each column contributes to it."""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._tabular import (
    GLOBAL,
    SEVEN_TO_THREE,
    FittedLabels,
    HeldOutRows,
    Table,
    broadcast,
    fit_facts,
    held_out_scores,
    repeats_table,
    shares_of_splits,
    training_table,
)
from harness.option_types import Count, Range, Repeats, SomeShare
from harness.registry import explainer
from harness.samples import Samples


def _forest(
    model: nn.Module,
    context: Samples,
    /,
    labels: str,
    importance: str,
    trees: int,
    depth: int | None,
    columns_per_split: str | float,
    repeats: int,
    split: HeldOutRows,
) -> Tensor:
    table = training_table(context, split.rows)
    x, y = table.values_in_units, table.response(labels)
    fit, held = table.split_for(y, split.held_out)
    forest = _new_forest(table, trees, depth, columns_per_split).fit(x[fit], y[fit])
    if importance == "impurity":
        values = table.of_columns(np.stack([tree.feature_importances_ for tree in forest], 1))
        importances = shares_of_splits(table, forest.feature_importances_)
    else:
        values = _permuted_in_forest(forest, x[held], y[held], repeats, table)
        if not values.any():
            raise NotApplicable(f"no permutation of any column changes the score on the {len(held)} held-out rows")
        importances = torch.from_numpy(values.mean(1))
    context.tell(
        **fit_facts(table, labels),
        repeats=repeats_table(table.names, values),
        **held_out_scores(table, forest, x[held], y[held]),
    )
    return importances


@explainer(
    **GLOBAL,
    stochastic=True,
    prepare=_forest,
    renamed={"columns": "columns_per_split"},
    tunable={"importance": ("permutation",), "depth": (4, 8), "columns_per_split": (0.5,)},
)
def random_forest(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    labels: FittedLabels = "predicted",
    importance: Literal["impurity", "permutation"] = "impurity",
    trees: Annotated[int, Range(1, 10_000)] = 100,
    depth: Annotated[int, Range(1, 1000)] | None = None,
    columns_per_split: Literal["sqrt", "log2"] | Count | SomeShare = "sqrt",
    repeats: Repeats = 10,
    split: HeldOutRows = SEVEN_TO_THREE,
) -> Tensor:
    """Random forest: how much a column contributes to a random forest that imitates the model (Breiman 2001, doi
    10.1023/A:1010933404324).

    Shape (N, C), the same for all samples. ``importance`` = ``impurity`` is the column's share of the decrease of
    impurity, at least 0 and of sum 1, which favours columns of many values. ``permutation`` is the drop of the forest's
    accuracy (r2 where the model has a single output) on the held-out rows, over ``repeats`` permutations. The forest is
    scikit-learn's with ``trees`` trees of at most ``depth``, and ``columns_per_split`` tried at each split (a number, a
    share, or ``sqrt`` or ``log2`` of all). It is fitted to the class the model has ``predicted`` or to the true
    ``label`` of all but the ``held_out`` share of the rows. Facts: ``fidelity`` (or r2) on the held-out rows beside the
    ``majority``; the table ``repeats`` (unit, repeat, value), by tree or by permutation. Not applicable without
    training inputs or the labels asked for, where these are the same for all rows to fit on, and where no tree splits
    or no permutation changes anything.

    Example: classes(x) depends on x1 alone. Splits by x2, which trees try where x1 is not offered, lower the impurity
    only by chance.

    >>> harness.explain("random_forest", classes, x, target, train=train) > 0.5
    tensor([[ True, False]])
    """
    return broadcast(prepared, inputs, targets)


def _new_forest(table: Table, trees: int, depth: int | None, columns: str | float) -> Any:
    """An unfitted forest of scikit-learn, which draws by the seed."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if table.single else RandomForestClassifier
    return kind(trees, max_depth=depth, max_features=columns, random_state=table.random_state("random forest"))


def _permuted_in_forest(forest: Any, x: np.ndarray, y: np.ndarray, repeats: int, table: Table) -> np.ndarray:
    """The drop of the forest's score at each permutation (C, repeats) of a column, all its numbers together."""
    from sklearn.inspection import permutation_importance as permuted

    # rows (R, C): from which row of x each column's values are taken
    def score(forest: Any, rows: np.ndarray, y: np.ndarray) -> float:
        return forest.score(np.take_along_axis(x, rows[:, table.columns], 0), y)

    rows, state = np.arange(len(x))[:, None].repeat(len(table.names), 1), table.random_state("forest permutations")
    return permuted(forest, rows, y, scoring=score, n_repeats=repeats, random_state=state).importances
