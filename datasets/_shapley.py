"""Exact Shapley values by enumeration of all coalitions."""

import math
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

Coalition = tuple[int, ...]


def exact_shapley_values(value: Callable[[Coalition], Tensor], players: int) -> Tensor:
    """Shapley values (N, players) float64 of N games.

    ``value`` takes a coalition, the numbers of its players in ascending order, and gives what it earns in each game,
    (N,). It is called once for each of the 2^players coalitions. A player's Shapley value is the mean, over all orders
    of players, of what the player adds to those before it. A player that never adds anything has exactly 0.
    """
    earned = {c: value(c).double() for size in range(players + 1) for c in combinations(range(players), size)}
    values = torch.zeros(len(earned[()]), players, dtype=torch.float64)
    for coalition, before in earned.items():
        weight = 1 / (players * math.comb(players - 1, len(coalition))) if len(coalition) < players else 0.0
        for player in set(range(players)).difference(coalition):
            values[:, player] += weight * (earned[tuple(sorted((*coalition, player)))] - before)
    return values


def shapley_against(
    function: Callable[[Tensor], Tensor], inputs: Tensor, reference: Tensor, columns: tuple[int, ...]
) -> Tensor:
    """Shapley values (N, D) float64 of ``function`` (N, D) -> (N,) at ``inputs`` (N, D).

    Absent columns take their values from ``reference`` (D,). The players are ``columns``. The function must not depend
    on other columns; their Shapley values are exactly 0.
    """
    inputs, reference = inputs.double(), reference.double()

    def value(coalition: Coalition) -> Tensor:
        mixed, present = reference.expand_as(inputs).clone(), [columns[player] for player in coalition]
        mixed[:, present] = inputs[:, present]
        return function(mixed)

    values = torch.zeros_like(inputs)
    values[:, list(columns)] = exact_shapley_values(value, len(columns))
    return values
