"""Shapley values by a Gaussian process over coalitions, against brute force, and its errors against what it states."""

from itertools import combinations
from math import comb

import pytest
import torch

import harness
from harness import api
from harness.explainers import _coalition_process as process
from harness.explainers import _odd_games as odd_games
from harness.explainers._coalition_pairs import LISTED, pairs_without_replacement
from harness.explainers.shapley import all_coalitions, values_from_worths

FIRST_OUTPUT = torch.zeros(1, dtype=torch.long)


def parities(players):
    """The odd sets of players, and the product of signs over each of them for all coalitions, (2^K, sets)."""
    signs = all_coalitions(players).double() * 2 - 1
    sets = [each for size in range(1, players + 1, 2) for each in combinations(range(players), size)]
    return sets, torch.stack([signs[:, each].prod(1) for each in sets], 1)


def prior(sets, rate, free):
    """The variance of each set's coefficient: that of the larger sets adds up to 1 in the odd part."""
    sizes = torch.tensor([len(each) for each in sets])
    larger = torch.where(sizes > 1, rate ** sizes.double(), 0.0)
    return torch.where(sizes > 1, larger / larger.sum().clamp(min=1e-300), free)


def sums_of_values(sets, players):
    """value_i = 2 sum over sets with i of c_T / |T|, as a matrix (K, sets)."""
    return torch.tensor([[2 / len(each) if i in each else 0.0 for each in sets] for i in range(players)]).double()


