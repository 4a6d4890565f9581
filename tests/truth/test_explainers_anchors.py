"""Anchors: rules that are known, their precision and coverage, and what is drawn under them."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import harness
from explainer_worlds import model, smooth_net
from harness.api import samples_of
from harness.explainers._decisions import background_rows
from harness.explainers._kl_lucb import Arm, best_arms, compare_with, rate_bound
from harness.explainers._predicates import PredicateSpace
from harness.randomness import element

NAMES = tuple("abcde")
FEW = {"samples": 6000, "conditions": 3}


def explained(net, x, targets, train, **options):
    """Attributions, and the table of rules."""
    facts = harness.Facts()
    data = harness.Data(x, targets, train=train, unit_names=NAMES[: x.shape[1]])
    return harness.explain("anchors", net, data, facts=facts, **{**FEW, **options}), facts


def both_above(first, second):
    """Class 1 where column a is above ``first`` and column c above ``second``."""

    def logits(x):
        inside = (x[:, 0] > first) & (x[:, 2] > second)
        return 10 * torch.stack([~inside, inside], 1).to(x)

    return model(logits)


def test_of_two_thresholds_that_must_both_be_passed_the_anchor_is_these_two(seed):
    train = torch.randn(400, 5)
    cuts = train.double().quantile(torch.tensor([0.5, 0.75], dtype=torch.float64), 0)
    first, second = float(cuts[0, 0]), float(cuts[1, 2])
    net, x = both_above(first, second), torch.tensor([[3.0, 0, 3, 0, 0], [-3.0, 0, 3, 0, 0], [3.0, 0, -3, 0, 0]])
    found, facts = explained(net, x, torch.tensor([1, 0, 0]), train)
    rules = facts.tables["rules"]
    # c is above its cut in a quarter of the rows: alone it is the more precise one, and joins first.
    assert rules.rule.tolist() == [
        f"if c > {second:.4g} and a > {first:.4g}",
        f"if a <= {first:.4g}",
        f"if c <= {second:.4g}",
    ]
    assert rules.decision.tolist() == ["class 1", "class 0", "class 0"]
    assert rules.precision.tolist() == [1, 1, 1] and rules.anchored.all()
    inside = (train[:, 0].double() > first) & (train[:, 2].double() > second)
    assert rules.coverage.tolist() == pytest.approx([float(inside.double().mean()), 0.5, 0.75])
    assert rules.without_rule[0] == pytest.approx(float(inside.double().mean()))
    # The values: 1 for each column that joined later, and half of 1 plus the gain in precision: at first 1/2 - 1/8.
    share = float((train[:, 0].double() > first).double().mean())
    expected = [(1 + 1 - share) / 2, 0, 1 + (1 + share - rules.without_rule[0]) / 2, 0, 0]
    assert found[0].tolist() == pytest.approx(expected, abs=0.1)
    assert (found[1:] > 0).tolist() == [[True, False, False, False, False], [False, False, True, False, False]]


def test_the_rule_that_a_target_is_not_predicted_speaks_against_it(seed):
    net, x, train = smooth_net(4, 2), torch.randn(5, 4), torch.randn(200, 4)
    for_it, against = (explained(net, x, net(x).argmax(1) if own else net(x).argmin(1), train) for own in (True, False))
    assert torch.equal(for_it[0], -against[0]) and (for_it[0] >= 0).all() and (for_it[0] > 0).any(1).all()
    decisions = for_it[1].tables["rules"].decision.tolist(), against[1].tables["rules"].decision.tolist()
    assert decisions == ([f"class {c}" for c in net(x).argmax(1)], [f"not class {c}" for c in net(x).argmin(1)])


def bounds_in(rule):
    """Column -> (low, high) of a rule in words."""
    found = {}
    for part in rule.removeprefix("if ").split(" and "):
        low, name, high = re.fullmatch(r"(?:(\S+) < )?(\w)(?: (?:<= (\S+)|> \S+))?", part).groups()
        above = re.fullmatch(r"\w > (\S+)", part)
        found[name] = float(above[1] if above else low or "-inf"), float(high or "inf")
    return found


def true_precision(net, rule, own, target, train, draws=40_000):
    """The share of rows under a rule, drawn one column after the other by numpy, with the sample's own decision."""
    generator, values = np.random.default_rng(0), train.double().numpy()
    rows = values[generator.integers(len(values), size=draws)]
    for name, (low, high) in bounds_in(rule).items():
        column = values[:, NAMES.index(name)]
        inside = column[(column > low) & (column <= high)]
        mine = rows[:, NAMES.index(name)]
        out = (mine <= low) | (mine > high)
        rows[out, NAMES.index(name)] = generator.choice(inside, out.sum())
    decisions = net(torch.from_numpy(rows).float()).argmax(1) == target
    return float((decisions == own).double().mean())


