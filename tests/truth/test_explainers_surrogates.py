"""Surrogates: models of their own kind are recovered exactly, others as well as their kind allows, and they say so."""

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

import harness
from explainer_worlds import linear_net, model, near, smooth_net
from harness.api import samples_of
from harness.explainers._tabular import training_table
from harness.explainers._trees import Condition, in_words, leaves, satisfied
from harness.explainers.rule_list import DecisionRule, decide, greedy_rules, used_shares
from test_explainers_global import decided_net, told


def product(x):
    """Class 0 where the first two columns agree in sign, by their product."""
    return 3 * torch.stack([x[:, 0] * x[:, 1], -x[:, 0] * x[:, 1]], 1)


def nested(x):
    """A tree of depth 2 on columns 0, 2 and 3, by a jump of the logits."""
    number = torch.where(x[:, 0] > 0.1, torch.where(x[:, 2] > 0.2, 0, 1), torch.where(x[:, 3] > -0.1, 2, 3))
    return 8 * torch.nn.functional.one_hot(number, 4).float()


def test_a_linear_surrogate_of_a_linear_model_is_its_gradient_for_each_target(seed):
    net, weight = linear_net((5,))
    train = torch.randn(200, 5) * torch.tensor([1.0, 10, 0.1, 1, 3]) + 2
    targets = torch.tensor([2, 0, 1])
    found, facts = told("linear_surrogate", net, train, x=train[:3], targets=targets, penalty=0.0)
    assert near(found, weight[targets], 1e-4)
    assert facts.single["r2"] == pytest.approx(1, abs=1e-6) and facts.single["fidelity"] >= 0.98
    shrunk, facts = told("linear_surrogate", net, train, x=train[:3], targets=targets, penalty=300.0)
    assert not near(shrunk, weight[targets], 0.1) and facts.single["r2"] < 0.95


def test_a_linear_surrogate_of_a_single_output_has_its_weights_and_no_classes_to_agree_on(seed):
    weight, train = torch.randn(4), torch.randn(90, 4)
    for net in (model(lambda x: x @ weight + 3), model(lambda x: (x @ weight + 3)[:, None])):
        found, facts = told("linear_surrogate", net, train, penalty=0.0)
        assert near(found[0], weight, 1e-5) and facts.single["r2"] == pytest.approx(1, abs=1e-9)
        assert "fidelity" not in facts.single
        with pytest.raises(harness.NotApplicable, match="class probability"):
            told("linear_surrogate", net, train, score="probability")


@pytest.mark.parametrize("score", ["probability", "log_odds"])
def test_a_linear_surrogate_fits_the_score_it_is_asked_for(score, seed):
    net, train = smooth_net(4), torch.randn(300, 4)
    log_p = net(train).double().log_softmax(1).detach()
    y = log_p.exp() if score == "probability" else torch.logit(log_p.exp())
    found, _ = told("linear_surrogate", net, train, score=score, penalty=0.0, held_out=0.003)  # one row
    x = torch.cat([train.double(), torch.ones(300, 1)], 1)
    assert near(found[0], torch.linalg.lstsq(x, y[:, 0]).solution[:4], 0.05)


def test_a_tree_of_depth_two_is_recovered_and_read_out(seed):
    train = 2 * torch.rand(1500, 5) - 1
    for fit in ("class", "probability"):
        found, facts = told(
            "tree_surrogate", model(nested), train, depth=2, fit=fit, names=("age", "b", "dose", "d", "e")
        )
        assert facts.single["fidelity"] > 0.99 > 0.7 > facts.single["majority"] and facts.single["r2"] > 0.97
        assert (found[0, [1, 4]] == 0).all() and near(found.sum(1), torch.ones(3))
        words = facts.single["rules"]
        assert len(words) == 4 and all(line.startswith("if age ") and ": class " in line for line in words)


def test_a_jump_in_a_lattice_is_recovered_exactly(seed):
    train = torch.randint(0, 6, (900, 4)).float()
    at = torch.randint(1, 5, (2,)) + 0.5
    steps = model(lambda x: 5 * torch.stack([(x[:, 1] > at[0]) * 2.0, (x[:, 3] > at[1]) * 3.0, x[:, 0] * 0 + 1], 1))
    for name, options in (("tree_surrogate", {"depth": 2}), ("rule_list", {})):
        found, facts = told(name, steps, train, **options)
        assert facts.single["fidelity"] == 1, name
        assert found[0, 3] > 0 and (found[0, [0, 2]] == 0).all(), name


def test_an_interaction_is_beyond_a_line_and_within_reach_of_a_tree_and_the_fidelity_says_so(seed):
    train = torch.rand(2800, 3) - 0.35  # not centred: in the middle of a plain product no first split is any better
    _, line = told("linear_surrogate", model(product), train)
    found, tree = told("tree_surrogate", model(product), train)
    assert tree.single["fidelity"] > 0.97 and tree.single["majority"] < 0.62
    assert line.single["fidelity"] < 0.8 and line.single["r2"] < 0.55 and found[0, 2] < 0.05


def test_fidelity_and_majority_are_those_of_the_rows_held_out(seed):
    net, train = decided_net(6), torch.randn(300, 6)
    table = training_table(samples_of(net, train[:1], torch.tensor([0]), train=train), 300)
    fit, held = table.split(0.4)
    assert len(held) == 120 and sorted([*fit, *held]) == list(range(300))
    x, y = table.values, net(train).argmax(1).numpy()
    tree = DecisionTreeClassifier(max_depth=5, random_state=table.random_state("tree surrogate")).fit(x[fit], y[fit])
    _, facts = told("tree_surrogate", net, train, depth=5, held_out=0.4)
    assert facts.single["fidelity"] == pytest.approx(tree.score(x[held], y[held]), abs=0.04)  # leaves with a tie
    assert facts.single["fidelity"] < tree.score(x[fit], y[fit]) - 0.05
    assert facts.single["majority"] == pytest.approx(np.bincount(y[held]).max() / 120)


