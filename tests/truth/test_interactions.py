"""Interactions of pairs: their definitions by brute force, functions whose interactions are known, and row sums."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from explainer_worlds import explain, model, near, smooth_net
from harness.api import samples_of
from harness.engine.interactions import names_of_segments
from harness.explainers.integrated_hessians import quadrature_of_products
from harness.explainers.shapley import all_coalitions, efficient_regression, kernel_coalitions, values_from_worths
from harness.explainers.shapley_interactions import interactions_from_gains, interactions_from_worths, matrices_of
from harness.registry import EXPLAINERS

PAIRS = [name for name, entry in EXPLAINERS.items() if entry.pairs]
TARGETS = torch.tensor([0, 1, 2])


def matrices(name, net, x, targets=None, **options):
    """The matrices (N, K, K) of what becomes 0."""
    targets = torch.zeros(len(x), dtype=torch.long) if targets is None else targets
    data = harness.Data(x, targets, task="regression")
    return harness.interactions(net, data, explainer=name, **{"baseline": "zero", **options}).values


def apart(found):
    """The entries (N, pairs) of pairs."""
    one, other = torch.triu_indices(found.shape[1], found.shape[1], 1)
    return found[:, one, other]


def by_hand(players, worth):
    """Of each pair the mean of the change that the second brings to the gain of the first, over all orders in which the
    two come together, as one."""
    found = torch.zeros(players, players, dtype=torch.float64)
    for one, other in itertools.combinations(range(players), 2):
        rest = [each for each in range(players) if each not in (one, other)]
        changes = []
        for order in itertools.permutations([*rest, "both"]):
            before = frozenset(order[: order.index("both")])
            added = [worth[before | set(more)] for more in ((one, other), (one,), (other,), ())]
            changes.append(added[0] - added[1] - added[2] + added[3])
        found[one, other] = found[other, one] = sum(changes) / len(changes)
    return found


def random_game(players):
    """All coalitions, their worths (3, 2^K), the Shapley values and the interactions (3, pairs)."""
    coalitions, worth = all_coalitions(players), torch.randn(3, 2**players, dtype=torch.float64)
    return coalitions, worth, values_from_worths(coalitions, worth), interactions_from_worths(coalitions, worth)


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_shapley_interactions_are_mean_changes_of_gains_over_all_orders(players, seed):
    coalitions, worth, values, interactions = random_game(players)
    members = [frozenset(row.nonzero()[:, 0].tolist()) for row in coalitions]
    found = matrices_of(values, interactions)
    for own, row in zip(found, worth, strict=True):
        expected = by_hand(players, dict(zip(members, row.tolist(), strict=True)))
        assert near(own - own.diag().diag(), expected / 2, 1e-12)
    assert near(found.sum(2), values, 1e-12) and torch.equal(found, found.mT)


@pytest.mark.parametrize("players", [4, 5, 7, 9])
def test_least_squares_over_all_coalitions_give_the_interactions_of_random_games(players, seed):
    coalitions, worth, values, expected = random_game(players)
    net = smooth_net(players)
    masks, weights = kernel_coalitions(samples_of(net, torch.randn(3, players), TARGETS), players, 2**players - 2)
    number = (masks.long() << torch.arange(players)).sum(-1)
    gains, total = worth.gather(1, number) - worth[:, :1], worth[:, -1] - worth[:, 0]
    assert near(efficient_regression(masks, weights, gains, total), values, 1e-8)
    last = lambda player: worth[:, -1] - worth[:, 2**players - 1 - 2**player]
    first = lambda player: worth[:, 2**player] - worth[:, 0]
    sums = torch.stack([last(player) - first(player) for player in range(players)], 1)
    assert near(sums, 2 * (values - matrices_of(values, expected).diagonal(dim1=1, dim2=2)), 1e-8)
    found = [interactions_from_gains(masks[0], weights, *each) for each in zip(gains, values, sums, strict=True)]
    assert near(torch.stack(found), expected, 1e-8)


def test_of_a_product_half_of_the_interaction_is_in_either_entry_and_a_sum_has_none(seed):
    """f(x) = x1 x2 + 3 x3: Integrated Hessians leave half of a product in the main effects, Shapley values nothing."""
    x = torch.randn(4, 3)
    product, line = x[:, 0] * x[:, 1], 3 * x[:, 2]
    for name, shared in (("shapley_interactions", 0.5), ("integrated_hessians", 0.25)):
        expected = torch.diag_embed(torch.stack([(0.5 - shared) * product] * 2 + [line], 1))
        expected[:, 0, 1] = expected[:, 1, 0] = shared * product
        assert near(matrices(name, model(lambda x: x[:, :1] * x[:, 1:2] + 3 * x[:, 2:]), x), expected)
        added = matrices(name, model(lambda x: (x.sin() + x**3).sum(1, keepdim=True)), x)
        assert near(added, torch.diag_embed(x.sin() + x**3), 1e-4) and apart(added).abs().max() < 1e-6 * added.max()


@pytest.mark.parametrize(("name", "of"), [("shapley_interactions", "exact_shapley"), ("integrated_hessians", None)])
def test_rows_sum_to_the_values_of_single_units(name, of, seed):
    net, x, r = smooth_net(6), torch.randn(3, 6), torch.randn(6)
    found = harness.interactions(net, x, TARGETS, explainer=name, baseline=r).values
    expected = harness.explain(of or "integrated_gradients", net, x, TARGETS, baseline=r)
    assert near(found.sum(2), expected) and near(explain(name, net, x, TARGETS, baseline=r), expected)
    change = net(x).detach()[range(3), TARGETS] - net(r[None]).detach()[0, TARGETS]
    assert near(found.sum((1, 2)), change, 1e-4) and torch.equal(found, found.mT)
    assert apart(found).abs().max() > 0.05 * found.abs().max(), "the world has interactions"


@pytest.mark.parametrize("samples", [240, 600])
def test_drawn_coalitions_find_the_products_of_a_quadratic_exactly(samples, seed):
    """Of 15 columns; the interactions of a sum of products are the products."""
    weights = torch.randn(15, 15, dtype=torch.float64).triu()
    x, net = torch.rand(3, 15).double() + 0.5, model(lambda x: (x @ weights * x).sum(1, keepdim=True))
    found = matrices("shapley_interactions", net, x, samples=samples)
    products = weights * x[:, :, None] * x[:, None]
    expected = (products.triu(1) + products.triu(1).mT) / 2 + torch.diag_embed(products.diagonal(dim1=1, dim2=2))
    assert near(found, expected)


def test_drawn_coalitions_give_the_values_of_kernel_shap_exact_sums_and_come_nearer_with_their_number(seed):
    net, x = model(lambda x: (1 + x).prod(1, keepdim=True)), torch.rand(3, 10) * 0.7
    exact, errors = matrices("shapley_interactions", net, x), []
    for samples in (100, 400, 1000):
        found = matrices("shapley_interactions", net, x, samples=samples)
        options = {"baseline": "zero", "samples": samples, "estimator": "least_squares"}
        kernel = harness.explain("kernel_shap", net, x, 0 * TARGETS, **options)
        assert near(found.sum(2), kernel)
        off = [each.sum(2) - each.diagonal(dim1=1, dim2=2) for each in (found, exact)]
        assert near(*off, 1e-5), "the sum of a unit's interactions"
        errors.append(float((apart(found) - apart(exact)).abs().mean()))
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.5 * errors[2] > 0


def test_too_few_coalitions_are_told_and_unsettled_ones_too(seed):
    net, x = smooth_net(9), torch.randn(3, 9)
    with pytest.warns(UserWarning, match="samples=20 hardly determine the interactions of 9 segments, more than 72 do"):
        found = harness.interactions(net, x, TARGETS, samples=20, baseline="zero")
    assert found.facts["convergence"]["mean"] < 0.9 and found.facts["share_of_coalitions"]["max"] < 1
    with pytest.warns(UserWarning, match="interactions under two seeds correlate by .*: not converged"):
        harness.interactions(net, x, TARGETS, samples=20, baseline="zero")
    exact = harness.interactions(net, x, TARGETS, baseline="zero")
    assert "convergence" not in exact.facts and exact.facts["share_of_coalitions"]["min"] == 1
    with pytest.raises(harness.NotApplicable, match=r"65 segments have more pairs than those of 64 \(give segments=\)"):
        harness.interactions(smooth_net(65), torch.randn(1, 65), torch.tensor([0]), baseline="zero")


def test_one_integral_replaces_two():
    """The mean of g(a b) over two uniform numbers."""
    for degree in range(5):
        places, weights = quadrature_of_products(12)
        assert math.isclose((weights * places**degree).sum(), 1 / (degree + 1) ** 2, rel_tol=2e-6)
    square = (np.arange(400) + 0.5) / 400
    twice = np.tanh(3 * square[:, None] * square).mean()
    assert math.isclose((weights * np.tanh(3 * places)).sum(), twice, rel_tol=1e-5)


def slow_hessians(net, x, r, target, nodes=10):
    """The paper's formula with a double integral, for one sample (D,)."""
    u, weights = np.polynomial.legendre.leggauss(nodes)
    u, weights = (1 + u) / 2, weights / 2
    output, answer = lambda point: net(point[None])[0, target], torch.zeros(len(x), len(x), dtype=torch.float64)
    for (a, wa), (b, wb) in itertools.product(zip(u, weights, strict=True), repeat=2):
        point = r + a * b * (x - r)
        second = torch.autograd.functional.hessian(output, point)
        first = torch.autograd.functional.jacobian(output, point)
        answer += wa * wb * ((x - r)[:, None] * (x - r) * a * b * second + torch.diag((x - r) * first))
    return answer


