"""Exact Shapley values by enumeration of all coalitions."""

import math
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

Coalition = tuple[int, ...]


def shapley_values(value: Callable[[Coalition], Tensor], players: int) -> Tensor:
    """Shapley values (N, players) float64 of the games in which a coalition, ascending, earns ``value`` (N,).

    A player's value is the mean, over all orders of players, of what it adds to those before it. A player that adds
    exactly nothing has exactly 0. ``value`` is called once for each of the 2^players coalitions.
    """
    earned = {c: value(c).double() for size in range(players + 1) for c in combinations(range(players), size)}
    found = torch.zeros(len(earned[()]), players, dtype=torch.float64)
    for coalition, before in earned.items():
        weight = 1 / (players * math.comb(players - 1, len(coalition))) if len(coalition) < players else 0.0
        for player in set(range(players)).difference(coalition):
            found[:, player] += weight * (earned[tuple(sorted((*coalition, player)))] - before)
    return found


def shapley_against(
    function: Callable[[Tensor], Tensor], inputs: Tensor, reference: Tensor, columns: tuple[int, ...]
) -> Tensor:
    """Shapley values (N, D) of ``function`` (N, D) -> (N,) where absent columns take the values of ``reference`` (D,).

    Only ``columns`` play; the function must not depend on the others, whose values are exactly 0.
    """
    inputs, reference = inputs.double(), reference.double()

    def value(coalition: Coalition) -> Tensor:
        mixed, present = reference.expand_as(inputs).clone(), [columns[player] for player in coalition]
        mixed[:, present] = inputs[:, present]
        return function(mixed)

    found = torch.zeros_like(inputs)
    found[:, list(columns)] = shapley_values(value, len(columns))
    return found
