"""LIME's coefficients by a Gaussian process over coalitions, against all coalitions and against brute force."""

from functools import partial
from itertools import combinations
from math import comb

import pytest
import torch
from torch import nn

import harness
from harness.api import samples_of
from harness.explainers import _coalition_process as process
from harness.explainers import _expected_ridge as expected
from harness.explainers import _lime_coalitions
from harness.explainers._coalition_pairs import number_of_pairs
from harness.explainers._expected_ridge import ExpectedRidge, coalition_weights, exact_coefficients, ridge
from harness.explainers._lime_coalitions import _by_size, lime_coalitions, orthogonal_coalitions
from harness.explainers.shapley import all_coalitions
from harness.randomness import stream

pytestmark = pytest.mark.filterwarnings("ignore:the model has one output")
FIRST_OUTPUT = torch.zeros(1, dtype=torch.long)
SETTINGS = [(64, 0.25, 1.0), (1000, 0.1, 0.0), (300, 1.0, 20.0)]  # draws, width, penalty


class CoalitionNet(nn.Module):
    """A net whose logit is a game: columns of ones are players; it counts its rows."""

    def __init__(self, players, number):
        super().__init__()
        drawn = torch.Generator().manual_seed(number)
        self.inner = nn.Parameter(torch.randn(players, 8, generator=drawn))
        self.outer = nn.Parameter(torch.randn(8, generator=drawn))
        self.rows = 0

    def forward(self, inputs):
        self.rows += len(inputs)
        return (torch.tanh(inputs @ self.inner) @ self.outer)[:, None]


def all_first(players):
    """All coalitions (1, 2^K, K), that of all players first, and the others by their sizes."""
    others = all_coalitions(players)[:-1]
    others = others[others.sum(1).argsort(stable=True)]
    return torch.cat([torch.ones(1, players, dtype=torch.bool), others])[None]


def worths_of(net, present):
    with torch.no_grad():
        return net(present[0].float())[:, 0].double()[None]


def explained(net, players, **options):
    given = {"baseline": "zero", "estimator": "process", **options}
    return harness.explain("lime", net, torch.ones(1, players), FIRST_OUTPUT, **given)[0].double()


