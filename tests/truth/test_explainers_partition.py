"""Owen values: the mean gains over all orders in which no branch of the tree is interrupted."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import harness
from explainer_worlds import explain, near, smooth_net
from harness.explainers._hierarchy import _halved, _joined

TARGETS = torch.tensor([0, 1, 2])


def orders_of(tree, node=0):
    """All orders of the segments below a node that keep the segments of each branch together."""
    if tree.is_leaf(node):
        return [(int(tree.members[node].argmax()),)]
    one, other = (orders_of(tree, child) for child in tree.children[node])
    return [each for a, b in itertools.product(one, other) for each in (a + b, b + a)]


def by_hand(tree, net, x, removed, target):
    orders, values = orders_of(tree), torch.zeros(len(x), dtype=torch.float64)
    assert len(orders) == 2 ** (len(x) - 1)
    for order in orders:
        present = torch.zeros(len(x) + 1, len(x), dtype=torch.bool)
        for place, segment in enumerate(order):
            present[place + 1 :, segment] = True
        worth = net(torch.where(present, x, removed))[:, target].double().detach()
        values[list(order)] += worth.diff()
    return values / len(orders)


@pytest.mark.parametrize("modality", ["table", "series"])
def test_they_are_mean_gains_over_the_orders_that_keep_branches_together(modality, seed):
    net, x, removed, train = smooth_net(6), torch.randn(3, 6), torch.randn(6), torch.randn(20, 6)
    train[:, 4] = train[:, 1] + 0.01 * torch.randn(20)  # columns 1 and 4 are a branch
    if modality == "table":
        correlation = np.abs(np.corrcoef(train.double().numpy(), rowvar=False))
        from scipy.cluster.hierarchy import linkage

        tree = _joined(linkage((1 - correlation)[np.triu_indices(6, 1)], "single"), 6)
        assert [1, 4] in [np.flatnonzero(each).tolist() for each in tree.members]
        found = harness.explain("partition_shap", net, x, TARGETS, baseline=removed, train=train)
    else:
        tree, flat = _halved(np.arange(6)[:, None]), nn.Sequential(nn.Flatten(), net).eval()
        steps = harness.Data(x[:, None], TARGETS, modality="series")
        found = harness.explain("partition_shap", flat, steps, baseline=removed[None])[:, 0]
    expected = torch.stack([by_hand(tree, net, *each) for each in zip(x, [removed] * 3, TARGETS, strict=True)])
    assert near(found, expected)
    exact = harness.explain("exact_shapley", net, x, TARGETS, baseline=removed)
    assert not near(found, exact, 1e-2), "the world has interactions between branches"


@pytest.mark.parametrize(("shape", "halves"), [((4, 8), [(4, 4), (2, 4)]), ((6, 2), [(3, 2), (2, 2)])])
def test_an_image_is_halved_across_its_longer_side(shape, halves):
    tree = _halved(np.array(list(np.ndindex(*shape)), dtype=float))
    node = 0
    for half in halves:
        node = tree.children[node, 0]
        rows, columns = np.nonzero(tree.members[node].reshape(shape))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == half and len(rows) == half[0] * half[1]


@pytest.mark.parametrize("budget", [2, 3, 8, 40])
def test_a_small_budget_is_kept_and_loses_nothing_of_the_sum(budget, seed):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    x, calls = torch.rand(3, 1, 8, 8), []
    net.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    found = explain("partition_shap", net, x, TARGETS, samples=budget)
    assert 3 * (budget - 1) <= sum(calls) <= 3 * (budget + 3)  # those of the input and of the checks come on top
    change = (net(x) - net(torch.zeros_like(x)))[range(3), TARGETS].detach()
    assert near(found.flatten(1).sum(1), change)
    assert (budget < 3) == bool((found == found[:, :, :1, :1]).all()), "without a split all units are alike"


def test_what_is_left_whole_is_split_the_more_the_larger_its_gain(seed):
    """Half of an image is ignored by the model: the budget is enough for the other half alone."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        net[1].weight.view(3, 4, 4)[:, :, 2:] = 0
    x = torch.rand(3, 1, 4, 4) + 0.5
    found = explain("partition_shap", net, x, TARGETS, samples=120)
    expected = (net[1].weight[TARGETS].view(3, 1, 4, 4) * x).detach()
    assert near(found, expected, 1e-5)


def test_a_table_without_training_inputs_has_no_tree():
    with pytest.raises(harness.NotApplicable, match="give train="):
        harness.explain("partition_shap", smooth_net(4), torch.rand(3, 4), TARGETS)