@pytest.mark.parametrize("players", [3, 4, 6])
def test_the_posterior_is_that_of_the_coefficients_of_all_sets(players, monkeypatch, seed):
    monkeypatch.setattr(process, "FREE", 100.0)  # as large as brute force can have it
    worth, coalitions = torch.randn(2**players, dtype=torch.float64), all_coalitions(players)
    odd = (worth - worth.flip(0)) / 2  # the complement of the n-th coalition is the n-th from the end
    sets, product = parities(players)
    rows = torch.randperm(2 ** (players - 1))[: 2 ** (players - 1) - 1]  # one of each pair, not all of them
    present, seen, total = coalitions[rows][None], odd[rows][None], (worth[-1] - worth[0])[None]
    signs = torch.cat([torch.ones(1, 1, players), present * 2.0 - 1], 1).double()
    for rate, noise in ((1, 2), (5, 0)):
        tables, given = odd_games._tables(players, torch.device("cpu")), torch.cat([total / 2, seen[0]])
        own = process.CoalitionProcess(
            signs,
            process.hamming_distances(signs, signs),
            given[None],
            tables.between[rate][None],
            torch.tensor([process.NOISES[noise]]),
        )
        values, errors = odd_games._values_of_process(own, tables.with_value[rate][None], tables.of_value[rate][None])
        variance, at = prior(sets, process.RATES[rate], process.FREE), torch.cat([torch.tensor([2**players - 1]), rows])
        noises = torch.full((len(at),), process.NOISES[noise]).double()
        noises[0] = process.EXACT
        covariance = (product[at] * variance) @ product[at].T + torch.diag(noises)
        sums, shared = sums_of_values(sets, players), torch.diag(variance) @ product[at].T
        gain = sums @ shared @ torch.linalg.inv(covariance)
        torch.testing.assert_close(values[0], gain @ given, rtol=1e-4, atol=1e-4)
        of_larger = covariance - process.FREE * signs[0] @ signs[0].T
        left = given - signs[0] @ (torch.linalg.solve(covariance, given) @ signs[0]) * process.FREE
        spare = len(at) - players  # the scale is the mean square of what single players leave
        scale = left @ torch.linalg.solve(of_larger, left) / spare
        unsure = sums @ (torch.diag(variance) - shared @ torch.linalg.solve(covariance, shared.T)) @ sums.T
        if spare >= process.LEAST_SPARE:
            stated = (scale * unsure.diagonal().clamp(min=0)).sqrt()
            torch.testing.assert_close(errors[0], stated, rtol=1e-3, atol=1e-3 * float(scale.sqrt()))
        else:
            assert errors.isnan().all()
        others = torch.arange(2**players)[:7]
        expected = (product[others] * variance) @ product[at].T @ torch.linalg.solve(covariance, given)
        found = own.predicted(coalitions[others][None].double() * 2 - 1)[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_values_depend_on_the_odd_part_alone_as_the_formula_of_the_sets_says(seed):
    worth = torch.randn(1, 2**5, dtype=torch.float64)
    sets, product = parities(5)
    coefficients = product.T @ worth[0] / 2**5
    torch.testing.assert_close(sums_of_values(sets, 5) @ coefficients, values_from_worths(all_coalitions(5), worth)[0])


def test_the_likelihood_is_that_of_contrasts_that_single_players_do_not_enter(seed):
    signs = torch.cat([torch.ones(1, 1, 4), torch.randn(1, 20, 4).sign()], 1).double()
    seen, tables = torch.randn(1, 21).double(), odd_games._tables(4, torch.device("cpu"))
    differ = process.hamming_distances(signs, signs)
    contrasts = torch.linalg.qr(signs[0], mode="complete").Q[:, 4:].T  # (17, 21)
    found, expected = [], []
    for rate, noise in ((0, 0.1), (3, 0.1), (3, 1.0), (6, 0.001)):
        own = process.CoalitionProcess(signs, differ, seen, tables.between[rate][None], torch.tensor([noise]))
        found.append(float(own.log_likelihood()))
        variances = torch.full((21,), noise).double().index_fill_(0, torch.tensor([0]), process.EXACT)
        covariance = contrasts @ (tables.between[rate][differ[0]] + torch.diag(variances)) @ contrasts.T
        left = contrasts @ seen[0]
        scale = left @ torch.linalg.solve(covariance, left)
        expected.append(float(-(17 * scale.log() + torch.logdet(covariance)) / 2))
    shift = found[0] - expected[0]
    assert found == pytest.approx([each + shift for each in expected], abs=1e-5)


@pytest.mark.parametrize(("players", "pairs"), [(2, 1), (5, 14), (16, 40), (49, 64), (70, 100)])
def test_additive_games_are_exact_and_have_no_error(players, pairs, seed):
    weight = torch.randn(1, players, dtype=torch.float64)
    present = pairs_without_replacement(samples_of(1, players), players, pairs)
    odd = ((present.double() * 2 - 1) @ weight[0]) / 2
    values, errors = odd_games.values_of_odd_part(present, odd, weight.sum(1))
    torch.testing.assert_close(values, weight, atol=1e-6, rtol=0)
    assert errors.isnan().all() if pairs < players + process.LEAST_SPARE - 1 else errors.max() < 1e-6


def samples_of(count, players):
    """Inputs of one column for each player, for what is drawn for them."""
    net = torch.nn.Linear(players, 2).eval()
    return api.samples_of(net, torch.randn(count, players), torch.zeros(count, dtype=torch.long))


@pytest.mark.parametrize(("players", "pairs"), [(2, 1), (3, 2), (6, 20), (9, 254), (12, 300), (24, 200)])
def test_pairs_are_different_and_of_every_size_one_is_drawn_as_often_as_another(players, pairs, seed):
    drawn = pairs_without_replacement(samples_of(40, players), players, pairs)
    assert drawn.shape == (40, pairs, players)
    powers = 2 ** torch.arange(players)
    numbers = torch.minimum((drawn * powers).sum(2), (~drawn * powers).sum(2))  # the same for both of a pair
    repeats = pairs - torch.tensor([len(each.unique()) for each in numbers])
    assert repeats.max() == 0 or (comb(players, players // 2) > LISTED and repeats.double().mean() < 0.01 * pairs)
    sizes = drawn.sum(2)
    assert (sizes >= 1).all() and (2 * sizes <= players).all() and (sizes == sizes[0]).all()
    share = torch.zeros(40, players).double()
    for size in sizes[0].unique():
        of_size = drawn[:, sizes[0] == size]
        if 2 * size != players and comb(players, int(size)) <= LISTED:
            expected = of_size.shape[1] * float(size) / players
            share += (of_size.double().sum(1) - expected) / expected**0.5
    assert share.mean(0).abs().max() < 1.5  # each player is in about as many: a bias would be of the size of the root


def smooth_games(players, count=6):
    """Nets whose logit is a game: each of the columns, which are 1, is a player."""
    nets = []
    for number in range(count):
        torch.manual_seed(number)
        nets.append(torch.nn.Sequential(torch.nn.Linear(players, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).eval())
        nets[-1][0].weight.data *= 3
    return nets


def values_of_games(nets, players, estimator, budget, seed):
    """Values (games, K) and standard errors of a segment's value (games,)."""
    found, errors = [], []
    for net in nets:
        facts = harness.Facts()
        options = {"baseline": "zero", "samples": budget, "estimator": estimator, "seed": seed, "facts": facts}
        found.append(harness.explain("kernel_shap", net, torch.ones(1, players), FIRST_OUTPUT, **options)[0])
        errors.append(facts.summary().get("standard_error", {}).get("median", float("nan")))
    return torch.stack(found).double(), torch.tensor(errors)


@pytest.mark.filterwarnings("ignore:the model has one output")
def test_the_error_is_a_fraction_of_that_of_least_squares_and_about_what_is_stated():
    nets, players, budget = smooth_games(12), 12, 500
    exact = torch.stack(
        [
            harness.explain("exact_shapley", net, torch.ones(1, 12), FIRST_OUTPUT, baseline="zero", segments=EACH)[0]
            for net in nets
        ]
    ).double()
    squares = {"process": [], "least_squares": []}
    stated = []
    for seed in range(3):
        for estimator, each in squares.items():
            values, errors = values_of_games(nets, players, estimator, budget, seed)
            each.append((values - exact).square().mean(1))
            if estimator == "process":
                stated.append(errors)
    ours, theirs = (torch.stack(each) for each in squares.values())
    assert ours.mean() < theirs.mean() / 3
    ratio = (ours.mean(0) / torch.stack(stated).square().mean(0)).sqrt()
    assert ((ratio > 0.4) & (ratio < 2.5)).all()


EACH = torch.arange(12)[None]


def test_of_very_many_pairs_some_have_a_process_and_the_others_correct_it(monkeypatch, seed):
    players, pairs = 10, 400
    coalitions = all_coalitions(players)
    worth = (torch.randn(players, 30).double().T @ coalitions.double().T > 0).double().sum(0)[None]  # votes
    exact = values_from_worths(coalitions, worth)
    present = pairs_without_replacement(samples_of(20, players), players, pairs)
    at = (present * 2 ** torch.arange(players)).sum(2)
    odd, total = (worth[0, at] - worth[0, 2**players - 1 - at]) / 2, (worth[:, -1] - worth[:, 0]).expand(20)
    monkeypatch.setattr(process, "MOST_SEEN", 100)
    values, errors = odd_games.values_of_odd_part(present, odd, total)
    off = values - exact
    torch.testing.assert_close(values.sum(1), total)
    assert off.mean(0).abs().max() < 4 * off.std(0).max() / 20**0.5  # unbiased within its error
    assert 0.6 < float((off.square().mean() / errors.square().mean()).sqrt()) < 1.6
    first = process.evenly(pairs, 100)
    alone, _ = odd_games.values_of_odd_part(present[:, first], odd[:, first], total)
    assert off.square().mean() < 0.6 * (alone - exact).square().mean()