@pytest.mark.parametrize("precision", [0.8, 0.95])
def test_of_rules_found_with_delta_a_tenth_nine_tenths_have_the_precision_at_least(precision, seed):
    right, anchored = 0, 0
    for _ in range(3):
        net, x, train = smooth_net(4), torch.randn(16, 4), torch.randn(150, 4)
        with torch.no_grad():
            net[0].weight.mul_(3)
        targets = net(x).argmax(1)
        _, facts = explained(net, x, targets, train, precision=precision, delta=0.1)
        rules = facts.tables["rules"]
        for line, target in zip(
            rules[rules.anchored].itertuples(), targets[rules.anchored.to_numpy().copy()], strict=True
        ):
            true = true_precision(net, line.rule, True, target, train)
            assert line.lower_bound > precision and abs(line.precision - true) < 0.1, line.rule
            right, anchored = right + (true > precision - 0.005), anchored + 1  # 40,000 draws are off by 0.002
    assert anchored >= 10 and right >= 0.9 * anchored, (right, anchored)


def test_rows_under_a_rule_have_its_column_from_the_rows_that_meet_it_and_all_others_from_any_row(seed):
    train, x = torch.randn(300, 3), torch.tensor([[2.0, 0.0, 0.0]])
    space = PredicateSpace(background_rows(samples_of(smooth_net(3), x, torch.tensor([0]), train=train), 300))
    rule = [each for each in space.predicates(x[0]) if each.column == 0][-1]
    keys = element(torch.tensor([7]), torch.arange(30_000))
    rows = space.draw(x, [[rule]]).rows(torch.zeros(30_000, dtype=torch.long), keys)
    upper = train[train[:, 0].double() > rule.low]
    assert len(upper) == 75 and rule.met.sum() == 75
    values, counts = rows[:, 0].unique(return_counts=True)
    assert torch.equal(values, upper[:, 0].sort().values)
    assert abs(counts.double() - 400).max() < 5 * 20  # each of them equally often: the deviation of a count is 20
    others = rows[:, 1:].double()
    assert torch.allclose(others.mean(0), train[:, 1:].double().mean(0), atol=0.03)
    assert abs(float((others[:, 0] * others[:, 1]).mean() - (train[:, 1] * train[:, 2]).double().mean())) < 0.04


def test_a_category_is_held_as_a_whole_and_bounds_of_one_column_are_one_condition(seed):
    kinds = torch.randint(3, (300,))
    train = torch.cat([nn.functional.one_hot(kinds, 3).float(), torch.randn(300, 2)], 1)
    seen = []

    def logits(x):
        seen.append(x)
        inside = (x[:, 1] == 1) & (x[:, 3].abs() < 0.9)
        return 10 * torch.stack([~inside, inside], 1).to(x)

    facts = harness.Facts()
    data = harness.Data(torch.tensor([[0, 1.0, 0, 0, 0]]), torch.tensor([1]), train=train, columns=(0, 0, 0, 1, 2))
    data.unit_names = ("kind", "size", "other")
    found = harness.explain("anchors", model(logits), data, facts=facts, samples=20_000)
    rule = facts.tables["rules"].rule[0]
    assert "kind[1] = 1" in rule and re.search(r"-0\.\d+ < size <= 0\.\d+", rule) and "other" not in rule
    assert found.shape == (1, 3) and (found[0, :2] > 0).all() and found[0, 2] == 0
    assert facts.tables["rules"].precision[0] == 1
    rows = torch.cat(seen)
    assert (rows[:, :3].sum(1) == 1).all() and (rows[:, 1] == 1).double().mean() > 0.5


