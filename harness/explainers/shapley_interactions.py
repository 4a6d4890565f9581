"""Shapley interactions: what pairs of segments change together, beyond what each of them changes alone."""

from math import factorial

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._coalitions import Game, SegmentRemoval, play
from harness.explainers.shapley import (
    FEW_TO_DATA,
    all_coalitions,
    efficient_regression,
    kernel_gains,
    values_from_worths,
)
from harness.messages import say
from harness.option_types import TRIED_FILLS, Count
from harness.registry import explainer
from harness.samples import Samples

MOST_PAIRED = 64  # segments: 2016 pairs, whose regression takes seconds a sample


@explainer(
    access="forward",
    complete_to="baseline",
    stochastic=True,
    pairs=True,
    cost="up to samples + 2 K + 2 F",
    tunable={"baseline": TRIED_FILLS},
)
def shapley_interactions(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Count = 4096,
    removal: SegmentRemoval = FEW_TO_DATA,
) -> Tensor:
    """Shapley interactions of pairs of segments, of which the map is the sum: their Shapley values (the index of
    Grabisch and Roubens 1999, 10.1007/s001820050125; as a matrix: Lundberg et al. 2018, 1802.03888).

    ``harness.interactions`` gives the matrices (N, K, K). Beside the diagonal, both entries of a pair are half of its
    interaction: the mean of v(S + i + j) - v(S + i) - v(S + j) + v(S) over the coalitions S that precede i and j in
    random orders. The diagonal, a main effect, is what is left of a segment's Shapley value. So each row sums to that
    value, and all to f(x) - f(baseline), or f(x) less the mean of f over the ``background``. The map has one channel,
    in units of ``score``: a segment's value is shared equally by its units.

    Exact where ``samples`` evaluations are enough for all coalitions, 2^K - 2 besides those of input and baseline: up
    to 12 segments by default. Else estimated from the coalitions that ``kernel_shap`` draws for its least squares, by
    KernelSHAP-IQ (Fumagalli et al. 2024, 2405.10852). Rows then sum to the values of ``kernel_shap`` by least squares,
    and the sum of a segment's interactions is exact: it is its gain as the last one less its gain as the first one,
    which 2 K more evaluations tell. Below K (K - 1) evaluations the smallest interactions that fit are given, and a
    line says so. Each evaluation counts once for each row of a background. The fact ``share_of_coalitions`` is 1 where
    all are evaluated. Not applicable above 64 segments.

    Example: f(x) = x1 x2 at (1, 3) is an interaction alone; without it both columns have no effect.

    >>> harness.interactions(product, x, target, baseline="zero").values
    tensor([[[0.0000, 1.5000],
             [1.5000, 0.0000]]])
    >>> harness.explain("shapley_interactions", product, x, target, baseline="zero")
    tensor([[1.5000, 1.5000]])
    """

    def solve(game: Game) -> Tensor:
        others = 2**game.players - 2  # coalitions besides those of all and of none
        matrices = _from_all(game) if others <= samples else _from_drawn(game, samples)
        game.samples.tell(share_of_coalitions=torch.full((len(matrices),), min(1.0, samples / max(others, 1))))
        game.samples.tell_pairs(matrices, game.segments)
        return matrices.sum(2)

    return play(context, removal, solve)


def _from_all(game: Game) -> Tensor:
    coalitions = all_coalitions(game.players).to(game.full.device)
    worth = game.worth(coalitions[None])
    return matrices_of(values_from_worths(coalitions, worth), interactions_from_worths(coalitions, worth))


def interactions_from_worths(coalitions: Tensor, worth: Tensor) -> Tensor:
    """Shapley interactions (n, pairs) from the worths (n, 2^K) of all coalitions (2^K, K), whatever their order."""
    players = coalitions.shape[1]
    one, other = (coalitions[:, each] for each in _pairs_of(players, coalitions.device))
    size = coalitions.sum(1, keepdim=True) - one.long() - other.long()  # of the coalition without the two
    weights = [factorial(s) * factorial(players - s - 2) / factorial(players - 1) for s in range(players - 1)]
    weight = torch.tensor(weights, dtype=worth.dtype, device=worth.device)[size]
    return worth @ torch.where(one == other, weight, -weight)


