"""Shapley values of segments: exact, by weighted least squares, and by random orders.

Coalitions are drawn for each sample by itself, from (seed, sample). Errors are then independent across samples, as
confidence intervals over samples assume. The Gram matrices that this takes cost little beside the model's evaluations.
"""

from functools import lru_cache
from itertools import combinations
from math import comb, factorial

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError
from harness.explainers._coalition_pairs import pairs_without_replacement
from harness.explainers._coalitions import Estimator, Game, SegmentRemoval, play
from harness.explainers._odd_games import values_of_odd_part
from harness.option_types import TRIED_FILLS, TRIED_SEGMENTS, Count, Several
from harness.predictor import pick
from harness.randomness import permutations as random_orders
from harness.randomness import uniform
from harness.registry import explainer
from harness.samples import Samples
from harness.units import gather_segments

MOST_EXACT = 12  # segments: 4096 evaluations per sample

TO_DATA = SegmentRemoval(background=None)
FEW_TO_DATA = SegmentRemoval(segments="few", background=None)


@explainer(access="forward", complete_to="baseline", cost="2^K + 1 F", tunable={"baseline": TRIED_FILLS})
def exact_shapley(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    removal: SegmentRemoval = FEW_TO_DATA,
) -> Tensor:
    """Shapley values of segments, computed from all their coalitions (Shapley 1953; Strumbelj and Kononenko 2010).

    One channel, in units of ``score``: a segment's value is shared equally by its units; the sum is f(x) - f(baseline),
    or f(x) less the mean of f over the ``background``. 2^K evaluations for K segments, for each row of a background,
    besides that of the input. Not applicable above 12 segments: larger inputs are divided into at most 12 by default,
    but the columns of a table, which have no neighbours, must be given segments, here or in the data.

    Example: of f(x) = x1 x2 at (1, 3), which is 0 as soon as one column is removed: f(x) = 3 is shared equally.

    >>> harness.explain("exact_shapley", product, x, target, baseline="zero")
    tensor([[1.5000, 1.5000]])
    """
    return play(context, removal, _exact)


@explainer(
    access="forward",
    complete_to="baseline",
    stochastic=True,
    cost="samples + 2 F",
    added={"estimator": "least_squares"},
    tunable={"samples": (512, 4096), "segments": TRIED_SEGMENTS, "baseline": TRIED_FILLS},
)
def kernel_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Count = 1024,
    estimator: Estimator = "process",
    removal: SegmentRemoval = TO_DATA,
) -> Tensor:
    """KernelSHAP: Shapley values of segments from random coalitions (Lundberg and Lee 2017, 1705.07874).

    One channel, in units of ``score``: a segment's value is shared equally by its units; the sum is f(x) - f(baseline),
    or f(x) less the mean of f over the ``background``. Each sample has ``samples`` evaluations of coalitions (an odd
    last one is left out), for each row of a background, besides those of the input and of the baseline. The values are
    exact from 2^K - 2 evaluations on for K segments. ValueError below 2 (K - 1) evaluations, which do not determine
    them. Coalitions come in pairs with their complements.

    ``least_squares`` is the method of the paper, a regression weighted by the Shapley kernel, with an exact sum (Covert
    and Lee 2021, 2012.01536). All coalitions of the smallest and largest sizes are evaluated where they fit into their
    share of the budget; those of the other sizes are drawn with replacement. ``process`` estimates the same values with
    less error: a Gaussian process over coalitions, whose linear part is that regression, takes what segments do
    together out of the error (``harness.explainers._odd_games``; on the odd part of games: Fumagalli et al. 2026,
    2602.01399). Its coalitions are drawn without replacement (Musco and Witter 2024, 2410.01917). It tells a fact, the
    ``standard_error`` of a segment's value, the root of the mean square over segments. Near the smallest budgets the
    errors of both are large, those of ``process`` too, which cannot tell its own there; from about 4 K on it is the
    better one.

    Example: of f(x) = x1 x2 at (1, 3), which is 0 as soon as one column is removed: f(x) = 3 is shared equally.

    >>> harness.explain("kernel_shap", product, x, target, baseline="zero")
    tensor([[1.5000, 1.5000]])
    """
    solve = _by_process if estimator == "process" else _by_least_squares
    return play(context, removal, lambda game: solve(game, samples))


