"""Shapley values from the worths of pairs of complementary coalitions, by a Gaussian process over coalitions.

Shapley values depend only on the odd part of a game, o(S) = (v(S) - v(rest)) / 2 (Fumagalli et al. 2026, 2602.01399),
and a pair of complements shows it without error. With s_i = 1 for a player who is present and -1 for one who is not,

    o(s) = sum over sets T of an odd number of players of c_T prod_{i in T} s_i,   value_i = 2 sum_{T with i} c_T / |T|.

The process (``harness.explainers._coalition_process``) is that of o(S): the c_T of single players are free, as in
KernelSHAP's regression, and those of larger sets have its prior. So the values have a normal posterior in closed form.

From 4,096 pairs on, the process is fitted to 2,048 of them. The residuals of its predictions are a game too, whose
values by KernelSHAP's regression are added (as in Witter et al. 2025, 2506.11849).
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.explainers._coalition_pairs import number_of_pairs
from harness.explainers._coalition_process import (
    RATES,
    CoalitionProcess,
    evenly,
    in_parts,
    log_binomials,
    process_given,
    product_of_signs,
    seen_by_process,
    weights_beside_fitted,
)


def values_of_odd_part(present: Tensor, odd: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Shapley values (n, K) and their standard errors (n, K), from P pairs of each of n games of K players.

    ``present`` (n, P, K) bool has one coalition of each pair, ordered by their sizes, ``odd`` (n, P) float64 half of
    its worth less that of its complement, ``total`` (n,) the worth of all less that of none, to which the values sum. P
    is at least K - 1. Standard errors are NaN where P pairs leave nothing to estimate them from.
    """
    rows = seen_by_process(present.shape[1]) + 1
    return in_parts(_values_and_errors, rows, present, odd, total)


def _values_and_errors(present: Tensor, odd: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """``values_of_odd_part`` of games that fit into memory together."""
    n, pairs, players = present.shape
    signs = present.double() * 2 - 1
    first = evenly(pairs, seen_by_process(pairs)).to(odd.device)
    all_and_first = torch.cat([signs.new_ones(n, 1, players), signs[:, first]], 1)
    seen = torch.cat([total[:, None] / 2, odd[:, first]], 1)
    tables = _tables(players, odd.device)
    process, rate = process_given(all_and_first, seen, tables.between)
    values, errors = _values_of_process(process, tables.with_value[rate], tables.of_value[rate])
    if pairs > len(first):
        fitted = torch.zeros(pairs, dtype=torch.bool, device=odd.device).index_fill_(0, first, True)
        more, errors = _values_of_residuals(signs, odd - process.predicted(signs), fitted)
        values = values + more
    return values + (total - values.sum(1))[:, None] / players, errors  # but for rounding they have this sum


def _values_of_process(process: CoalitionProcess, with_value: Tensor, of_value: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior means and deviations (n, K) of the Shapley values, by the rest of ``_Tables``."""
    signs = process.signs
    absent = signs < 0
    others = absent.sum(2, keepdim=True) - absent.long()  # absent players but for the one whose value it is
    covariance = signs * with_value.gather(1, others.flatten(1)).view_as(signs)
    return process.values(covariance, 2 * torch.eye(signs.shape[2], dtype=signs.dtype, device=signs.device), of_value)


def _values_of_residuals(signs: Tensor, residuals: Tensor, fitted: Tensor) -> tuple[Tensor, Tensor]:
    """KernelSHAP's regression of games whose values sum to 0: values (n, K) and standard errors, whatever the spread.

    Their odd part ``residuals`` (n, P) is that of coalitions ``signs`` (n, P, K), which have the same sizes in all
    games, and of which a process was ``fitted`` to some, (P,) bool.
    """
    players, number_of = signs.shape[2], lambda size: number_of_pairs(signs.shape[2], size)
    of_all = lambda size: (0.5 if 2 * size == players else 1) / (size * (players - size))
    weight, unseen = weights_beside_fitted((signs[0] > 0).sum(1), fitted, of_all, number_of)
    columns = (signs - signs.mean(2, keepdim=True)) / 2
    inverse = torch.linalg.pinv((columns * weight[:, None]).mT @ columns, hermitian=True, rtol=1e-10)
    influence = columns * weight[:, None] @ inverse  # (n, P, K)
    values = (influence.mT @ residuals[..., None])[..., 0]
    rest = (residuals - (columns @ values[..., None])[..., 0]) * unseen.sqrt()
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
