"""Surrogates: simple models fitted to what a model says of training rows, and how faithful they are to it.

Each is fitted on a part of the rows and its fidelity measured on the others, which the seed draws: the share of them
that it gives the class the model gives, beside the share that the most frequent class alone would get.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError, unknown
from harness.explainers._coalitions import check_number
from harness.explainers._tabular import (
    GLOBAL,
    Table,
    broadcast,
    class_agreement,
    deviations,
    fit_facts,
    r_squared,
    shares_of_splits,
    training_table,
)
from harness.explainers._trees import Condition, in_words, leaves, satisfied
from harness.predictor import pick, track
from harness.registry import explainer
from harness.samples import Samples

ROWS = 10_000
HELD_OUT = 0.3


def _fit_linear(
    model: nn.Module, context: Samples, /, score: str, alpha: float, standardise: bool, held_out: float, rows: int
) -> Tensor:
    from sklearn.linear_model import Ridge  # a second to import; few runs need it

    check_number("alpha", alpha, 0, whole=False)
    table = training_table(context, rows)
    x, y = table.values, _scores_of_classes(table, score)
    fit, held = table.split_for(y, held_out)
    unit = deviations(x[fit]) if standardise else np.ones(x.shape[1])
    fitted = Ridge(alpha).fit(x[fit] / unit, y[fit])
    context.tell(**fit_facts(table, "predicted"), **_fidelity(table, fitted.predict(x[held] / unit), y[held]))
    return torch.from_numpy(fitted.coef_ / unit).view(y.shape[1], -1)


@explainer(**GLOBAL, stochastic=True, convention="local", prepare=_fit_linear)
def linear_surrogate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    score: str = "logit",
    alpha: float = 1.0,
    standardise: bool = True,
    held_out: float = HELD_OUT,
    rows: int = ROWS,
) -> Tensor:
    """The coefficients of a ridge regression of the target's score on the columns: a global surrogate (Molnar 2019,
    Interpretable Machine Learning; ridge: Hoerl and Kennard 1970).

    (N, D), signed, ``score`` (logit, probability or log_odds) per unit of the number: the same for all samples of a
    target, and on a linear model the gradient. Penalty ``alpha`` on squared coefficients, with columns scaled to
    deviation 1 for the fit unless ``standardise`` is off; the intercept goes free. Facts, on the ``held_out`` share of
    the rows: ``fidelity`` beside ``majority`` where there are classes, and r2, of all classes together. Not applicable
    without training inputs, to a single output's probability, or where the model says the same of all rows.
    """
    return broadcast(prepared, inputs, targets)


def _fit_tree(
    model: nn.Module, context: Samples, /, depth: int, least: int, fit: str, held_out: float, rows: int
) -> Tensor:
    from sklearn.tree import DecisionTreeRegressor

    check_number("depth", depth, 1)
    check_number("least", least, 1)
    table = training_table(context, rows)
    x, y = table.values.astype(np.float32), tree_responses(table, fit)
    fitting, held = table.split_for(y, held_out)
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


@explainer(**GLOBAL, signed=False, stochastic=True, prepare=_fit_tree)
def tree_surrogate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    depth: int = 4,
    least: int = 1,
    fit: str = "class",
    held_out: float = HELD_OUT,
    rows: int = ROWS,
) -> Tensor:
    """How much a column serves a small decision tree that imitates the model: its share of the decrease of impurity
    (Craven and Shavlik 1996; CART: Breiman et al. 1984).

    (N, C), at least 0 and of sum 1, the same for all samples. A tree of at most ``depth`` with ``least`` rows in a
    leaf, grown on the predicted class by Gini's criterion, or by squared error: on the ``probability`` of all classes,
    where rounding can decide between splits of equal worth; on the output itself where there is a single one. Facts, on
    the ``held_out`` share of the rows: ``fidelity`` beside ``majority``, and r2; the leaves in words as ``rules``. Not
    applicable without training inputs, where the model says the same of all rows, or where no split is allowed.
    """
    return broadcast(prepared, inputs, targets)


@dataclass(frozen=True)
class DecisionRule:
    """Rows that satisfy all ``conditions`` get ``label``; of the rows fitted, a share ``decided`` and ``pure`` of
    them right."""

    conditions: tuple[Condition, ...]
    label: int
    decided: float
    pure: float


def _fit_rules(
    model: nn.Module, context: Samples, /, rules: int, depth: int, cover: float, held_out: float, rows: int
) -> Tensor:
    check_number("rules", rules, 1)
    check_number("depth", depth, 1)
    if not 0 < cover <= 0.5:
        raise UserError(f"cover is {cover!r}, expected a share above 0 and up to 0.5")
    table = training_table(context, rows)
    if table.single:
        raise NotApplicable("a rule list decides between classes, the model has a single output")
    x, y = table.values.astype(np.float32), table.response("predicted")
    fit, held = table.split_for(y, held_out)
    found = greedy_rules(x[fit], y[fit], rules, depth, cover, table.random_state("rule list"))
    if len(found) == 1:
        raise NotApplicable(
            f"no rule covers at least {cover:.0%} of the {len(fit)} rows to fit on, and not all of them"
        )
    fidelity = class_agreement(decide(found, x[held]), y[held])
    context.tell(**fit_facts(table, "predicted"), **fidelity, rules=_list_in_words(found, table))
    return torch.from_numpy(used_shares(found, table.columns))


@explainer(**GLOBAL, signed=False, stochastic=True, prepare=_fit_rules)
def rule_list(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    rules: int = 6,
    depth: int = 2,
    cover: float = 0.05,
    held_out: float = HELD_OUT,
    rows: int = ROWS,
) -> Tensor:
    """The share of rows that are decided by rules with a condition on the column, in a short list of rules that
    imitates the model (decision lists: Rivest 1987; grown leaf by leaf as PART: Frank and Witten 1998).

    (N, C), in 0..1, the same for all samples; columns of one rule count in full each. At most ``rules`` times, a tree
    of at most ``depth`` is fitted to the predicted classes of the rows left, its purest leaf (the largest of equals,
    of at least the share ``cover`` of all rows fitted) becomes a rule, and the rows it covers are removed; a last rule
    without conditions takes the rest. Shares are of the rows fitted. Facts: ``fidelity`` beside ``majority`` on the
    ``held_out`` share of the rows; the list in words as ``rules``. Not applicable without training inputs, to a single
    output, or where the model says the same of all rows.
    """
    return broadcast(prepared, inputs, targets)


def greedy_rules(x: np.ndarray, y: np.ndarray, most: int, depth: int, cover: float, state: int) -> list[DecisionRule]:
    """A rule list fitted to columns ``x`` (R, D) float32 and classes ``y`` (R,); its last rule has no conditions."""
    from sklearn.tree import DecisionTreeClassifier

    left, least, rules = np.arange(len(y)), max(1, round(cover * len(y))), []
    while len(left) >= 2 * least and len(rules) < most and (y[left] != y[left][0]).any():
        tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=least, random_state=state)
        tree.fit(x[left], y[left])
        candidates = [_rule_of_leaf(conditions, x[left], y[left], len(y)) for conditions, _ in leaves(tree)]
        best = max(candidates, key=lambda rule: (rule.pure, rule.decided))
        if not best.conditions:
            break
        rules.append(best)
        left = left[~satisfied(best.conditions, x[left])]
    rest = y[left] if len(left) else y
    label = int(np.bincount(rest).argmax())
    return [*rules, DecisionRule((), label, len(left) / len(y), float((rest == label).mean()))]


def decide(rules: list[DecisionRule], x: np.ndarray) -> np.ndarray:
    """The classes (R,) that a rule list gives rows: each that of the first rule it satisfies."""
    answer = np.full(len(x), rules[-1].label)
    for rule in reversed(rules):
        answer[satisfied(rule.conditions, x)] = rule.label
    return answer


def used_shares(rules: list[DecisionRule], columns: np.ndarray) -> np.ndarray:
    """For each column the share of the fitted rows decided by a rule with a condition on any of its numbers: (C,).

    ``columns`` (D,) says which column each number belongs to.
    """
    shares = np.zeros(columns.max() + 1)
    for rule in rules:
        shares[list({columns[condition.column] for condition in rule.conditions})] += rule.decided
    return shares


def _rule_of_leaf(conditions: tuple[Condition, ...], x: np.ndarray, y: np.ndarray, total: int) -> DecisionRule:
    covered = y[satisfied(conditions, x)]
    counts = np.bincount(covered)
    return DecisionRule(conditions, int(counts.argmax()), len(covered) / total, float(counts.max() / len(covered)))


def _scores_of_classes(table: Table, score: str) -> np.ndarray:
    """Each class' score for each row, (R, K) float64."""
    everyone = torch.arange(table.outputs.shape[1], device=table.outputs.device)
    tracked = [track(table.outputs, each.expand(len(table.outputs))) for each in everyone]
    return torch.stack([pick(each, score) for each in tracked], 1).double().cpu().numpy()