@explainer(
    access="forward",
    complete_to="baseline",
    stochastic=True,
    cost="permutations x (K - 1) + 2 F",
    tunable={"permutations": (10, 40), "segments": TRIED_SEGMENTS, "baseline": TRIED_FILLS},
)
def shapley_sampling(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    permutations: Several = 20,
    removal: SegmentRemoval = TO_DATA,
) -> Tensor:
    """Shapley values of segments as the mean gains when they are added in random orders (Castro et al. 2009; Strumbelj
    and Kononenko 2010; in pairs of opposite orders: Mitchell et al. 2022, 2104.12199).

    One channel, in units of ``score``: a segment's value is shared equally by its units; the sum is f(x) - f(baseline),
    or f(x) less the mean of f over the ``background``. ``permutations`` orders, an even number, of K - 1 evaluations
    each for K segments, for each row of a background, besides those of the input and of the baseline.

    Example: of f(x) = x1 x2 at (1, 3) all of f(x) = 3 is gained by the column that comes second, and in two opposite
    orders each column does so once.

    >>> harness.explain("shapley_sampling", product, x, target, permutations=2, baseline="zero")
    tensor([[1.5000, 1.5000]])
    """
    if permutations % 2:
        raise UserError(f"permutations is {permutations}, expected an even number: orders come in pairs")
    return play(context, removal, lambda game: _sampled(game, permutations))


def _exact(game: Game) -> Tensor:
    players = game.players
    if players > MOST_EXACT:
        raise NotApplicable(
            f"{players} segments would take 2^{players} evaluations a sample, more than 2^{MOST_EXACT}: give segments= "
            f"of at most {MOST_EXACT}, or take kernel_shap"
        )
    coalitions = all_coalitions(players).to(game.full.device)
    return values_from_worths(coalitions, game.worth(coalitions[None]))


def values_from_worths(coalitions: Tensor, worth: Tensor) -> Tensor:
    """Shapley values (n, K) from the worths (n, 2^K) of all coalitions (2^K, K), whatever their order."""
    players = coalitions.shape[1]
    size = coalitions.sum(1, keepdim=True) - coalitions.long()  # of the coalition without the player
    weights = [factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)]
    weight = torch.tensor(weights, dtype=worth.dtype, device=worth.device)[size]
    return worth @ torch.where(coalitions, weight, -weight)


def all_coalitions(players: int) -> Tensor:
    """All coalitions of the players, (2^players, players) bool."""
    return (torch.arange(2**players)[:, None] >> torch.arange(players)) % 2 == 1


def _by_least_squares(game: Game, budget: int) -> Tensor:
    none = game.worth_of_none()
    if game.players == 1:
        return (game.full - none)[:, None]
    masks, weights, gains = kernel_gains(game, budget, none)
    return efficient_regression(masks, weights, gains, game.full - none)