def test_integrated_hessians_are_the_double_integral_of_the_paper(seed):
    net, x, r = smooth_net(4, dtype=torch.float64), torch.randn(2, 4).double(), torch.randn(4).double()
    found = harness.interactions(net, x, TARGETS[:2], explainer="integrated_hessians", baseline=r).values
    expected = torch.stack([slow_hessians(net, *each) for each in zip(x, [r, r], TARGETS.tolist(), strict=False)])
    assert near(found, expected, 1e-5)


def test_the_numbers_of_a_segment_are_added_up(seed):
    net, x = smooth_net(6), torch.randn(3, 6)
    whole = matrices("integrated_hessians", net, x, TARGETS)
    pairs = matrices("integrated_hessians", net, x, TARGETS, segments=torch.arange(6) // 2)
    assert near(pairs, whole.view(3, 3, 2, 3, 2).sum((2, 4)))
    tokens = harness.Data(x.view(3, 3, 2), TARGETS, modality="tokens")
    flat = nn.Sequential(nn.Flatten(), net).eval()
    found = harness.interactions(flat, tokens, explainer="integrated_hessians")
    assert near(found.values, pairs) and found.units[0] == ("token 0", "token 1", "token 2")


RELUS = {
    "a module": nn.ReLU(),
    "a function": F.relu,
    "in place": lambda z: z.clone().relu_(),
    "a clamp": lambda z: z.clamp(min=0),
    "a maximum": lambda z: torch.maximum(z, torch.zeros(())),
}


@pytest.mark.parametrize("relu", RELUS)
def test_with_beta_relus_are_softplus_functions_however_they_are_spelled(relu, seed):
    enter, out, x = nn.Linear(5, 12), nn.Linear(12, 3), torch.randn(3, 5)
    net = model(lambda x: out(RELUS[relu](enter(x))))
    smooth = model(lambda x: out(F.softplus(enter(x), 4.0)))
    found = matrices("integrated_hessians", net, x, TARGETS, beta=4.0)
    assert near(found, matrices("integrated_hessians", smooth, x, TARGETS))
    with pytest.raises(harness.NotApplicable, match=r"ReLUs .* have no second derivatives; softplus has \(give beta="):
        matrices("integrated_hessians", net, x, TARGETS)


def test_a_capped_relu_is_a_difference_of_two_and_the_nearer_beta_comes_the_nearer_the_sum(seed):
    enter, out, x = nn.Linear(5, 12), nn.Linear(12, 3), 3 * torch.randn(3, 5)
    net, change = model(lambda x: out(F.relu6(4 * enter(x)))), lambda net: (net(x) - net(0 * x))[range(3), TARGETS]
    errors = []
    for beta in (2.0, 20.0):
        smooth = model(lambda x, b=beta: out(F.softplus(4 * enter(x), b) - F.softplus(4 * enter(x) - 6, b)))
        found = matrices("integrated_hessians", net, x, TARGETS, beta=beta, steps=400)
        assert near(found.sum((1, 2)), change(smooth).detach(), 1e-3)
        errors.append((found.sum((1, 2)) - change(net).detach()).abs().mean())
    assert errors[1] < errors[0] / 3


def test_a_sum_that_misses_what_it_should_be_is_told(seed):
    """Of a maximum the bend is missed, which no option mends."""
    x = torch.tensor([[1.0, 2.0, 1.0]] * 3)
    bent = model(lambda x: torch.maximum(x[:, :1] - 0.5, x[:, 1:2] * 0.2) + x[:, 2:])
    with pytest.warns(UserWarning, match="integrated_hessians: the sum of the attributions differs"):
        matrices("integrated_hessians", bent, x)


def ctc(x):
    """The loss of the label 1 in one step."""
    ones = torch.ones(len(x), dtype=torch.long)
    return F.ctc_loss(x.log_softmax(-1)[None], ones[:, None], ones, ones, reduction="none")[:, None]


NO_SECOND = {"no second derivatives: .*_ctc_loss": ctc, "leaky_relu has no second derivatives": F.leaky_relu}


@pytest.mark.parametrize("words", NO_SECOND)
def test_what_has_no_second_derivative_is_refused(words):
    net = model(lambda x: NO_SECOND[words](x).sum(1, keepdim=True))
    with pytest.raises(harness.NotApplicable, match=words):
        matrices("integrated_hessians", net, torch.rand(2, 3), beta=10.0)


@pytest.mark.parametrize("name", PAIRS)
def test_samples_of_different_numbers_of_segments_have_their_own(name, seed):
    net, x = nn.Sequential(nn.Flatten(), smooth_net(16)).eval(), torch.randn(3, 1, 4, 4)
    given = torch.stack([torch.arange(16).view(4, 4) % count for count in (3, 1, 4)])
    found = harness.interactions(net, x, TARGETS, explainer=name, segments=given, baseline="zero")
    assert [len(units) for units in found.units] == [3, 1, 4] and found.values.shape == (3, 4, 4)
    for row, count in enumerate((3, 1, 4)):
        alone = harness.interactions(
            net, x[[row]], TARGETS[[row]], explainer=name, segments=given[[row]], baseline="zero"
        )
        assert near(found.values[row, :count, :count], alone.values[0])
        assert found.values[row, count:].isnan().all() and found.values[row, :, count:].isnan().all()
    assert found.strongest(1) == [] and "no pairs" in str(found) and len(found.frame()) == 9 + 1 + 16


def test_one_unit_has_no_pairs_and_no_seeds_that_could_differ(seed):
    net, x = nn.Sequential(nn.Flatten(), smooth_net(16)).eval(), torch.randn(2, 1, 4, 4)
    given = torch.stack([torch.arange(16).view(4, 4), torch.zeros(4, 4, dtype=torch.long)])
    found = harness.interactions(net, x, TARGETS[:2], segments=given, samples=300, baseline="zero")
    assert found.facts["convergence"]["samples"] == 1 and found.units[1] == ("centre",)
    still = model(lambda x: 0 * x.flatten(1)[:, :3])
    assert "convergence" not in harness.interactions(still, x, TARGETS[:2], samples=300, baseline="zero").facts


def test_the_strongest_pair_is_named_first_with_both_of_its_entries():
    net, x = model(lambda x: x[:, :1] * x[:, 1:2] - 4 * x[:, 1:2] * x[:, 2:]), torch.ones(7, 3)
    data = harness.Data(x, task="regression", unit_names=("age", "sex", "income"), ids=[f"row {i}" for i in range(7)])
    found = harness.interactions(net, data, baseline="zero")
    assert [(*pair[:2], round(pair[2], 4)) for pair in found.strongest(2, 2)] == [
        ("sex", "income", -4.0),
        ("age", "sex", 1.0),
    ]
    lines = str(found).splitlines()
    assert lines[0] == "shapley_interactions: interactions of 3 units, 7 samples"
    assert lines[1] == "  row 0: sex × income -4.00; age × sex +1.00; age × income 0" and lines[-1] == "and 2 more"
    told = found.frame().set_index(["sample", "unit", "other"])["value"]
    assert math.isclose(told["row 3", "income", "sex"], -2, rel_tol=1e-5)
    with pytest.raises(ValueError, match="lime has no interactions of pairs, expected integrated_hessians or shapley"):
        harness.interactions(net, data, explainer="lime", baseline="zero")


def test_units_have_names_that_differ():
    quarters = np.arange(16).reshape(4, 4) // 8 * 2 + np.arange(16).reshape(4, 4) % 4 // 2
    assert names_of_segments(quarters, None, "image") == ("upper left", "upper right", "lower left", "lower right")
    assert names_of_segments(np.array([0, 0, 1, 2]), None, "series") == ("steps 0 to 1", "step 2", "step 3")
    words = ["not", "good", ",", "not"]
    assert names_of_segments(np.arange(4), words, "tokens") == ("not", "good", ",", "not (2)")
    assert names_of_segments(np.array([0, 0, 1, 1]), words, "tokens") == ("not good", ", not")
    assert names_of_segments(np.array([0, 1, 0]), ["a", "b", "c"], "table") == ("a + c", "b")


@pytest.mark.parametrize("beta", [0, -1.0, float("inf"), float("nan"), True, "x"])
def test_a_beta_that_is_no_positive_number_is_refused_in_a_line(beta):
    net, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval(), torch.ones(1, 3)
    with pytest.raises(harness.errors.UserError, match="expected a number from 0.001 to 1,000,000, or none"):
        harness.interactions(net, x, torch.tensor([0]), explainer="integrated_hessians", beta=beta)