@pytest.mark.parametrize(("draws", "width", "penalty"), SETTINGS)
@pytest.mark.parametrize("players", [2, 5, 9])
def test_the_target_is_what_the_regression_of_very_many_draws_finds(players, draws, width, penalty, seed):
    """The sum over M - 1 draws is replaced by M - 1 times the mean over 400,000, beside the whole input."""
    net, target = CoalitionNet(players, 0), ExpectedRidge(players, draws, width, penalty)
    present = all_first(players)
    exact = exact_coefficients(present, worths_of(net, present), target)
    drawn = torch.rand(1, 400_000, players) < 0.5
    drawn[:, 0] = True
    weights = coalition_weights(drawn, width) * (draws - 1) / (drawn.shape[1] - 1)
    weights[:, 0] = 1
    found = ridge(drawn, weights, worths_of(net, drawn), penalty)
    assert (found - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize(("draws", "width", "penalty"), SETTINGS)
@pytest.mark.parametrize("players", [2, 5, 9])
def test_the_density_gives_the_coefficients_of_any_game(players, draws, width, penalty, seed):
    target, present = ExpectedRidge(players, draws, width, penalty), all_first(players)
    worth = torch.randn(3, 2**players, dtype=torch.float64)
    density, of_all = target.density()
    own = present[0].long()
    of_each = torch.from_numpy(density)[own, own.sum(1, keepdim=True) - own] / 2**players
    of_each[0] += of_all
    exact = exact_coefficients(present.expand(3, -1, -1), worth, target)
    torch.testing.assert_close(worth @ of_each, exact, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("draws", "width", "penalty"), SETTINGS)
def test_the_posterior_is_that_of_the_coefficients_of_all_sets(draws, width, penalty, monkeypatch, seed):
    monkeypatch.setattr(process, "FREE", 100.0)  # as large as brute force can have it
    players, rows = 5, 20
    target, everyone = ExpectedRidge(players, draws, width, penalty), all_first(players)
    sets = [each for size in range(players + 1) for each in combinations(range(players), size)]
    product = lambda present: torch.stack([(present.double() * 2 - 1)[:, each].prod(1) for each in sets], 1)
    sums = exact_coefficients(everyone.expand(len(sets), -1, -1), product(everyone[0]).T, target).T  # (K, sets)
    present = torch.cat([everyone[0, :1], everyone[0, 1 + torch.randperm(31)[: rows - 1]]])
    seen, sizes = torch.randn(rows, dtype=torch.float64), torch.tensor([len(each) for each in sets])
    tables = expected._ridge_tables(target, torch.device("cpu"))
    for rate, noise in ((1, 2), (5, 0)):
        larger = torch.where(sizes > 1, process.RATES[rate] ** sizes.double(), 0.0)
        variance = torch.where(sizes > 1, larger / larger.sum(), 100.0)
        noises = torch.full((rows,), process.NOISES[noise]).double()
        noises[0] = process.EXACT
        covariance = (product(present) * variance) @ product(present).T + torch.diag(noises)
        shared = (sums * variance) @ product(present).T
        signs = present[None].double() * 2 - 1
        own = process.CoalitionProcess(
            signs,
            process.hamming_distances(signs, signs),
            seen[None],
            tables.between[rate][None],
            torch.tensor([process.NOISES[noise]]),
            level=True,
        )
        covariances = expected._covariance_with_coefficients(present[None], tables.with_value[rate][None])
        values, _ = own.values(covariances, tables.of_free, tables.of_value[rate][None])
        torch.testing.assert_close(values[0], shared @ torch.linalg.solve(covariance, seen), rtol=1e-6, atol=1e-7)
        unsure = (sums * variance) @ sums.T - shared @ torch.linalg.solve(covariance, shared.T)
        found = own.variances(covariances, tables.of_free, tables.of_value[rate][None])
        torch.testing.assert_close(found[0], unsure.diagonal(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("draws", "width", "penalty"), [(40, 0.25, 1.0), (200, 0.1, 0.0), (100, 1.0, 20.0)])
@pytest.mark.parametrize("players", [8, 20])
def test_the_coefficients_of_sums_are_exact(players, draws, width, penalty, seed):
    """Without a penalty they are what the players contribute; with one they are shrunk as the target is."""
    net = nn.Linear(players, 1).eval()
    contributions = net.weight.detach()[0].double()
    found = explained(net, players, samples=draws, kernel_width=width, penalty=penalty)
    if penalty and players == 8:
        present = all_first(players)
        target = ExpectedRidge(players, draws, width, penalty)
        contributions = exact_coefficients(present, worths_of(net, present), target)[0]
    if not penalty or players == 8:
        torch.testing.assert_close(found, contributions, rtol=1e-4, atol=1e-5)
    else:
        shrunk = (found - found.mean()) / (contributions - contributions.mean())
        torch.testing.assert_close(shrunk, shrunk.mean().expand(players), rtol=1e-3, atol=1e-3)
        assert 0 < shrunk.mean() < 1


@pytest.mark.parametrize("samples", [2**7, 2**7 + 50])
def test_all_coalitions_give_the_exact_coefficients_each_evaluated_once(samples, seed):
    net, present = CoalitionNet(7, 1).eval(), all_first(7)
    exact = exact_coefficients(present, worths_of(net, present), ExpectedRidge(7, samples, 0.25, 1.0))[0]
    net.rows, facts = 0, harness.Facts()
    found = explained(net, 7, samples=samples, facts=facts)
    assert net.rows - 2**7 <= 4  # and the input itself, for its score
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    assert facts.summary()["standard_error"]["max"] == 0


def errors_of_games(players, samples, estimator, seeds, width=0.25):
    """Differences from the exact coefficients (games, seeds, K), exact ones, and standard errors (games, seeds)."""
    nets, present = [CoalitionNet(players, number).eval() for number in range(4)], all_first(players)
    target = ExpectedRidge(players, samples, width, 1.0)
    exact = torch.cat([exact_coefficients(present, worths_of(net, present), target) for net in nets])
    off, stated = torch.zeros(4, seeds, players).double(), torch.zeros(4, seeds)
    for number, net in enumerate(nets):
        for draw in range(seeds):
            facts = harness.Facts()
            options = {"samples": samples, "estimator": estimator, "kernel_width": width, "seed": draw}
            off[number, draw] = explained(net, players, facts=facts, **options) - exact[number]
            stated[number, draw] = facts.summary().get("standard_error", {}).get("median", float("nan"))
    return off, exact, stated


@pytest.mark.parametrize(("samples", "width"), [(64, 0.25), (300, 0.25), (300, 0.1)])
def test_the_error_is_less_than_half_of_that_of_draws_and_about_what_is_stated(samples, width):
    ours, _, stated = errors_of_games(12, samples, "process", 3, width)
    theirs, _, _ = errors_of_games(12, samples, "least_squares", 3, width)
    assert ours.square().mean() < theirs.square().mean() / 2
    assert 0.3 < float((ours.square().mean() / stated.square().mean()).sqrt()) < 2


def test_the_error_falls_to_zero_and_is_mostly_no_bias():
    sizes = []
    for samples in (60, 200, 600):
        off, exact, _ = errors_of_games(10, samples, "process", 8)
        sizes.append(float(off.square().sum(2).mean() / exact.square().sum(1).mean()))
        bias = off.mean(1).square() - off.var(1) / 8  # without what the mean of 8 seeds is off by chance
        assert bias.sum(1).mean() < 0.35 * off.square().sum(2).mean()
    assert sizes[0] > 5 * sizes[1] > 25 * sizes[2]  # of draws: in proportion to 1 / samples, about 3.3


def test_of_very_many_coalitions_some_have_a_process_and_the_others_correct_it(monkeypatch, seed):
    players, count = 10, 600
    target, everyone = ExpectedRidge(players, count, 0.25, 1.0), all_first(players)
    votes = lambda present: ((present.double() @ torch.linspace(0.1, 2, players).double()) > 5).double()
    exact = exact_coefficients(everyone, votes(everyone), target)
    monkeypatch.setattr(process, "MOST_SEEN", 150)
    net = nn.Linear(players, 2).eval()
    samples = samples_of(net, torch.randn(40, players), torch.zeros(40, dtype=torch.long))
    present = lime_coalitions(samples, target, count)
    values, errors = expected.coefficients_of_process(present, votes(present), target)
    off = values - exact
    assert off.mean(0).abs().max() < 4.5 * off.std(0).max() / 40**0.5  # unbiased within its error
    assert 0.6 < float((off.square().mean() / errors.square().mean()).sqrt()) < 1.6
    first = process.evenly(count, 150)
    alone, _ = expected.coefficients_of_process(present[:, first], votes(present[:, first]), target)
    assert off.square().mean() < 0.7 * (alone - exact).square().mean()


@pytest.mark.parametrize(("players", "count"), [(5, 16), (16, 64), (16, 100), (30, 64), (64, 128)])
def test_an_array_has_every_three_players_in_all_ways_equally_often(players, count, seed):
    drawn = orthogonal_coalitions(torch.randint(2**60, (3,)), players, count)
    assert drawn.shape == (3, count, players) and drawn[:, 0].all()
    assert (drawn[0] != drawn[1]).any(), "samples draw for themselves"
    assert (drawn[:, 1:].sum(2).diff(dim=1) >= 0).all()
    if count & (count - 1):  # a part of a larger array
        return
    signs = drawn.double() * 2 - 1
    for chosen in list(combinations(range(players), 3))[:200]:
        products = [each for size in (1, 2, 3) for each in combinations(chosen, size)]
        assert all((signs[:, :, each].prod(2).sum(1) == 0).all() for each in products)


@pytest.mark.parametrize(("players", "count", "width"), [(8, 100, 0.25), (12, 300, 0.1), (49, 120, 0.25)])
def test_coalitions_by_size_are_different_and_of_a_size_as_many_as_it_weighs(players, count, width, seed):
    target, keys = ExpectedRidge(players, count, width, 1.0), torch.randint(2**60, (4,))
    drawn = _by_size(lambda use: stream(keys, seed, use), target, count)
    assert drawn.shape == (4, count, players) and drawn[:, 0].all()
    assert all(len(each.unique(dim=0)) == count for each in drawn)
    assert (drawn[:, 1:].sum(2) == drawn[:1, 1:].sum(2)).all() and not drawn[:, 1:].all(2).any()
    sizes = torch.bincount(drawn[0, 1:].sum(1), minlength=players).tolist()
    shares = target.shares()
    partly = [size for size, number in enumerate(sizes) if number < comb(players, size)]
    scale = sum(sizes[size] for size in partly) / sum(shares[size] for size in partly)
    assert all(abs(sizes[size] - scale * shares[size]) < 1 for size in partly) and len(partly) > 2


@pytest.mark.parametrize("samples", [40, 90])
def test_a_sample_is_explained_as_it_is_alone(samples, seed):
    net, x, targets = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 3)).eval(), torch.randn(4, 9), [0, 1, 2, 0]
    options = {"samples": samples, "estimator": "process", "baseline": "zero"}
    together = harness.explain("lime", net, x, torch.tensor(targets), **options)
    for row in range(4):
        alone = harness.explain("lime", net, x[row : row + 1], torch.tensor(targets[row : row + 1]), **options)
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("players", "samples", "width"), [(5, 10, 0.25), (7, 14, 0.1), (6, 24, 0.25), (9, 18, 0.1)])
def test_few_coalitions_are_different_and_tell_all_single_players(players, samples, width, seed):
    """Of 400 draws some do not at first: they are drawn again, so that sums are exact and say so."""
    net, facts = nn.Linear(players, 1).eval(), harness.Facts()
    options = {"samples": samples, "kernel_width": width, "penalty": 0.0, "baseline": "zero", "estimator": "process"}
    rows = torch.ones(400, players)
    found = harness.explain("lime", net, rows, torch.zeros(400, dtype=torch.long), facts=facts, **options)
    torch.testing.assert_close(found, net.weight.detach().expand(400, -1), rtol=1e-3, atol=1e-4)
    assert facts.summary()["standard_error"]["max"] < 1e-2
    few = samples_of(net, rows, torch.zeros(400, dtype=torch.long))
    drawn = lime_coalitions(few, ExpectedRidge(players, samples, width, 0.0), samples)
    assert all(len(each.unique(dim=0)) == samples for each in drawn)


