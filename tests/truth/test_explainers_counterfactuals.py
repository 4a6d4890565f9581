"""Counterfactuals: the nearest ones of linear models, which columns change, and the set that is chosen."""

import numpy as np
import pytest
import torch
from torch import nn

import harness
from explainer_worlds import model, smooth_net
from harness.api import samples_of
from harness.errors import UserError
from harness.explainers._decisions import background_rows
from harness.explainers._diverse import JITTER, diverse_rows
from harness.explainers._row_changes import RowChanges

NAMES = ("a", "b", "c", "d")
KINDS = (0, 1, 1, 1, 2)  # a number, a category of three, a number of two values
FEW = {"population": 40, "steps": 4}


def explained(net, x, targets, train, names=NAMES, **options):
    """Attributions, and the facts with the table of counterfactuals."""
    facts = harness.Facts()
    more = {key: options.pop(key) for key in ("columns", "task") if key in options}
    data = harness.Data(x, targets, train=train, unit_names=names, **more)
    return harness.explain("counterfactuals", net, data, facts=facts, **{**FEW, **options}), facts


def linear(weight):
    """Two classes with the logits 0 and w x."""
    net = nn.Linear(len(weight), 2, bias=False).eval()
    with torch.no_grad():
        net.weight.copy_(torch.stack([torch.zeros(len(weight)), torch.tensor(weight)]))
    return net


def rows_of(table, names):
    return torch.tensor(table[[f"value of {name}" for name in names]].to_numpy(), dtype=torch.float32)


def test_the_nearest_of_a_linear_model_changes_the_column_of_the_largest_weight_times_spread_as_far_as_needed(seed):
    scale = torch.tensor([1.0, 50.0, 0.1, 1.0])
    train, net = torch.randn(500, 4) * scale, linear([1.0, -0.01, 25.0, 0.0])  # w times spread: 1, -0.5, 2.5, 0
    x = torch.randn(6, 4) * scale
    x[:, 2] /= 4  # so that the margin is one that the third column can make up for
    targets = net(x).argmax(1)
    found, facts = explained(net, x, targets, train, task="classes")
    table = facts.tables["counterfactuals"]
    nearest = table.loc[table.groupby("sample").distance.idxmin()]
    assert nearest.changed.tolist() == ["c"] * 6
    needed = (x @ net.weight[1] / 25).detach()
    moved = x[:, 2] - rows_of(nearest, NAMES)[:, 2]
    assert torch.allclose(moved, needed, rtol=0, atol=0.6 * 2**-12 * 10) and (moved.abs() >= needed.abs()).all()
    assert (found.argmax(1) == 2).sum() >= 5 and not found[:, 3].any()


def test_all_rows_that_are_told_have_another_class_and_are_different(seed):
    net, x, train = smooth_net(4), torch.randn(5, 4), torch.randn(200, 4)
    likely = net(x).argsort(1, descending=True)
    for place, decision in ((0, "not class"), (1, "class")):
        _, facts = explained(net, x, likely[:, place], train)
        table = facts.tables["counterfactuals"]
        rows, targets = rows_of(table, NAMES), likely[table["sample"].to_numpy().copy(), place]
        assert ((net(rows).argmax(1) == targets) == (place == 1)).all()
        assert table.decision.tolist() == [f"{decision} {target}" for target in targets.tolist()]
        assert not table.duplicated([f"value of {name}" for name in NAMES] + ["sample"]).any()
        assert len(table) == 50 and (facts.summary()["validity"]["min"] == 1)


def test_the_map_is_the_share_of_rows_in_which_a_column_changes_and_ties_go_to_the_larger_change(seed):
    net, x, train = smooth_net(4, 2), torch.randn(4, 4), torch.randn(200, 4)
    targets = net(x).argmax(1)
    found, facts = explained(net, x, targets, train)
    table = facts.tables["counterfactuals"]
    spread = np.median(np.abs(train.double().numpy() - np.median(train.double().numpy(), 0)), 0)
    for sample, lines in table.groupby("sample"):
        changes = (rows_of(lines, NAMES) - x[sample]).abs().double().numpy() / spread
        share, mean = (changes > 0).mean(0), changes.mean(0)
        assert found[sample].tolist() == pytest.approx(share + mean / (1 + mean) / (2 * len(lines)), abs=1e-5)
        assert lines.distance.tolist() == pytest.approx(changes.mean(1), rel=1e-4)
        for changed, line in zip(changes, lines.itertuples(), strict=True):
            assert line.changed == ", ".join(name for name, each in zip(NAMES, changed, strict=True) if each)
    opposite, _ = explained(net, x, 1 - targets, train)
    assert torch.equal(opposite, -found)


