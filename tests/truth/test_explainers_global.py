"""Importances of a table's columns: known answers, what they depend on, and what they tell of themselves."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import harness
from explainer_worlds import model, near, smooth_net
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.explainers._tabular import training_table, values_repeat
from harness.facts import Facts
from harness.guards import ModelGuard
from harness.predictor import Predictor
from harness.registry import EXPLAINERS
from harness.removal.background import drawn_rows

GLOBAL = {
    "permutation_importance": {"repeats": 3},
    "mutual_information": {},
    "rfe": {},
    "random_forest": {"trees": 5},
    "linear_surrogate": {},
    "tree_surrogate": {},
    "rule_list": {},
}
FITTED = [name for name in GLOBAL if "labels" in EXPLAINERS[name].options]


def told(name, net, train, truth=None, *, x=None, targets=None, seed=0, chunk=64, batch=16, names=None, **options):
    """Attributions of some samples, the first training rows where none are given, and the facts told of them."""
    x = train[:3] if x is None else x
    targets = torch.zeros(len(x), dtype=torch.long) if targets is None else targets
    predictor = Predictor(net, chunk=chunk)
    samples = samples_of(net, x, targets, seed=seed, train=train, train_labels=truth, predictor=predictor)
    samples.facts, samples.unit_names = Facts(), names
    entry = EXPLAINERS[name]
    explaining = Explaining(entry, entry.complete(options), net, batch)
    explaining.prepare(samples)
    return explaining(samples), samples.facts


def decided_net(width, classes=3):
    """A net that gives rows around 0 different classes: odd, and steep."""
    net = smooth_net(width, classes)
    with torch.no_grad():
        net[0].weight.mul_(4)
        net[0].bias.zero_()
        net[2].bias.zero_()
    return net


def threshold(column, classes=2):
    """Class 1 where a column is above 0."""
    return model(lambda x: 10 * torch.stack([-x[:, column], x[:, column], *[x[:, 0] * 0 - 99] * (classes - 2)], 1))


@pytest.mark.parametrize("labels", ["label", "predicted"])
def test_permuting_the_column_of_a_threshold_costs_the_chance_that_its_class_changes(labels, seed):
    train, net = torch.randn(2000, 4), threshold(2)
    found, _ = told("permutation_importance", net, train, net(train).argmax(1), labels=labels)
    share = float((train[:, 2] > 0).double().mean())
    # A permuted value falls on the other side with probability 2 p (1 - p).
    assert float(found[0, 2]) == pytest.approx(2 * share * (1 - share), abs=0.04)
    assert (found[:, [0, 1, 3]] == 0).all()


def test_permuting_a_column_of_a_linear_model_costs_twice_its_variance_times_its_squared_weight(seed):
    train, weight = torch.randn(3000, 3) * torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.0, -0.5, 0.0])
    net = model(lambda x: x @ weight)
    found, facts = told("permutation_importance", net, train, net(train), score="squared_error", repeats=5)
    expected = 2 * weight**2 * train.var(0, correction=0)  # E (w x - w x')^2 for x' independent of x
    assert near(found[0], expected, 0.1) and found[0, 2] == 0
    assert facts.single["squared_error"] == 0 and facts.single["explains"] == "model"


def test_the_log_loss_grows_as_computed_by_hand_and_accuracy_falls(seed):
    net, train = decided_net(4), torch.randn(50, 4)
    labels = torch.randint(3, (50,))
    _, facts = told("permutation_importance", net, train, labels, score="log_loss", repeats=2)
    losses = nn.functional.cross_entropy(net(train).double(), labels)
    assert facts.single["log_loss"] == pytest.approx(float(losses.detach()), rel=1e-6)
    _, facts = told("permutation_importance", net, train, labels, repeats=2)
    assert facts.single["accuracy"] == pytest.approx(float((net(train).argmax(1) == labels).double().mean()))


def test_every_repeat_of_every_column_is_kept_under_the_columns_name(seed):
    net, train = decided_net(3), torch.randn(60, 3)
    found, facts = told(
        "permutation_importance", net, train, labels="predicted", repeats=4, names=("age", "dose", "sex")
    )
    table = facts.tables["repeats"]
    assert list(table.columns) == ["unit", "repeat", "value"] and len(table) == 12
    assert near(torch.tensor(table.groupby("unit", sort=False).value.mean().to_numpy()), found[0].double(), 1e-6)
    assert list(table.unit.unique()) == ["age", "dose", "sex"] and table.value.nunique() > 3
    _, facts = told("permutation_importance", net, train, labels="predicted", repeats=4)
    assert list(facts.tables["repeats"].unit.unique()) == ["0", "1", "2"]


def test_repeats_are_permutations_of_their_own(seed):
    train, net = torch.arange(200.0)[:, None].repeat(1, 2), model(lambda x: x[:, 0] * 1000 + x[:, 1])
    seen = []
    spy = model(lambda x: seen.append(x.clone()) or net(x))
    told("permutation_importance", spy, train, train[:, 0], score="squared_error", repeats=3, chunk=900)
    rows = torch.cat([each for each in seen if len(each) > 1][:-1]).view(-1, 200, 2)  # the last: nothing permuted
    permuted = [
        (number, column)
        for number, each in enumerate(rows)
        for column in (0, 1)
        if not torch.equal(each[:, column], train[:, column])
    ]
    assert [column for _, column in permuted] == [0, 1, 0, 1, 0, 1], "one column at a time, repeat by repeat"
    orders = [rows[number][:, column] for number, column in permuted]
    assert all(torch.equal(order.sort().values, train[:, 0]) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 6


def test_mutual_information_of_a_shifted_normal_is_near_its_integral_and_blind_to_a_product(seed):
    rows, shift = 4000, 1.5
    labels = torch.randint(2, (rows,))
    train = torch.stack([torch.randn(rows) + shift * labels, torch.randn(rows)], 1)
    grid = torch.linspace(-8, 10, 20001, dtype=torch.float64)
    density = [torch.exp(-((grid - at) ** 2) / 2) / (2 * torch.pi) ** 0.5 for at in (0, shift)]
    mixed = (density[0] + density[1]) / 2
    entropy = lambda p: -torch.trapezoid(p * p.clamp_min(1e-300).log(), grid)
    known = float(entropy(mixed) - (entropy(density[0]) + entropy(density[1])) / 2)
    found, facts = told("mutual_information", decided_net(2, 2), train, labels, labels="label")
    assert float(found[0, 0]) == pytest.approx(known, abs=0.04) and found[0, 1] < 0.03
    assert facts.single["explains"] == "data" and facts.single["fitted_on"] == "label"

    product = model(lambda x: torch.stack([x[:, 0] * x[:, 1], -x[:, 0] * x[:, 1], 99 * (x[:, 2] - 0.5)], 1))
    found, facts = told("mutual_information", product, torch.randn(rows, 3))
    assert found[0, :2].max() < 0.04 and found[0, 2] > 0.4 and facts.single["explains"] == "model"


def test_a_class_that_one_column_decides_tells_its_whole_entropy(seed):
    found, _ = told("mutual_information", threshold(1), torch.randn(4000, 3))
    assert float(found[0, 1]) == pytest.approx(np.log(2), abs=0.03) and found[0, [0, 2]].max() < 0.04


def entropy(*shares):
    return -sum(share * np.log(share) for share in shares if share > 0)


def test_the_mutual_information_of_a_column_of_few_values_is_that_of_its_counts(seed):
    """Class 1 where x0 and x1 are 1: H(x0) splits the class; a column that decides nothing has about none."""
    rows = 1200
    values = torch.arange(rows)
    train = torch.stack([values % 2, values // 2 % 3, values // 6 % 2], 1).float() * torch.tensor([1.0, -2.0, 0.3])
    net = model(lambda x: 9 * torch.stack([0.5 - x[:, 0] * (x[:, 1] == -2), x[:, 0] * (x[:, 1] == -2) - 0.5], 1))
    found, _ = told("mutual_information", net, train)
    whole = entropy(1 / 6, 5 / 6)
    assert float(found[0, 0]) == pytest.approx(whole - entropy(1 / 3, 2 / 3) / 2, abs=1e-6)
    assert float(found[0, 1]) == pytest.approx(whole - entropy(1 / 2, 1 / 2) / 3, abs=1e-6)
    assert float(found[0, 2]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kinds", "rows", "counted"), [(2, 9, True), (3, 29, False), (3, 30, True), (21, 900, False)])
def test_a_column_is_a_category_if_its_values_repeat(kinds, rows, counted):
    assert values_repeat(kinds, rows) is counted


def test_rfe_keeps_columns_in_the_order_of_their_weights_whatever_their_units(seed):
    weight, units = torch.tensor([0.5, -4.0, 0.0, 2.0]), torch.tensor([0.01, 100.0, 1.0, 10.0])
    train = torch.randn(3000, 4) * units
    net = model(lambda x: torch.stack([x / units @ weight, -(x / units) @ weight], 1))
    found, facts = told("rfe", net, train)
    assert found[0].tolist() == [1, 3, 0, 2]
    assert facts.single["fidelity"] > 0.97 > 0.6 > facts.single["majority"]
    single = model(lambda x: x / units @ weight)
    found, facts = told("rfe", single, train)
    assert found[0].tolist() == [1, 3, 0, 2] and facts.single["r2"] > 0.999
    raw, _ = told("rfe", single, train, standardise=False)
    assert raw[0].tolist() == [3, 1, 0, 2], "without standardising, small units look important"


def test_a_forest_finds_the_columns_that_decide_and_keeps_a_value_for_every_tree(seed):
    train = torch.randn(600, 4)
    both = model(lambda x: 10 * torch.stack([x[:, 1] * x[:, 3], -x[:, 1] * x[:, 3]], 1))
    found, facts = told("random_forest", both, train, trees=30)
    assert near(found.sum(1), torch.ones(3)) and found[0, [1, 3]].min() > 2 * found[0, [0, 2]].max()
    assert facts.single["fidelity"] > facts.single["majority"] + 0.15
    table = facts.tables["repeats"]
    assert len(table) == 4 * 30
    assert near(torch.tensor(table.groupby("unit").value.mean().to_numpy()), found[0].double(), 1e-5)

    found, facts = told("random_forest", both, train, trees=30, importance="permutation", repeats=4)
    assert found[0, [1, 3]].min() > 0.15 and found[0, [0, 2]].abs().max() < 0.1
    assert len(facts.tables["repeats"]) == 4 * 4


def test_a_forest_on_a_single_output_is_a_regression(seed):
    train = torch.randn(600, 3)
    found, facts = told("random_forest", model(lambda x: 2 * x[:, :1].tanh()), train, trees=30)
    assert found[0, 0] > 0.7 and facts.single["r2"] > 0.9 and "fidelity" not in facts.single


@pytest.mark.parametrize("name", FITTED)
def test_it_speaks_of_the_model_or_of_the_labels_as_asked(name, seed):
    train, net = torch.randn(500, 4), threshold(2)
    labels = (train[:, 0] > 0).long()
    own, facts = told(name, net, train, labels, labels="predicted", **GLOBAL[name])
    assert int(own[0].argmax()) == 2 and facts.single["explains"] == "model"
    other, facts = told(name, net, train, labels, labels="label", **GLOBAL[name])
    if name == "permutation_importance":  # of the model either way: labels that it does not meet leave nothing to lose
        assert facts.single["explains"] == "model" and other[0, 2] < 0.1
    else:
        assert int(other[0].argmax()) == 0 and facts.single["explains"] == "data"


@pytest.mark.parametrize("name", GLOBAL)
def test_it_does_not_depend_on_the_samples_explained_their_batch_or_the_chunk(name, seed):
    net, train, x = decided_net(5), torch.randn(150, 5), torch.randn(7, 5)
    labels, targets = torch.randint(3, (150,)), torch.arange(7) % 3
    options = {**GLOBAL[name]}
    first, _ = told(name, net, train, labels, x=x, targets=targets, **options)
    for chunk, batch in ((1, 7), (200, 2), (4096, 3)):
        again, _ = told(name, net, train, labels, x=x, targets=targets, chunk=chunk, batch=batch, **options)
        assert near(again, first), (chunk, batch)
    others, _ = told(name, net, train, labels, x=torch.randn(2, 5), targets=targets[[2, 4]], **options)
    assert torch.equal(others, first[[2, 4]])
    for target in range(3):
        rows = first[targets == target]
        assert torch.equal(rows, rows[:1].expand_as(rows)), "one answer for a target"
    assert torch.equal(first[0], first[1]) == (name != "linear_surrogate")


@pytest.mark.parametrize("name", GLOBAL)
def test_the_seed_alone_decides_what_is_drawn_and_nothing_else_is_touched(name, seed):
    net, train, labels = decided_net(5), torch.randn(150, 5), torch.randint(3, (150,))
    guard, before = ModelGuard(net), (torch.random.get_rng_state(), np.random.get_state()[1].copy())
    options = GLOBAL[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, again, other = (told(name, net, train, labels, seed=s, **options)[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != EXPLAINERS[name].stochastic
    assert guard.changes() == [] and torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize("name", GLOBAL)
def test_many_rows_are_cut_to_as_many_as_wanted_by_the_seed(name, seed):
    seen = []
    inner = decided_net(4)
    net, train = model(lambda x: seen.append(len(x)) or inner(x)), torch.randn(400, 4)
    labels = torch.randint(3, (400,))
    found, facts = told(name, net, train, labels, rows=50, chunk=1000, **GLOBAL[name])
    assert facts.single["training_rows"] == 50
    assert all(count % 50 == 0 or count <= 3 for count in seen), "the others are not even evaluated"
    rows = drawn_rows(400, 50, 0)
    assert rows.unique().numel() == 50 and not torch.equal(rows, drawn_rows(400, 50, 1))
    assert torch.equal(rows, rows.sort().values)
    same, _ = told(name, net, train[rows], labels[rows], x=train[:3], **GLOBAL[name])
    assert near(same, found)


@pytest.mark.parametrize("name", GLOBAL)
def test_without_what_it_needs_it_does_not_apply_and_says_why(name, seed):
    net, x, targets = decided_net(4), torch.randn(2, 4), torch.tensor([0, 1])
    with pytest.raises(harness.NotApplicable, match="training inputs"):
        harness.explain(name, net, x, targets)
    if name in FITTED:
        with pytest.raises(harness.NotApplicable, match="train_labels"):
            harness.explain(name, net, x, targets, train=torch.randn(20, 4), labels="label")
        with pytest.raises(ValueError, match="labels (of .* )?is 'labels'"):
            harness.explain(name, net, x, targets, train=torch.randn(20, 4), labels="labels")
    with pytest.raises(ValueError, match="rows (of .* )?is 2, expected"):
        harness.explain(name, net, x, targets, train=torch.randn(20, 4), rows=2)
    images = torch.randn(2, 1, 4, 4)
    with pytest.raises(harness.NotApplicable, match="table"):
        harness.explain(name, nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval(), images, targets, train=images)


@pytest.mark.parametrize("name", GLOBAL)
def test_a_model_that_says_the_same_of_every_row_leaves_nothing_to_fit(name, seed):
    constant = model(lambda x: x[:, :2] * 0 + torch.tensor([1.0, 2.0]))
    options = {"labels": "predicted"} if name in FITTED else {}
    reasons = "the same for all|have the same answer|no permutation of any column"
    with pytest.raises(harness.NotApplicable, match=reasons):
        told(name, constant, torch.randn(40, 4), **options)


def test_rows_of_two_classes_that_end_up_on_one_side_of_the_split_leave_nothing_to_fit(seed):
    train = torch.zeros(20, 2)
    _, held = training_table(samples_of(threshold(0), train, torch.zeros(20).long(), train=train), 20).split(0.3)
    train[held[0], 0], train[:, 1] = 1, torch.randn(20)
    for name in ("random_forest", "tree_surrogate", "rule_list"):
        with pytest.raises(harness.NotApplicable, match="all 14 rows to fit on have the same answer"):
            told(name, threshold(0), train - 0.5)


def test_scores_that_do_not_fit_the_kind_of_output_are_refused(seed):
    train = torch.randn(30, 4)
    with pytest.raises(harness.NotApplicable, match="a single output: use score=squared_error"):
        told("permutation_importance", model(lambda x: x[:, 0]), train, train[:, 0], score="accuracy")
    with pytest.raises(harness.NotApplicable, match="several classes"):
        told("permutation_importance", decided_net(4), train, labels="predicted", score="squared_error")
    for name, options, match in (
        ("permutation_importance", {"score": "auc", "labels": "predicted"}, "score (of .* )?is 'auc'"),
        ("random_forest", {"importance": "gini"}, "importance (of .* )?is 'gini'"),
        ("random_forest", {"held_out": 1.0}, "held_out (of .* )?is 1.0"),
        ("rfe", {"penalty": 0.0}, "penalty (of .* )?is 0.0"),
    ):
        with pytest.raises(ValueError, match=match):
            told(name, decided_net(4), train, **options)
    with pytest.raises(ValueError, match="class indices from 0 to 2"):
        told("permutation_importance", decided_net(4), train, torch.full((30,), 3))


def test_rows_too_few_columns_too_few_and_numbers_that_are_none_are_said_in_one_line(seed):
    train, single = torch.randn(30, 4), model(lambda x: x[:, 0])
    with pytest.raises(harness.NotApplicable, match="more training inputs than neighbours=3, there are 3"):
        told("mutual_information", single, train[:3])
    with pytest.raises(harness.NotApplicable, match="at least two columns"):
        told("rfe", threshold(0), train[:, :1])
    for columns in ("all", 0.0, 1.5, 0):
        with pytest.raises(ValueError, match="columns_per_split (of .* )?is .*, expected sqrt"):
            told("random_forest", threshold(0), train, columns_per_split=columns)
    for name in FITTED:
        options = {"score": "squared_error"} if name == "permutation_importance" else {}
        with pytest.raises(ValueError, match="train_labels hold NaN"):
            told(name, single, train, train[:, 0] / 0 * 0, labels="label", **options)
    for name in GLOBAL:
        with pytest.raises(ValueError, match="train hold NaN"):
            told(name, threshold(0), train * torch.nan, x=train)


def test_trees_that_split_nowhere_and_permutations_without_effect_are_not_zeros(seed):
    train, same = torch.randn(40, 3), torch.ones(40, 3)
    with pytest.raises(harness.NotApplicable, match="no split"):
        told("tree_surrogate", threshold(0), train, least=30)
    with pytest.raises(harness.NotApplicable, match="no split"):
        told("random_forest", threshold(0), same, torch.arange(40) % 2, labels="label")
    with pytest.raises(harness.NotApplicable, match="no permutation of any column"):
        told("random_forest", threshold(0), train, held_out=0.001, importance="permutation")


OF_TABLES = [name for name, entry in EXPLAINERS.items() if entry.scope == "global" and "table" in entry.modalities]


@pytest.mark.parametrize("power", [-60, -30, 60])
@pytest.mark.parametrize("name", [name for name in OF_TABLES if name != "tree_shap"])
def test_the_unit_of_a_column_does_not_matter(name, power, seed):
    """A length in metres or in nanometres: scikit-learn's trees take differences of 1e-7 for none."""
    net, train, unit = smooth_net(4), torch.randn(90, 4), torch.tensor([2.0**power, 1, 2.0**power, 1])
    few = {key: value for key, value in {"trees": 5, "repeats": 2}.items() if key in EXPLAINERS[name].options}
    few |= {"standardise": True} if "standardise" in EXPLAINERS[name].options else {}

    def explained(unit):
        facts, scaled = harness.Facts(), model(lambda x: net(x / unit))
        data = harness.Data(train[:3] * unit, torch.tensor([0, 1, 2]), train=train * unit, modality="table")
        labels = {"train_labels": net(train).argmax(1)}
        return harness.explain(name, scaled, data, facts=facts, **few, **labels)

    expected = explained(torch.ones(4))
    per_unit = unit if EXPLAINERS[name].convention == "local" else 1
    torch.testing.assert_close(explained(unit) * per_unit, expected, rtol=1e-3, atol=1e-5)