def _by_process(game: Game, budget: int) -> Tensor:
    if budget >= 2**game.players - 2:  # all coalitions, from which the regression has the values themselves
        game.samples.tell(standard_error=torch.zeros(len(game.samples)))
        return _by_least_squares(game, budget)
    check_coalitions(game.players, budget)
    total = game.full - game.worth_of_none()
    present = pairs_without_replacement(game.samples, game.players, budget // 2)
    worth, of_complements = game.worth(torch.cat([present, ~present], 1)).chunk(2, 1)
    values, errors = values_of_odd_part(present, (worth - of_complements) / 2, total)
    game.samples.tell(standard_error=errors.square().mean(1).sqrt())
    return values


def kernel_gains(game: Game, budget: int, none: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``kernel_coalitions`` of two players or more, and their gains (n, M): their worths less ``none`` (n,)."""
    check_coalitions(game.players, budget)
    masks, weights = kernel_coalitions(game.samples, game.players, budget)
    return masks, weights, game.worth(masks) - none[:, None]


def check_coalitions(players: int, budget: int) -> None:
    """UserError for fewer evaluations of coalitions than determine the values."""
    if budget < 2 * (players - 1):
        raise UserError(f"samples is {budget}, expected at least {2 * (players - 1)} for {players} segments")


def kernel_coalitions(samples: Samples, players: int, budget: int) -> tuple[Tensor, Tensor]:
    """At most ``budget`` coalitions (n, M, players) bool, and the weights (M,) that make them the Shapley kernel."""
    listed, listed_weights, masses = _enumerated(players, budget)
    device, pairs = samples.inputs.device, (budget - len(listed)) // 2 if masses else 0
    listed = listed.to(device).expand(len(samples), -1, -1)
    if not pairs:
        return listed, listed_weights.to(device)
    sizes, mass = torch.tensor(list(masses), device=device), torch.tensor(list(masses.values())).double().to(device)
    chosen = uniform(samples.stream("kernel_shap sizes"), pairs, dtype=torch.float64) * mass.sum()
    size = sizes[torch.searchsorted(mass.cumsum(0), chosen, right=True).clamp(max=len(sizes) - 1)]
    drawn = random_orders(samples.stream("kernel_shap coalitions"), pairs, players) < size[..., None]
    weights = torch.full((2 * pairs,), float(mass.sum()) / (2 * pairs), dtype=torch.float64)
    return torch.cat([listed, drawn, ~drawn], 1), torch.cat([listed_weights, weights]).to(device)


@lru_cache
def _enumerated(players: int, budget: int) -> tuple[Tensor, Tensor, dict[int, float]]:
    """Coalitions of the sizes that are listed in full, their weights, and the kernel's mass on each other size.

    A size is listed together with that of its complements. Sizes are listed from the smallest on, as long as the
    coalitions of the pair fit into its share of the budget.
    """
    masses = {s: (1 if 2 * s == players else 2) / (s * (players - s)) for s in range(1, players // 2 + 1)}
    masks, weights = [torch.zeros(0, players, dtype=torch.bool)], [torch.zeros(0, dtype=torch.float64)]
    for size in list(masses):
        count = comb(players, size) * (1 if 2 * size == players else 2)
        if count > budget * masses[size] / sum(masses.values()) * (1 + 1e-9):
            break
        some = (
            torch.zeros(comb(players, size), players)
            .scatter_(1, torch.tensor(list(combinations(range(players), size))), 1)
            .bool()
        )
        masks += [some] if 2 * size == players else [some, ~some]
        weights.append(torch.full((count,), masses.pop(size) / count, dtype=torch.float64))
        budget -= count
    return torch.cat(masks), torch.cat(weights), masses


def efficient_regression(masks: Tensor, weights: Tensor, gains: Tensor, total: Tensor) -> Tensor:
    """The players' values (n, K) that fit the gains (n, M) of coalitions (n, M, K) best and sum to ``total`` (n,).

    Weighted least squares under that constraint, in float64. The constraint fixes the mean value, total / K. The
    deviations from it are fitted to the masks less their means. Where the coalitions leave a direction undetermined,
    the deviation along it is 0.
    """
    present = masks.double()
    mean = present.mean(-1, keepdim=True)
    weighted = (present - mean) * weights.sqrt()[:, None]
    rest = (gains - mean[..., 0] * total[:, None]) * weights.sqrt()
    deviations = torch.linalg.pinv(weighted.mT @ weighted, hermitian=True, rtol=1e-10) @ (weighted.mT @ rest[..., None])
    return total[:, None] / masks.shape[-1] + deviations[..., 0]


def _sampled(game: Game, orders: int) -> Tensor:
    players, none = game.players, game.worth_of_none()
    places = random_orders(game.samples.stream("shapley_sampling orders"), orders // 2, players)
    places = torch.cat([places, players - 1 - places], 1)  # (n, orders, K): when each player comes
    worth = _worth_of_beginnings(game, places)
    ends = [end[:, None, None].expand(-1, orders, 1) for end in (none, game.full)]
    gains = torch.cat([ends[0], worth, ends[1]], 2).diff(dim=2)
    return gains.gather(2, places).mean(1)


def _worth_of_beginnings(game: Game, places: Tensor) -> Tensor:
    """The worths (n, orders, K - 1) of the first 1 .. K - 1 players of each order."""
    n, orders, players = places.shape
    if players == 1:
        return places.new_zeros(n, orders, 0, dtype=torch.float64)

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        order, last = draw // (players - 1), draw % (players - 1)
        return gather_segments(places[sample, order] <= last[:, None], game.segments.labels[sample])

    tracked = game.samples.masked(orders * (players - 1), keep, game.baseline)
    return pick(tracked, game.score).double().view(n, orders, players - 1)