def test_a_single_output_has_a_regression_tree_and_no_rule_list(seed):
    train, step = torch.rand(400, 3), model(lambda x: (x[:, 1] > 0.5).float() * 4)
    found, facts = told("tree_surrogate", step, train, depth=1)
    assert found[0].tolist() == [0, 1, 0] and facts.single["r2"] > 0.9 and "fidelity" not in facts.single
    assert [line.split(": ")[1] for line in facts.single["rules"]] == ["0", "4"]
    with pytest.raises(harness.NotApplicable, match="the model's output is a number"):
        told("rule_list", step, train)


def test_a_rule_model_is_recovered_exactly_and_told_in_words(seed):
    train = torch.randint(0, 2, (600, 5)).float()
    # if c0 and c1: 0; else if c3: 1; else 2
    number = lambda x: torch.where((x[:, 0] + x[:, 1]) > 1.5, 0, torch.where(x[:, 3] > 0.5, 1, 2))
    net = model(lambda x: 5 * torch.nn.functional.one_hot(number(x), 3).float())
    found, facts = told("rule_list", net, train, names=tuple("abcde"))
    assert facts.single["fidelity"] == 1 and (found[0, [2, 4]] == 0).all() and found[0, [0, 1, 3]].min() > 0.2
    words = facts.single["rules"]
    assert words[0].startswith("if ") and words[-1].startswith("otherwise: class ")
    assert all("(" in line and "100% of them right)" in line for line in words)


def test_a_rule_list_by_hand(seed):
    x = np.array([[0, 0], [0, 1], [0, 0], [0, 1], [1, 0], [1, 0], [1, 1], [1, 1]], dtype=np.float32)
    y = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    rules = greedy_rules(x, y, 6, 1, 0.1, 0)
    # The largest of the pure leaves first; then the two classes that are left.
    assert rules[0] == DecisionRule((Condition(0, False, 0.5),), 0, 0.5, 1.0)
    assert [rule.decided for rule in rules] == [0.5, 0.25, 0.25] and rules[-1].conditions == ()
    assert rules[1].conditions[0].column == 1
    assert used_shares(rules, np.arange(3)).tolist() == [0.5, 0.25, 0]
    assert (decide(rules, x) == y).all()
    assert len(greedy_rules(x, y, 1, 1, 0.1, 0)) == 2
    assert greedy_rules(x, y, 6, 1, 0.4, 0)[1].conditions == (), "a rule must cover enough"


def test_a_rule_on_two_columns_counts_for_both_and_rows_are_decided_by_the_first_that_fits():
    conditions = (Condition(0, True, 0.5), Condition(2, False, 1.0))
    rules = [
        DecisionRule(conditions, 3, 0.25, 1.0),
        DecisionRule((Condition(2, True, 0.0),), 1, 0.5, 1.0),
        DecisionRule((), 0, 0.25, 1.0),
    ]
    assert used_shares(rules, np.arange(3)).tolist() == [0.25, 0, 0.75]
    x = np.array([[1, 0, 1], [1, 0, 2], [0, 0, 0], [0.5, 0, 1]], dtype=np.float32)
    assert decide(rules, x).tolist() == [3, 1, 0, 1]


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_leaves_read_as_conditions_hold_the_rows_that_the_tree_puts_there(kind, seed):
    from sklearn.tree import DecisionTreeRegressor

    x = torch.randn(300, 3).double().numpy().astype(np.float32)
    y = np.sin(3 * x[:, 0]) + x[:, 1] if kind == "numbers" else (x[:, 0] * x[:, 1] > 0).astype(float)
    tree = DecisionTreeRegressor(max_depth=5, random_state=seed).fit(x, y)
    found, covered = np.zeros(300), np.zeros(300, dtype=int)
    for conditions, value in leaves(tree):
        rows = satisfied(conditions, x)
        found[rows], covered = value[0], covered + rows
        assert len({(each.column, each.above) for each in conditions}) == len(conditions), "none said twice"
    assert (covered == 1).all() and np.allclose(found, tree.predict(x))


def test_conditions_in_words():
    conditions = (Condition(1, True, 0.123456), Condition(0, False, -2.0))
    assert in_words(conditions, ("age", "dose"), np.ones(2)) == "if dose > 0.1235 and age <= -2"
    assert in_words(conditions, ("age", "dose"), np.array([8.0, 1.0])) == "if dose > 0.1235 and age <= -16"
    assert in_words((), (), np.ones(0)) == "otherwise"


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("tree_surrogate", {"fit": "logit"}, "fit (of .* )?is 'logit'"),
        ("tree_surrogate", {"depth": 0}, "depth (of .* )?is 0"),
        ("rule_list", {"cover": 0.7}, "cover (of .* )?is 0.7"),
        ("rule_list", {"rules": 0}, "rules (of .* )?is 0"),
        ("linear_surrogate", {"penalty": -1.0}, "penalty (of .* )?is -1.0"),
        ("rule_list", {"held_out": 0.0}, "held_out (of .* )?is 0.0"),
        ("linear_surrogate", {"score": "odds"}, "score (of .* )?is 'odds'"),
    ],
)
def test_mistakes_are_told_in_one_line(name, options, match, seed):
    with pytest.raises(ValueError, match=match):
        told(name, decided_net(3), torch.randn(40, 3), **options)