def test_no_counterfactual_needs_to_be_as_far_or_to_change_as_many_columns(seed):
    net, x, train = linear([1.0, -0.5, 0.8, 0.3]), torch.randn(4, 4), torch.randn(200, 4)
    _, facts = explained(net, x, net(x).argmax(1), train, task="classes")
    table = facts.tables["counterfactuals"]
    rows, own = rows_of(table, NAMES), x[table["sample"].to_numpy().copy()]
    assert (net(torch.lerp(own, rows, 0.9)).argmax(1) == net(own).argmax(1)).all()
    for column in range(4):
        without = rows.clone()
        without[:, column] = own[:, column]
        changed = rows[:, column] != own[:, column]
        helps = (net.weight[1, column] * (rows - own)[:, column]).sign() == -(own @ net.weight[1]).sign()
        assert (net(without).argmax(1) == net(own).argmax(1))[changed].all() and helps[changed].any()


def people(count):
    kind = nn.functional.one_hot(torch.randint(3, (count,)), 3).float()
    return torch.cat([torch.randn(count, 1), kind, torch.randint(2, (count, 1)).float()], 1)


def test_categories_and_numbers_of_two_values_have_values_of_the_data_and_fixed_columns_their_own(seed):
    train, x = people(300), people(6)
    x[:, 0].clamp_(-0.6, 0.6)  # so that another kind alone can always change the class
    net = linear([1.0, 1.5, 0.0, -1.5, 0.8])
    for fixed in ("", "kind", "age, flag"):
        _, facts = explained(
            net, x, net(x).argmax(1), train, ("age", "kind", "flag"), columns=KINDS, task="classes", fixed=fixed
        )
        table = facts.tables["counterfactuals"]
        rows = rows_of(table, ("age", "kind[0]", "kind[1]", "kind[2]", "flag"))
        own = x[table["sample"].to_numpy().copy()]
        assert (rows[:, 1:4].sum(1) == 1).all() and set(rows[:, 1:].unique().tolist()) == {0, 1}
        assert (net(rows).argmax(1) != net(own).argmax(1)).all()
        changed = set(", ".join(table.changed).split(", "))
        assert changed == {"age", "kind", "flag"} - {name.strip() for name in fixed.split(",")}


def test_distances_are_in_median_deviations_or_else_standard_ones_and_a_category_counts_once():
    train = people(100)
    train[:, 4] = (torch.arange(100) < 10).float()  # so few that the median deviation is 0
    changes = RowChanges(
        background_rows(samples_of(linear([1.0] * 5), train[:2], torch.tensor([0, 0]), train=train, columns=KINDS), 100)
    )
    first, second = torch.tensor([[0, 1.0, 0, 0, 1]]), torch.tensor([[2.0, 0, 1, 0, 0]])
    values = train[:, 0].double().numpy()
    expected = [2 / np.median(np.abs(values - np.median(values))), 1, 1 / 0.3]
    assert changes.column_distances(first, second)[0].tolist() == pytest.approx(expected)
    assert changes.column_distances(first, first).sum() == 0
    assert changes.continuous.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("diversity", [0.0, 1.0, 30.0])
def test_rows_are_chosen_one_after_the_other_by_the_determinant_and_the_distance(diversity, seed):
    train = torch.randn(200, 3)
    changes = RowChanges(background_rows(samples_of(smooth_net(3), train[:1], torch.tensor([0]), train=train), 200))
    pool, near, usable = train[None, 1:31], torch.rand(1, 30, dtype=torch.float64), torch.rand(1, 30) < 0.8
    places, there = diverse_rows(changes, pool, usable, near, 5, 0.5, diversity)

    def worth(chosen):
        rows = pool[0, chosen]
        apart = changes.column_distances(rows[:, None], rows[None]).sum(-1)
        likeness = 1 / (1 + apart) + JITTER * torch.eye(len(chosen))
        return float(diversity * torch.linalg.det(likeness) - 0.5 / 5 * near[0, chosen].sum())

    chosen = []
    for _ in range(5):
        left = [each for each in range(30) if usable[0, each] and each not in chosen]
        chosen.append(max(left, key=lambda each: worth([*chosen, each])))
    assert places[0].tolist() == chosen and there.all()
    if not diversity:
        assert near[0, chosen].tolist() == sorted(near[0, usable[0]].tolist())[:5]


