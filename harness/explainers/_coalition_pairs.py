"""Random pairs of complementary coalitions, without replacement."""

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
    device = samples.inputs.device
    parts = []
    for size, count in _pairs_of_sizes(players, pairs):
        number = number_of_pairs(players, size)
        keys = samples.stream(f"coalition pairs {size}")
        if count == number:
            parts.append(pairs_listed(players, size).to(device).expand(len(samples), -1, -1))
        elif number <= LISTED:
            chosen = uniform(keys, number, dtype=torch.float64).topk(count, largest=False).indices
            parts.append(pairs_listed(players, size).to(device)[chosen])
        else:
            parts.append(subsets(keys, count, size, players))
    return torch.cat(parts, 1)


@lru_cache
def _pairs_of_sizes(players: int, pairs: int) -> list[tuple[int, int]]:
    """(size, number of pairs) for the sizes of the smaller coalition of a pair; ``pairs`` in all, or all that exist."""
    shares = {s: (0.5 if 2 * s == players else 1.0) / sqrt(s * (players - s)) for s in range(1, players // 2 + 1)}
    counts: dict[int, int] = {}
    while shares:
        each = (pairs - sum(counts.values())) / sum(shares.values())
        full = [size for size, share in shares.items() if each * share >= number_of_pairs(players, size)]
        if not full:
            break
        for size in full:
            counts[size] = number_of_pairs(players, size)
            del shares[size]
    wanted = {size: each * share for size, share in shares.items()}
    counts |= {size: int(some) for size, some in wanted.items()}
    left = pairs - sum(counts.values())
    for size in sorted(wanted, key=lambda size: int(wanted[size]) - wanted[size])[: max(left, 0)]:
        counts[size] += 1
    return [(size, count) for size, count in sorted(counts.items()) if count]


def number_of_pairs(players: int, size: int) -> int:
    """How many pairs of complements have a coalition of this size, at most half of the players."""
    return comb(players, size) // (2 if 2 * size == players else 1)


@lru_cache
def pairs_listed(players: int, size: int) -> Tensor:
    """One coalition of each pair of this size, (number, players) bool."""
    number = number_of_pairs(players, size)  # of half of the players: those that hold the first one come first
    members = torch.tensor(list(islice(combinations(range(players), size), number)))
    return torch.zeros(number, players, dtype=torch.bool).scatter_(1, members, True)
