"""Random coalitions, and random pairs of complementary ones, without replacement."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import combinations, islice
from math import comb, sqrt

import torch
from torch import Tensor

from harness.randomness import subsets, uniform
from harness.samples import Samples

LISTED = 2**15  # coalitions of one size that are listed, to draw without replacement; of more a repeat is rare


def pairs_without_replacement(samples: Samples, players: int, pairs: int) -> Tensor:
    """One coalition of each of ``pairs`` different pairs of complements, (n, pairs, players) bool, for each sample.

    Pairs of small and of large coalitions, which say most about single players, come first: the number of pairs of
    sizes s and K - s is proportional to 1 / sqrt(s (K - s)), but for sizes of which all pairs are taken. Of sizes with
    more than LISTED coalitions a pair may be drawn twice.
    """
    parts = [
        _drawn_of_size(samples.stream(f"coalition pairs {size}"), players, size, count, number_of_pairs(players, size))
        for size, count in _pairs_of_sizes(players, pairs)
    ]
    return torch.cat(parts, 1)


def coalitions_without_replacement(
    keys_of: Callable[[int], Tensor], players: int, count: int, weights: Mapping[int, float]
) -> Tensor:
    """``count`` different coalitions, or all of the sizes with weights, (n, count, players) bool.

    They are ordered by their sizes. How many have a size is proportional to its weight, but for sizes of which all are
    taken. Of sizes with more than LISTED coalitions one may be drawn twice. ``keys_of`` gives the keys (n,) for a size.
    """
    available = {size: comb(players, size) for size in weights}
    parts = [
        _drawn_of_size(keys_of(size), players, size, number, available[size])
        for size, number in _counts_of_sizes(weights, available, count)
    ]
    return torch.cat(parts, 1)


def _drawn_of_size(keys: Tensor, players: int, size: int, count: int, number: int) -> Tensor:
    """So many of the first ``number`` coalitions of a size, (n, count, players) bool; all in order if they are all."""
    device = keys.device
    if count == number:
        return _coalitions_listed(players, size, number).to(device).expand(len(keys), -1, -1)
    if number <= LISTED:
        chosen = uniform(keys, number, dtype=torch.float64).topk(count, largest=False).indices
        return _coalitions_listed(players, size, number).to(device)[chosen]
    return subsets(keys, count, size, players)


@lru_cache
def _pairs_of_sizes(players: int, pairs: int) -> list[tuple[int, int]]:
    """(size, number of pairs) for the sizes of the smaller coalition of a pair; ``pairs`` in all, or all that exist."""
    shares = {s: (0.5 if 2 * s == players else 1.0) / sqrt(s * (players - s)) for s in range(1, players // 2 + 1)}
    return _counts_of_sizes(shares, {size: number_of_pairs(players, size) for size in shares}, pairs)


def _counts_of_sizes(weights: Mapping[int, float], available: Mapping[int, int], total: int) -> list[tuple[int, int]]:
    """(size, count) by size: ``total`` in proportion to the weights, but at most what is available of a size."""
    shares = dict(weights)
    counts: dict[int, int] = {}
    while shares:
        each = (total - sum(counts.values())) / sum(shares.values())
        full = [size for size, share in shares.items() if each * share >= available[size]]
        if not full:
            break
        for size in full:
            counts[size] = available[size]
            del shares[size]
    wanted = {size: each * share for size, share in shares.items()}
    counts |= {size: int(some) for size, some in wanted.items()}
    left = total - sum(counts.values())
    for size in sorted(wanted, key=lambda size: int(wanted[size]) - wanted[size])[: max(left, 0)]:
        counts[size] += 1
    return [(size, count) for size, count in sorted(counts.items()) if count]


def number_of_pairs(players: int, size: int) -> int:
    """How many pairs of complements have a coalition of this size, at most half of the players."""
    return comb(players, size) // (2 if 2 * size == players else 1)


def pairs_listed(players: int, size: int) -> Tensor:
    """One coalition of each pair of this size, (number, players) bool."""
    number = number_of_pairs(players, size)  # of half of the players: those that hold the first one come first
    return _coalitions_listed(players, size, number)


@lru_cache
def _coalitions_listed(players: int, size: int, number: int) -> Tensor:
    """The first ``number`` coalitions of this size, (number, players) bool."""
    members = torch.tensor(list(islice(combinations(range(players), size), number)), dtype=torch.long)
    return torch.zeros(number, players, dtype=torch.bool).scatter_(1, members, True)