def test_a_set_has_no_row_twice_and_no_more_than_there_are():
    train = torch.randn(50, 2)
    changes = RowChanges(background_rows(samples_of(smooth_net(2), train[:1], torch.tensor([0]), train=train), 50))
    pool = train[None, [0, 0, 1, 2]]
    usable = torch.tensor([[True, True, True, False]])
    places, there = diverse_rows(changes, pool, usable, torch.zeros(1, 4, dtype=torch.float64), 4, 0.5, 1.0)
    assert there.tolist() == [[True, True, False, False]] and {*places[0, :2].tolist()} == {0, 2}


def test_a_sample_without_any_has_no_attribution_and_the_others_have_theirs(seed):
    three = model(lambda x: torch.stack([x[:, 0], -x[:, 0], -9 - x[:, 0] ** 2], 1))  # class 2 is nowhere predicted
    x, train = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), torch.randn(100, 2)
    targets = torch.tensor([0, 2, 1])
    with pytest.raises(harness.NotApplicable, match="no row of another decision was found for sample 1"):
        explained(three, x, targets, train, ("a", "b"))
    with pytest.raises(harness.NotApplicable, match="was found for sample 0"):
        explained(three, x[:1], targets[1:2], train, ("a", "b"))
    frame = harness.evaluate(
        three, harness.Data(x, targets, train=train), explainers={"counterfactuals": FEW}, metrics="sparseness"
    )
    assert frame.value.isna().tolist() == [False, True, False] and set(frame.status) == {"ok"}
    assert "1 of 3 attributions hold NaN" in frame["flags"][0] and "no row of another decision" in frame["flags"][0]
    alone = harness.evaluate(
        three, harness.Data(x[:1], targets[1:2], train=train), explainers={"counterfactuals": FEW}, metrics="sparseness"
    )
    assert set(alone.status) == {"not_applicable"} and "no row of another decision" in alone.error[0]


def test_rows_of_all_batches_are_told_under_the_names_of_their_samples(seed):
    x, train = torch.randn(4, 4), torch.randn(60, 4)
    ids = [f"person {number}" for number in range(4)]
    frame = harness.evaluate(
        smooth_net(4, 2),
        harness.Data(x, torch.arange(4) % 2, train=train, ids=ids),
        explainers={"counterfactuals": FEW, "anchors": {"samples": 100, "conditions": 1}},
        metrics="sparseness",
        explain_batch=3,
    )
    tables = {name: audit["tables"] for name, audit in frame.attrs["audit"].items()}
    assert tables["anchors"]["rules"]["sample"] == ids
    assert list(dict.fromkeys(tables["counterfactuals"]["counterfactuals"]["sample"])) == ids


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"alternatives": 0}, "alternatives (of .* )?is 0"),
        ({"proximity": -1.0}, "proximity (of .* )?is -1.0"),
        ({"population": 1}, "population (of .* )?is 1"),
        ({"fixed": "a,e"}, "unknown column in fixed 'e': available: a, b, c, d"),
        ({"fixed": "a,b,c,d"}, "expected at least one column that may change"),
    ],
)
def test_mistakes_are_told_in_a_line(options, line, seed):
    with pytest.raises(UserError, match=line):
        explained(smooth_net(4), torch.randn(2, 4), torch.tensor([0, 1]), torch.randn(20, 4), **options)


def test_a_number_has_no_counterfactual_and_without_training_inputs_there_is_none(seed):
    x, train = torch.randn(2, 4), torch.randn(20, 4)
    with pytest.raises(harness.NotApplicable, match="the model's output is a number"):
        explained(smooth_net(4, 1), x, None, train, task="regression")
    with pytest.raises(harness.NotApplicable, match="give train="):
        explained(smooth_net(4), x, torch.tensor([0, 1]), None)