@pytest.mark.parametrize("number_of", [partial(comb, 1100), partial(number_of_pairs, 1100)])
def test_of_very_many_players_no_number_overflows(number_of):
    """Of LIME and of KernelSHAP: 1,100 players have more coalitions of a size than the largest float."""
    sizes = torch.tensor([550] * 39 + [2])
    weights, unseen = process.weights_beside_fitted(sizes, torch.arange(40) < 20, lambda size: 1.0, number_of)
    assert weights[:20].eq(0).all() and weights[20:39].allclose(torch.tensor(1 / 19).double()) and weights[39] == 1
    assert unseen[:20].eq(0).all() and unseen[20:39].eq(1).all() and 0.999 < unseen[39] < 1


def test_the_weights_of_a_size_add_up_whichever_were_fitted(seed):
    sizes, fitted = torch.tensor([1] * 5 + [2] * 6), torch.rand(11) < 0.5
    weights, unseen = process.weights_beside_fitted(sizes, fitted, lambda size: 3.0 / size, partial(comb, 5))
    assert weights[:5].sum().item() == pytest.approx(3), "all five of size 1 are there"
    assert unseen[:5].eq(0).all()
    others = ~fitted[5:]
    of_others = 1.5 * (1 - int((~others).sum()) / 10)
    assert weights[5:][others].sum().item() == pytest.approx(of_others if others.any() else 0)
    assert weights[5:][~others].allclose(torch.tensor(0.15).double())


