"""Anchors: for each row of a table a rule that holds the model's decision, whatever the other columns are."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.explainers._anchor_search import RuleSearch, WantedRule, search_rules
from harness.explainers._decisions import (
    background_rows,
    decided,
    decision_in_words,
    outputs_of,
    own_decisions,
    refuse_unknown,
    sample_names,
)
from harness.explainers._kl_lucb import Arm
from harness.explainers._predicates import PredicateSpace, rule_in_words
from harness.explainers._tabular import TRAINING_ROWS
from harness.option_types import Count
from harness.randomness import element
from harness.registry import explainer
from harness.samples import Samples

USUAL_RULE = WantedRule()


def _predicate_space(model: nn.Module, context: Samples, /, background: int, **others: object) -> PredicateSpace:
    return PredicateSpace(background_rows(context, background))


@explainer(
    access="forward",
    modalities=("table",),
    stochastic=True,
    cost="varies F (fact evaluations); once: T F",
    prepare=_predicate_space,
    tunable={"precision": (0.8, 0.9), "beam": (4,)},
)
def anchors(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: PredicateSpace,
    wanted: WantedRule = USUAL_RULE,
    background: Count = TRAINING_ROWS,
) -> Tensor:
    """Anchors: the columns of a rule under which the model's decision for the sample hardly changes, whatever the other
    columns are (Ribeiro et al. 2018, doi 10.1609/aaai.v32i1.11491).

    Shape (N, C). The decision is whether the target is predicted. A rule's precision is the probability of the sample's
    own decision for a row drawn under the rule: a row of the ``background``, in which values that break the rule are
    replaced by values of the column that meet it. Its coverage is the share of the background that meets it. Conditions
    are bounds at the quartiles of the background, and a category's own value. Rules grow condition by condition, the
    ``beam`` best of each size by KL-LUCB (up to ``gap``); of those whose precision is above ``precision`` with
    probability 1 - ``delta``, the one of the largest coverage is the anchor, else the rule of the highest estimated
    precision is returned. The value of a column of the rule is k + (1 + g) / 2: k is the number of columns that joined
    later, g in [-1, 1] the gain in precision when it joined. So columns are ranked by when they joined. Other columns
    have 0. Values are negative where the target is not predicted. Facts: ``precision``, ``coverage``, ``anchored``
    (whether the bound is reached) and ``evaluations``; the table ``rules`` has each rule in words. Not applicable
    without training inputs, and to numbers.

    Unlike the authors' code, draws of a shorter rule do not count for a longer one, whose distribution is another; the
    lower bound itself is above ``precision``, as in the paper; and a rule has at least one condition.

    Example: classes(x) is class 1 where x1 > 0. In the grid, x1 > 0 is the upper half, and alone decides for class 1.

    >>> facts = harness.Facts()
    >>> found = harness.explain("anchors", classes, x, torch.tensor([1]), train=train, facts=facts)
    >>> found.round(decimals=1), facts.tables["rules"].rule[0]
    (tensor([[0.8000, 0.0000]]), 'if 0 > 0')
    """
    drawer = _RowsUnderRules(context, prepared)
    searches = [
        RuleSearch(number, prepared.predicates(inputs[number]), empty)
        for number, empty in enumerate(drawer.empty_rules())
    ]
    search_rules(searches, wanted, drawer.draw)
    _tell_rules(context, prepared, searches, drawer)
    sizes = torch.from_numpy(np.stack([_values_of_rule(each, len(prepared.rows.names)) for each in searches])).to(
        inputs
    )
    return refuse_unknown(context, drawer.known, sizes * torch.where(drawer.own, 1, -1)[:, None].to(inputs))


class _RowsUnderRules:
    """Draws rows under rules, and counts those with the sample's own decision."""

    def __init__(self, context: Samples, space: PredicateSpace) -> None:
        self.context, self.space = context, space
        self.own, self.known = own_decisions(context)
        self.keys = context.stream("anchors")
        self.spent = np.zeros(len(context), dtype=int)

    def empty_rules(self) -> list[Arm]:
        """For each sample the rule without conditions, with its successes counted over all background rows."""
        outputs, found = self.space.rows.outputs, []
        for number, (target, own) in enumerate(zip(self.context.targets, self.own, strict=True)):
            same = decided(self.context.task, outputs, target.expand(len(outputs))) == own
            found.append(Arm(number, (), len(outputs), int(same.sum())))
        return found

    def draw(self, arms: Sequence[Arm], counts: Sequence[int]) -> None:
        """Draw so many rows under each arm's rule; a sample's arms have the same random numbers."""
        if not arms:
            return
        on = lambda numbers: torch.tensor(numbers, device=self.keys.device)
        sample, drawn, count = on([arm.sample for arm in arms]), on([arm.drawn for arm in arms]), on(counts)
        draws = self.space.draw(self.context.inputs[sample], [arm.rule for arm in arms])
        arm = torch.arange(len(arms), device=count.device).repeat_interleave(count)
        number = drawn[arm] + torch.arange(len(arm), device=count.device) - (count.cumsum(0) - count)[arm]
        keys = element(self.keys[sample[arm]], number)
        outputs = outputs_of(self.context, sample[arm], lambda rows: draws.rows(arm[rows], keys[rows]), self.known)
        same = decided(self.context.task, outputs, self.context.targets[sample[arm]]) == self.own[sample[arm]]
        successes = torch.zeros_like(count).index_add_(0, arm, same.to(count)).tolist()
        for each, more, kept in zip(arms, counts, successes, strict=True):
            each.drawn, each.successes = each.drawn + more, each.successes + kept
            self.spent[each.sample] += more


def _values_of_rule(search: RuleSearch, columns: int) -> np.ndarray:
    """The values of the columns (C,): how many joined after each, and half of 1 plus its gain in precision."""
    gains: dict[int, float] = {}
    for before, after in pairwise(search.steps):
        column = after.rule[-1].column
        gains[column] = gains.get(column, 0.0) + after.rate - before.rate
    values = np.zeros(columns)
    for later, (column, gain) in enumerate(reversed(gains.items())):
        values[column] = later + (1 + np.clip(gain, -1, 1)) / 2
    return values


def _tell_rules(context: Samples, space: PredicateSpace, searches: list[RuleSearch], drawer: _RowsUnderRules) -> None:
    """Report the rule of each sample, with its precision, its coverage, and what it cost."""
    rules = pd.DataFrame(
        [
            {
                "sample": name,
                "rule": rule_in_words(search.best.rule, space.rows, values),
                "decision": decision_in_words(context, int(target), bool(own)) if known else "not known",
                "precision": search.best.rate,
                "lower_bound": search.best.lower,
                "coverage": search.coverage(search.best),
                "anchored": search.anchor is not None,
                "without_rule": search.empty.rate,
                "evaluations": int(spent),
            }
            for name, search, values, target, own, known, spent in zip(
                sample_names(context),
                searches,
                context.inputs,
                context.targets,
                drawer.own,
                drawer.known,
                drawer.spent,
                strict=True,
            )
        ]
    )
    rules.loc[~drawer.known.cpu().numpy(), ["precision", "lower_bound", "without_rule"]] = np.nan
    numbers = ("precision", "coverage", "anchored", "evaluations")
    context.tell(rules=rules, **{name: torch.tensor(rules[name].to_numpy(dtype=float)) for name in numbers})
