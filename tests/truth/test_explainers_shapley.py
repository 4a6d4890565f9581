"""Shapley values: their axioms, and the estimators that must agree with them."""

import itertools
import math

import pytest
import torch

import harness
from explainer_worlds import explain, linear_net, model, near, smooth_net
from harness.api import samples_of
from harness.explainers.shapley import all_coalitions, efficient_regression, kernel_coalitions, values_from_worths

ESTIMATORS = [
    ("exact_shapley", {}),
    ("kernel_shap", {}),
    ("kernel_shap", {"samples": 30}),
    ("shapley_sampling", {"permutations": 4}),
]


def by_hand(players, worth):
    """The mean gain of each player over all orders; ``worth`` maps frozensets to numbers."""
    values = [0.0] * players
    for order in itertools.permutations(range(players)):
        for at, player in enumerate(order):
            values[player] += worth[frozenset(order[: at + 1])] - worth[frozenset(order[:at])]
    return torch.tensor(values, dtype=torch.float64) / math.factorial(players)


def players_of(row):
    return frozenset(row.nonzero()[:, 0].tolist())


def many(seed_count, players):
    """Samples of a table, for what draws from their randomness."""
    net, _ = linear_net((players,))
    return samples_of(net, torch.randn(seed_count, players), torch.zeros(seed_count, dtype=torch.long))


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_exact_values_are_mean_gains_over_all_orders(players, seed):
    coalitions = all_coalitions(players)
    worth = torch.randn(1, 2**players, dtype=torch.float64)
    game = {players_of(row): float(worth[0, at]) for at, row in enumerate(coalitions)}
    assert near(values_from_worths(coalitions, worth)[0], by_hand(players, game), 1e-12)


@pytest.mark.parametrize("players", [2, 3, 6, 9])
def test_kernel_shap_over_all_coalitions_is_exact_for_random_games(players, seed):
    masks, weights = kernel_coalitions(many(3, players), players, 2**players - 2)
    everyone = all_coalitions(players)
    assert sorted(map(players_of, masks[0]), key=sorted) == sorted(map(players_of, everyone[1:-1]), key=sorted)
    sizes = masks[0].sum(1).tolist()
    kernel = torch.tensor([(players - 1) / (math.comb(players, s) * s * (players - s)) for s in sizes]).double()
    assert near(weights / weights.sum(), kernel / kernel.sum(), 1e-6)

    worth = torch.randn(3, 2**players, dtype=torch.float64)
    number = (masks.long() << torch.arange(players)).sum(-1)
    gains, total = worth.gather(1, number) - worth[:, :1], worth[:, -1] - worth[:, 0]
    assert near(efficient_regression(masks, weights, gains, total), values_from_worths(everyone, worth), 1e-8)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_the_estimators_meet_the_exact_values_of_a_net_when_they_see_every_coalition(width, seed):
    net, x, targets = smooth_net(width), torch.randn(5, width), torch.tensor([0, 1, 2, 0, 1])
    exact = explain("exact_shapley", net, x, targets)
    assert near(explain("kernel_shap", net, x, targets, samples=2**8), exact)


def test_a_budget_below_all_coalitions_is_close_but_not_exact(seed):
    net, x, targets = model(lambda inputs: inputs.prod(1)), torch.rand(4, 9) + 0.5, torch.zeros(4, dtype=torch.long)
    exact = explain("exact_shapley", net, x, targets)
    errors = [(explain("kernel_shap", net, x, targets, samples=s) - exact).abs().max() for s in (40, 400, 510)]
    assert errors[0] > errors[1] > 1e-5 and errors[2] < 1e-5 * exact.abs().max() * 10


@pytest.mark.parametrize("budget", [3, 17, 18, 64, 200, 509])
def test_drawn_coalitions_keep_to_the_budget_come_in_pairs_and_carry_the_kernels_mass(budget, seed):
    players = 9
    masks, weights = kernel_coalitions(many(2, players), players, budget)
    assert budget - 1 <= masks.shape[1] <= budget and weights.shape == masks.shape[1:2]
    for own in masks:
        found = sorted(sorted(players_of(row)) for row in own)
        assert found == sorted(sorted(players_of(~row)) for row in own)
    assert masks.sum(-1).min() > 0 and (~masks).sum(-1).min() > 0
    assert float(weights.sum()) == pytest.approx(sum(1 / (s * (players - s)) for s in range(1, players)))
    if 16 < budget < 509:  # below, two draws may well agree
        assert (masks[0] != masks[1]).any(), "samples draw for themselves"


def test_sizes_are_drawn_as_the_shapley_kernel_weighs_them(seed):
    players, samples = 7, many(2000, 7)
    masks, _ = kernel_coalitions(samples, players, 12)  # sizes 1 and 6, 14 coalitions, do not fit
    share = torch.bincount(masks.sum(-1).flatten(), minlength=8)[1:7] / masks[..., 0].numel()
    kernel = torch.tensor([1 / (s * (7 - s)) for s in range(1, 7)])
    kernel = kernel / kernel.sum()
    assert ((share - kernel).abs() < 5 * (kernel * (1 - kernel) / 12000).sqrt()).all()
    member = masks[:, ::2].flatten(0, 1).float().mean(0)
    assert (member.max() - member.min()) < 10 * 0.5 / math.sqrt(12000)