def test_repeats_among_very_many_coalitions_are_not_drawn_again(monkeypatch, seed):
    """Of sizes that are too large to be listed some repeat: an attempt for each would take long, and bring nothing."""
    players, samples, asked = 20, 1000, []
    monkeypatch.setattr(_lime_coalitions, "_by_size", lambda *given: asked.append(1) or _by_size(*given))
    monkeypatch.setattr(_lime_coalitions, "_prefers_array", lambda *given: False)
    few = samples_of(nn.Linear(players, 1).eval(), torch.ones(30, players), torch.zeros(30, dtype=torch.long))
    drawn = lime_coalitions(few, ExpectedRidge(players, samples, 0.25, 1.0), samples)
    assert any(len(each.unique(dim=0)) < samples for each in drawn) and len(asked) == 1


def test_a_design_that_never_tells_all_players_is_refused(monkeypatch, seed):
    monkeypatch.setattr(_lime_coalitions, "_by_size", lambda keys_of, target, count: torch.ones(2, count, 5) > 0)
    monkeypatch.setattr(_lime_coalitions, "_prefers_array", lambda *given: False)
    few = samples_of(nn.Linear(5, 1).eval(), torch.ones(2, 5), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ArithmeticError, match="50 draws of 10 coalitions do not tell 5 players apart"):
        lime_coalitions(few, ExpectedRidge(5, 10, 0.25, 1.0), 10)


def test_fewer_evaluations_than_the_process_needs_are_refused(seed):
    with pytest.raises(ValueError, match="samples (of .* )?is 17, expected at least 18 for 9 segments"):
        explained(nn.Linear(9, 1).eval(), 9, samples=17)