def tree_responses(table: Table, fit: str) -> np.ndarray:
    """What a tree is fitted to, (R, K): probabilities, the predicted class as zeros and a one, or a single output.

    The squared error of zeros and ones is Gini's impurity.
    """
    if fit not in ("class", "probability"):
        raise unknown("fit", fit, ("class", "probability"))
    outputs = table.outputs.double().cpu()
    if table.single:
        return outputs.numpy()
    classes = nn.functional.one_hot(outputs.argmax(1), outputs.shape[1]).double()
    return (outputs.softmax(1) if fit == "probability" else classes).numpy()


def _fidelity(table: Table, found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """How well scores (R, K) imitate those wanted: r2, and where there are classes how often their highest agree."""
    found = found.reshape(wanted.shape)  # scikit-learn drops the axis of a single output
    fit = {"r2": r_squared(found, wanted)}
    return fit if table.single else fit | class_agreement(found.argmax(1), wanted.argmax(1))


def _tree_in_words(tree: object, table: Table) -> list[str]:
    return [
        f"{in_words(conditions, table.number_names)}: {_leaf_in_words(value)}" for conditions, value in leaves(tree)
    ]


def _leaf_in_words(value: np.ndarray) -> str:
    return f"{value[0]:.4g}" if len(value) == 1 else f"class {value.argmax()} ({value.max():.0%})"


def _list_in_words(rules: list[DecisionRule], table: Table) -> list[str]:
    return [
        f"{in_words(rule.conditions, table.number_names)}: class {rule.label} "
        f"({rule.decided:.0%} of rows, {rule.pure:.0%} of them right)"
        for rule in rules
    ]