def matrices_of(values: Tensor, interactions: Tensor) -> Tensor:
    """Matrices (n, K, K) that sum to the values (n, K) row by row, from the interactions (n, pairs)."""
    one, other = _pairs_of(values.shape[1], values.device)
    matrices = values.new_zeros(*values.shape, values.shape[1])
    matrices[:, one, other] = matrices[:, other, one] = interactions / 2
    return matrices + torch.diag_embed(values - matrices.sum(2))


def _from_drawn(game: Game, budget: int) -> Tensor:
    players, none = game.players, game.worth_of_none()
    if players > MOST_PAIRED:
        raise NotApplicable(f"{players} segments have more pairs than those of {MOST_PAIRED} (give segments=)")
    if budget < players * (players - 1):
        line = f"samples={budget} hardly determine the interactions of {players} segments, "
        more = f"more than {players * (players - 1)} do; of those that fit, the smallest are given"
        game.samples.for_block(("undetermined", budget, players), lambda: say(line + more))
    masks, weights, gains = kernel_gains(game, budget, none)
    masks = masks.expand(len(gains), -1, -1)
    values = efficient_regression(masks, weights, gains, game.full - none)
    sums = _sums_of_interactions(game, none)
    interactions = [  # one sample at a time: the matrix of each is large
        interactions_from_gains(own, weights, *each) for own, *each in zip(masks, gains, values, sums, strict=True)
    ]
    return matrices_of(values, torch.stack(interactions))


def _sums_of_interactions(game: Game, none: Tensor) -> Tensor:
    """The sum (n, K) of each player's interactions with all others: its gain as the last one less that as the first."""
    alone = torch.eye(game.players, dtype=torch.bool, device=none.device)
    first, all_others = game.worth(torch.cat([alone, ~alone])[None]).chunk(2, 1)
    return (game.full[:, None] - all_others) - (first - none[:, None])


def interactions_from_gains(masks: Tensor, weights: Tensor, gains: Tensor, values: Tensor, sums: Tensor) -> Tensor:
    """Shapley interactions (pairs,) from the gains (M,) of coalitions (M, K), by least squares (KernelSHAP-IQ).

    The part of the gains that the Shapley values (K,) leave is fitted by less half of the interactions between players
    inside and outside of a coalition. ``weights`` make the coalitions the Shapley kernel; the kernel here is theirs
    divided by (t - 1) (K - t - 1) for t players. Coalitions of one player, or of all but one, have infinite weight in
    it: they determine the sums (K,) of each player's interactions, which are kept exactly. Where the others leave a
    direction undetermined, the deviation along it from the equal shares of these sums is 0.
    """
    players = masks.shape[1]
    one, other = _pairs_of(players, masks.device)
    apart = -0.5 * (masks[:, one] != masks[:, other]).double()
    inner = (masks.sum(1) - 1) * (players - masks.sum(1) - 1)
    kernel = torch.where(inner > 0, weights / inner.clamp(min=1), 0)
    player = torch.arange(players, device=masks.device)[:, None]
    belongs = ((one == player) | (other == player)).to(sums)  # which pairs a player is in
    shares = torch.linalg.pinv(belongs)
    equal = shares @ sums
    free = torch.eye(len(one), dtype=sums.dtype, device=sums.device) - shares @ belongs  # changes that keep the sums
    rest = gains - masks.double() @ values - apart @ equal
    gram = free @ (apart.mT * kernel @ apart) @ free
    return equal + free @ torch.linalg.pinv(gram, hermitian=True, rtol=1e-10) @ free @ (apart.mT @ (kernel * rest))


def _pairs_of(players: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first and the second player of every pair."""
    return tuple(torch.triu_indices(players, players, 1, device=device))
