"""Shapley values from the worths of pairs of complementary coalitions, by a Gaussian process over coalitions.

Shapley values depend only on the odd part of a game, o(S) = (v(S) - v(rest)) / 2 (Fumagalli et al. 2026, 2602.01399),
and a pair of complements shows it without error. With s_i = 1 for a player who is present and -1 for one who is not,

    o(s) = sum over sets T of an odd number of players of c_T prod_{i in T} s_i,   value_i = 2 sum_{T with i} c_T / |T|.

The process (``harness.explainers._coalition_process``) is that of o(S): the c_T of single players are free, as in
KernelSHAP's regression, and those of larger sets have its prior. So the values have a normal posterior in closed form.

Of very many pairs some have a process, and what it predicts wrongly of the others is a game of its own, whose values,
by KernelSHAP's regression, are added (as in Witter et al. 2025, 2506.11849).
"""

import math
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.explainers._coalition_pairs import number_of_pairs
from harness.explainers._coalition_process import (
    AT_ONCE,
    NOISES,
    RATES,
    CoalitionProcess,
    chosen_prior,
    evenly,
    hamming_distances,
    log_binomials,
    product_of_signs,
    seen_by_process,
)


def values_of_odd_part(present: Tensor, odd: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Shapley values (n, K) and their standard errors (n, K), from P pairs of each of n games of K players.

    ``present`` (n, P, K) bool has one coalition of each pair, ordered by their sizes, ``odd`` (n, P) float64 half of
    its worth less that of its complement, ``total`` (n,) the worth of all less that of none, to which the values sum. P
    is at least K - 1. Standard errors are NaN where P pairs leave nothing to estimate them from.
    """
    rows = seen_by_process(present.shape[1]) + 1
    games = (each.split(max(1, AT_ONCE // rows**2)) for each in (present, odd, total))
    parts = [_values_and_errors(*game) for game in zip(*games, strict=True)]
    return torch.cat([values for values, _ in parts]), torch.cat([errors for _, errors in parts])


def _values_and_errors(present: Tensor, odd: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """``values_of_odd_part`` of games that fit into memory together."""
    n, pairs, players = present.shape
    signs = present.double() * 2 - 1
    first = evenly(pairs, seen_by_process(pairs)).to(odd.device)
    all_and_first = torch.cat([signs.new_ones(n, 1, players), signs[:, first]], 1)
    seen = torch.cat([total[:, None] / 2, odd[:, first]], 1)
    tables = _tables(players, odd.device)
    rate, noise = chosen_prior(all_and_first, seen, tables.between)
    differ = hamming_distances(all_and_first, all_and_first)
    process = CoalitionProcess(
        all_and_first, differ, seen, tables.between[rate], torch.tensor(NOISES, device=odd.device)[noise]
    )
    values, errors = _values_of_process(process, tables.with_value[rate], tables.of_value[rate])
    if pairs > len(first):
        known = torch.zeros(pairs, dtype=torch.bool, device=odd.device).index_fill_(0, first, True)
        more, errors = _regression(signs, odd - process.predicted(signs), known)
        values = values + more
    return values + (total - values.sum(1))[:, None] / players, errors  # but for rounding they have this sum


def _values_of_process(process: CoalitionProcess, with_value: Tensor, of_value: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior means and deviations (n, K) of the Shapley values, by the rest of ``_Tables``."""
    signs = process.signs
    absent = signs < 0
    others = absent.sum(2, keepdim=True) - absent.long()  # absent players but for the one whose value it is
    covariance = signs * with_value.gather(1, others.flatten(1)).view_as(signs)
    return process.values(covariance, 2 * torch.eye(signs.shape[2], dtype=signs.dtype, device=signs.device), of_value)


def _regression(signs: Tensor, wrong: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """KernelSHAP's regression of games whose values sum to 0: values (n, K) and standard errors, whatever the spread.

    The odd part ``wrong`` (n, P) is that of coalitions ``signs`` (n, P, K), which have the same sizes in all games. Of
    each size those that are ``known`` (P,) bool stand for themselves, and the others for all that are left.
    """
    players, sizes = signs.shape[2], (signs[0] > 0).sum(1)
    weight, unseen = torch.zeros(2, len(sizes), dtype=torch.float64, device=signs.device)
    for size in sizes.unique().tolist():
        there = sizes == size
        others = there & ~known
        count, left = int(others.sum()), number_of_pairs(players, size) - int((there & known).sum())
        weight[there] = 1 / comb(players, size) / (size * (players - size))
        if count:
            weight[others] *= left / count
            unseen[others] = 1 - count / left  # where all are seen, nothing is left to chance
    columns = (signs - signs.mean(2, keepdim=True)) / 2
    inverse = torch.linalg.pinv((columns * weight[:, None]).mT @ columns, hermitian=True, rtol=1e-10)
    influence = columns * weight[:, None] @ inverse  # (n, P, K)
    values = (influence.mT @ wrong[..., None])[..., 0]
    rest = (wrong - (columns @ values[..., None])[..., 0]) * unseen.sqrt()
    return values, (influence * rest[..., None]).square().sum(1).sqrt()


class _Tables(NamedTuple):
    """Covariances under the prior for each of RATES, in units of the variance of the odd part of one coalition.

    Of sets of three players and more: single players are no part of them.

    between     (rates, K + 1) of the odd part of two coalitions, by the number of players in which they differ
    with_value  (rates, K) of a present player's value and the odd part of a coalition, by the number of absent players;
                of an absent player's value with the other sign, and without counting that player
    of_value    (rates,) the variance of a value
    """

    between: Tensor
    with_value: Tensor
    of_value: Tensor


@lru_cache
def _tables(players: int, device: torch.device) -> _Tables:
    columns = zip(*(_prior_covariances(players, rate) for rate in RATES), strict=True)
    return _Tables(*(torch.tensor(np.stack(each), device=device) for each in columns))


def _prior_covariances(players: int, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row of each table of ``_Tables``.

    The sum over sets of rate^|T| prod_{i in T} s_i t_i is prod_i (1 + rate s_i t_i); the odd sizes are half of it less
    the same with the other sign. In the covariance with a value each size is divided by |T|, which is the integral over
    u from 0 to 1 of u^(|T| - 1): of a polynomial, for which a quadrature of K / 2 + 1 points is exact.
    """
    differ, absent = np.arange(players + 1), np.arange(players)
    sizes = np.arange(3, players + 1, 2)
    if not len(sizes):
        return np.zeros(players + 1), np.zeros(players), np.zeros(())
    scale = -np.logaddexp.reduce(sizes * math.log(rate) + log_binomials(players, sizes))
    product = lambda of, minus, by: product_of_signs(of, minus, by, scale)
    between = (product(players, differ, rate) - product(players, players - differ, rate)) / 2
    between -= rate * (players - 2 * differ) * np.exp(scale)
    at, weight = np.polynomial.legendre.leggauss(players // 2 + 1)
    by = rate * (at[:, None] + 1) / 2
    even = (product(players - 1, absent, by) + product(players - 1, players - 1 - absent, by)) / 2
    with_value = 2 * rate * ((weight[:, None] / 2 * even).sum(0) - np.exp(scale))
    of_sizes = sizes * math.log(rate) + log_binomials(players - 1, sizes - 1) - 2 * np.log(sizes)
    return between, with_value, np.array(4 * np.exp(of_sizes + scale).sum())
