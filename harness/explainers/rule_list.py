"""A short list of rules that imitates a model on a table, and how many rows each column helps to decide."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._tabular import (
    GLOBAL,
    SEVEN_TO_THREE,
    HeldOutRows,
    Table,
    broadcast,
    class_agreement,
    fit_facts,
    training_table,
)
from harness.explainers._trees import Condition, in_words, leaves, satisfied
from harness.option_types import Range
from harness.registry import explainer
from harness.samples import Samples


@dataclass(frozen=True)
class DecisionRule:
    """Rows that satisfy all ``conditions`` get the class ``label``.

    decided   the share of the fitted rows that this rule decides
    pure      the share of these rows for which ``label`` is right
    """

    conditions: tuple[Condition, ...]
    label: int
    decided: float
    pure: float


def _fit_rules(
    model: nn.Module, context: Samples, /, rules: int, depth: int, cover: float, split: HeldOutRows
) -> Tensor:
    table = training_table(context, split.rows)
    x, y = table.values_in_units.astype(np.float32), _decisions(table)
    fit, held = table.split_for(y, split.held_out)
    fitted = greedy_rules(x[fit], y[fit], rules, depth, cover, table.random_state("rule list"))
    if len(fitted) == 1:
        raise NotApplicable(
            f"no rule covers at least {cover:.0%} of the {len(fit)} rows to fit on, and not all of them"
        )
    fidelity = class_agreement(decide(fitted, x[held]), y[held])
    context.tell(**fit_facts(table, "predicted"), **fidelity, rules=_list_in_words(fitted, table))
    return torch.from_numpy(used_shares(fitted, table.columns))


@explainer(
    **GLOBAL,
    signed=False,
    stochastic=True,
    prepare=_fit_rules,
    tunable={"rules": (3, 12), "depth": (1, 3), "cover": (0.02, 0.1)},
)
def rule_list(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    rules: Annotated[int, Range(1, 1000)] = 6,
    depth: Annotated[int, Range(1, 10)] = 2,
    cover: Annotated[float, Range(0, 0.5, without="least")] = 0.05,
    split: HeldOutRows = SEVEN_TO_THREE,
) -> Tensor:
    """Rule list: the share of rows that are decided by rules with a condition on the column, in a short list of rules
    that imitates the model (decision lists: Rivest 1987; grown leaf by leaf as PART: Frank and Witten 1998).

    Shape (N, C); in 0..1; the same for all samples; every column of a rule counts in full. At most ``rules`` times, a
    tree of at most ``depth`` levels is fitted to the predicted classes of the rows that are left. Its purest leaf (the
    largest of equally pure ones, with at least the share ``cover`` of all fitted rows) becomes a rule, and the rows
    that it covers are removed. A last rule without conditions decides the rest. Shares are of the fitted rows. Facts:
    ``fidelity`` beside ``majority`` on the ``held_out`` share of the rows; the list in words as ``rules``. Of labels
    that do not exclude each other it imitates the explained one: class 1 where its probability is above 1/2. Not
    applicable without training inputs, to a number, or where the model's answers are the same for all rows.

    Example: classes(x) is class 1 where x1 > 0. The first rule has a condition on x1 and decides the 40 rows of one
    class among the 70 fitted ones; the last rule decides the others.

    >>> harness.explain("rule_list", classes, x, target, train=train)
    tensor([[0.5714, 0.0000]])
    """
    return broadcast(prepared, inputs, targets)


def _decisions(table: Table) -> np.ndarray:
    """The model's decision for each row (R,): the predicted class, or whether the explained label is predicted."""
    if not table.single:
        return table.response("predicted")
    if not table.task.independent:
        raise NotApplicable("a rule list decides between classes, the model's output is a number")
    decisions = (table.task.probabilities(table.outputs)[:, 0] > 0.5).long().cpu().numpy()
    if (decisions == decisions[0]).all():
        raise NotApplicable(f"the label is predicted for all or none of the {len(decisions)} training rows")
    return decisions


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
    """The classes (R,) of rows ``x`` by a rule list: each that of the first rule that the row satisfies."""
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


def _list_in_words(rules: list[DecisionRule], table: Table) -> list[str]:
    return [
        f"{in_words(rule.conditions, table.number_names, table.units)}: class {rule.label} "
        f"({rule.decided:.0%} of rows, {rule.pure:.0%} of them right)"
        for rule in rules
    ]