@pytest.mark.parametrize(("name", "options"), ESTIMATORS)
def test_values_sum_to_what_the_baseline_lacks(name, options, seed):
    net, x, targets, r = smooth_net(9), torch.randn(6, 9), torch.arange(6) % 3, torch.randn(9)
    for score, of in (("logit", lambda z: z), ("probability", lambda z: z.softmax(1))):
        whole, none = (of(net(inputs)).detach().gather(1, targets[:, None])[:, 0] for inputs in (x, r.expand_as(x)))
        found = explain(name, net, x, targets, baseline=r, score=score, **options)
        assert near(found.sum(1), whole - none, 2e-5)


@pytest.mark.parametrize(("name", "options"), ESTIMATORS[:2])
def test_equal_players_get_equal_values_idle_ones_none_and_games_add_up(name, options, seed):
    first = lambda z: (z[:, 0] * z[:, 1] + torch.sin(z[:, 0] + z[:, 1])) * z[:, 2]
    second = lambda z: torch.tanh(z[:, 3] * z[:, 2]) + z[:, 0]
    x = torch.randn(3, 5)
    x[:, 1] = x[:, 0]
    targets = torch.zeros(3, dtype=torch.long)
    own = {f: explain(name, model(f), x, targets, **options) for f in (first, second)}
    assert near(own[first][:, 0], own[first][:, 1])
    assert own[first][:, 3:].abs().max() < 1e-6 and own[second][:, [1, 4]].abs().max() < 1e-6
    both = explain(name, model(lambda z: 2 * first(z) - 3 * second(z)), x, targets, **options)
    assert near(both, 2 * own[first] - 3 * own[second])


def test_shapley_sampling_is_unbiased_and_its_error_falls_with_the_orders(seed):
    net, x = model(lambda inputs: inputs.prod(1) + torch.relu(inputs.sum(1) - 2)), torch.rand(1, 6) + 0.5
    targets = torch.zeros(1, dtype=torch.long)
    exact = explain("exact_shapley", net, x, targets)
    runs = torch.cat([explain("shapley_sampling", net, x, targets, permutations=2, seed=s) for s in range(200)])
    assert ((runs.mean(0) - exact[0]).abs() < 5.5 * runs.std(0) / math.sqrt(200)).all()
    more = torch.cat([explain("shapley_sampling", net, x, targets, permutations=32, seed=s) for s in range(40)])
    assert (more - exact).square().mean() < (runs - exact).square().mean() / 4


def test_a_product_is_shared_equally(seed):
    x, targets = torch.rand(3, 5) + 0.5, torch.zeros(3, dtype=torch.long)
    net, f = model(lambda inputs: inputs.prod(1)), x.prod(1, keepdim=True)
    shares = {"exact_shapley": f / 5, "kernel_shap": f / 5, "integrated_gradients": f / 5}
    shares |= {"input_x_gradient": f, "occlusion": f, "feature_ablation": f}
    for name, share in shares.items():
        assert near(explain(name, net, x, targets), share.expand(3, 5)), name


def test_too_many_segments_are_not_applicable_and_too_few_samples_are_an_error(seed):
    net, _ = linear_net((13,))
    x, targets = torch.randn(2, 13), torch.tensor([0, 1])
    with pytest.raises(harness.NotApplicable, match="13 segments would take 2\\^13 evaluations"):
        explain("exact_shapley", net, x, targets)
    with pytest.raises(ValueError, match="samples (of .* )?is 23"):
        explain("kernel_shap", net, x, targets, samples=23)
    with pytest.raises(ValueError, match="permutations (of .* )?is 5, expected an even number"):
        explain("shapley_sampling", net, x, targets, permutations=5)


def test_gaps_between_the_numbers_of_segments_are_nobody(seed):
    net, x, targets = smooth_net(9), torch.randn(4, 9), torch.tensor([0, 1, 2, 0])
    dense = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1])
    for name, options in (*ESTIMATORS, ("lime", {"samples": 50}), ("feature_ablation", {})):
        sparse = explain(name, net, x, targets, segments=dense * 5 + 3, **options)
        assert near(sparse, explain(name, net, x, targets, segments=dense, **options)), name


def coalitions_seen(name, players, **options):
    """What of one sample a model was shown, in order: (calls, players) bool; the baseline is zero."""
    seen = []
    net = model(lambda inputs: seen.append(inputs != 0) or inputs.prod(1))
    explain(name, net, torch.rand(1, players) + 0.5, torch.zeros(1, dtype=torch.long), **options)
    return torch.cat(seen[1:])  # the first call only asks how many outputs there are


def test_orders_come_with_their_reverses_so_that_coalitions_come_with_their_complements(seed):
    seen = sorted(map(players_of, coalitions_seen("shapley_sampling", 8, permutations=4)), key=sorted)
    assert len(seen) == 4 * 7 + 2
    assert seen == sorted((frozenset(range(8)) - players for players in seen), key=sorted)


def test_lime_sees_the_whole_input_first_and_each_segment_half_of_the_time(seed):
    seen = coalitions_seen("lime", 30, samples=2000)
    assert len(seen) == 2000 and seen[0].all()
    assert ((seen[1:].float().mean(0) - 0.5).abs() < 5.5 * 0.5 / 2000**0.5).all()
    together = (seen[1:, :1] == seen[1:, 1:]).float().mean(0)
    assert ((together - 0.5).abs() < 5.5 * 0.5 / 2000**0.5).all(), "segments come and go by themselves"