def test_without_an_anchor_the_most_precise_rule_is_told_as_none(seed):
    coin = model(lambda x: torch.stack([torch.zeros(len(x)), ((x.sum(1) * 1e3).sin() > 0).float() - 0.5], 1))
    x, train = torch.randn(2, 3), torch.randn(100, 3)
    _, facts = explained(coin, x, coin(x).argmax(1), train, samples=2000, conditions=2)
    rules = facts.tables["rules"]
    assert not rules.anchored.any() and (rules.lower_bound < 0.95).all() and rules.rule.str.startswith("if").all()


def test_bounds_are_where_the_divergence_is_the_level(seed):
    rates, level = np.array([0.0, 0.3, 0.9, 1.0]), np.array([0.1, 0.02, 0.05, 0.2])
    upper, lower = (rate_bound(rates, level, np.full(4, up)) for up in (True, False))
    kl = lambda p, q: sum(a * np.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)
    assert [kl(p, q) for p, q in zip(rates[:3], upper[:3], strict=True)] == pytest.approx(level[:3], rel=1e-4)
    assert [kl(p, q) for p, q in zip(rates[1:], lower[1:], strict=True)] == pytest.approx(level[1:], rel=1e-4)
    assert upper[3] == pytest.approx(1) and lower[0] == pytest.approx(0, abs=1e-6)
    assert lower[3] == pytest.approx(np.exp(-0.2))  # of n successes in n draws: delta^(1/n)


def coins(generator):
    """A function that draws of arms, whose ``what`` is their rate."""

    def draw(arms, counts):
        for arm, count in zip(arms, counts, strict=True):
            arm.drawn, arm.successes = arm.drawn + count, arm.successes + generator.binomial(count, arm.rule)

    return draw


def test_the_best_arms_are_found_up_to_the_gap(seed):
    generator, missed = np.random.default_rng(0), 0
    for _ in range(40):
        rates = generator.uniform(0.2, 0.9, 12)
        chosen = best_arms([[Arm(0, rate) for rate in rates]], 2, 0.1, 0.1, 10**6, coins(generator))[0]
        missed += min(arm.rule for arm in chosen) < np.sort(rates)[-2] - 0.1
        assert chosen[0].rate >= chosen[1].rate
    assert missed <= 4


def test_a_budget_ends_the_search_and_samples_do_not_see_each_other(seed):
    arms = lambda: [Arm(0, rate) for rate in (0.5, 0.51, 0.52)]
    mine, other = arms(), [Arm(1, rate) for rate in (0.1, 0.9)]
    best_arms([mine, other], 1, 0.01, 0.1, 1000, coins(np.random.default_rng(0)))
    assert 800 <= sum(arm.drawn for arm in mine) <= 1000


def test_a_rate_is_compared_until_it_is_sure(seed):
    generator, arms = np.random.default_rng(0), [Arm(0, rate, 10, round(10 * rate)) for rate in (0.5, 0.99, 0.95, 0.9)]
    compare_with(0.95, arms, [0.01] * 4, coins(generator))
    assert arms[1].lower > 0.95 and max(arms[0].lower, arms[3].lower) < 0.95
    assert arms[0].drawn < arms[3].drawn < arms[2].drawn < 10_000


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"precision": 1.0}, "precision (of .* )?is 1.0"),
        ({"delta": 0.0}, "delta (of .* )?is 0.0"),
        ({"beam": 0}, "beam (of .* )?is 0"),
        ({"samples": 0}, "samples (of .* )?is 0"),
        ({"background": 0}, "background (of .* )?is 0"),
    ],
)
def test_mistakes_are_told_in_a_line(options, line, seed):
    with pytest.raises(harness.errors.UserError, match=line):
        explained(smooth_net(3), torch.randn(2, 3), torch.tensor([0, 1]), torch.randn(20, 3), **options)


def test_a_number_has_no_anchor_and_without_training_inputs_there_is_none(seed):
    x, train = torch.randn(2, 3), torch.randn(20, 3)
    with pytest.raises(harness.NotApplicable, match="the model's output is a number"):
        harness.explain("anchors", smooth_net(3, 1), harness.Data(x, task="regression", train=train))
    with pytest.raises(harness.NotApplicable, match="give train="):
        harness.explain("anchors", smooth_net(3), x, torch.tensor([0, 1]))
