"""Shapley values from the worths of pairs of complementary coalitions, by a Gaussian process over coalitions.

Shapley values depend only on the odd part of a game, o(S) = (v(S) - v(rest)) / 2 (Fumagalli et al. 2026, 2602.01399),
and a pair of complements shows it without error. With s_i = 1 for a player who is present and -1 for one who is not,

    o(s) = sum over sets T of an odd number of players of c_T prod_{i in T} s_i,   value_i = 2 sum_{T with i} c_T / |T|.

Here the c_T of single players are free, as in KernelSHAP's regression, and those of larger sets are drawn from a prior
that is the same for all sets of one size: independent normals whose variance falls by a constant ``rate`` with each
player, beside noise for what no such game has. Given some o(S), the c_T, and so the values, have a normal posterior in
closed form (universal kriging, as in Cressie 1993): its mean is the estimate, its deviation the standard error. The
rate and the noise are those under which what is seen is most likely (restricted maximum likelihood).

The cost grows with the cube of the number of pairs. Of very many some have a process, and what it predicts wrongly of
the others is a game of its own, whose values, by KernelSHAP's regression, are added (as in Witter et al. 2025,
2506.11849).
"""

import math
from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.explainers._coalition_pairs import number_of_pairs

RATES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9)
NOISES = (1e-6, 1e-3, 1e-2, 0.1, 1.0)  # variances, in those of the part of o(S) that is due to larger sets
FIRST_NOISE, MIDDLE = 2, (3, 2)  # places in NOISES, and in RATES and NOISES: at first, and where nothing can be chosen
EXACT = 1e-9  # the variance of the noise of o(all), which has none: what keeps matrices regular
FREE = 1e8  # the prior variance of a single player's coefficient
LOOKED_AT = 256  # pairs, or twice as many as players, by which rate and noise are chosen
LEAST_SPARE = 3  # pairs that are not needed for the coefficients of single players
MOST_PAIRS = 2048  # that enter one process, whose cost grows with their cube
AT_ONCE = 2**22  # entries of all matrices of a step: 32 MiB


def values_of_odd_part(present: Tensor, odd: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Shapley values (n, K) and their standard errors (n, K), from P pairs of each of n games of K players.

    ``present`` (n, P, K) bool has one coalition of each pair, ordered by their sizes, ``odd`` (n, P) float64 half of
    its worth less that of its complement, ``total`` (n,) the worth of all less that of none, to which the values sum. P
    is at least K - 1. Standard errors are NaN where P pairs leave nothing to estimate them from.
    """
    rows = _pairs_of_process(present.shape[1]) + 1
    games = (each.split(max(1, AT_ONCE // rows**2)) for each in (present, odd, total))
    parts = [_values_and_errors(*game) for game in zip(*games, strict=True)]
    return torch.cat([values for values, _ in parts]), torch.cat([errors for _, errors in parts])


def _values_and_errors(present: Tensor, odd: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """``values_of_odd_part`` of games that fit into memory together."""
    n, pairs, players = present.shape
    signs = present.double() * 2 - 1
    first = _evenly(pairs, _pairs_of_process(pairs)).to(odd.device)
    all_and_first = torch.cat([signs.new_ones(n, 1, players), signs[:, first]], 1)
    seen = torch.cat([total[:, None] / 2, odd[:, first]], 1)
    rate, noise = _chosen_prior(all_and_first, seen)
    tables = _tables(players, odd.device)
    differ = _players_apart(all_and_first, all_and_first)
    process = _Process(
        all_and_first, differ, seen, tables.between[rate], torch.tensor(NOISES, device=odd.device)[noise]
    )
    values, errors = process.values(tables.with_value[rate], tables.of_value[rate])
    if pairs > len(first):
        known = torch.zeros(pairs, dtype=torch.bool, device=odd.device).index_fill_(0, first, True)
        more, errors = _regression(signs, odd - process.predicted(signs), known)
        values = values + more
    return values + (total - values.sum(1))[:, None] / players, errors  # but for rounding they have this sum


def _pairs_of_process(pairs: int) -> int:
    """How many of the pairs have the process: all, or half of them or fewer, so that the others can correct it."""
    return pairs if pairs < 2 * MOST_PAIRS else MOST_PAIRS


def _evenly(count: int, most: int) -> Tensor:
    """At most ``most`` places among ``count``, evenly over all."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long()


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


def _chosen_prior(signs: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The places (n,) in RATES and NOISES under which what is seen is most likely; first a rate, then a noise."""
    n, rows, players = signs.shape
    count = min(rows, max(LOOKED_AT, 2 * players))
    rate, noise = (torch.full((n,), place, device=seen.device) for place in MIDDLE)
    if count < players + LEAST_SPARE:  # nothing is left to compare them by
        return rate, noise
    looked_at = _evenly(rows, count).to(seen.device)
    signs, seen, between = signs[:, looked_at], seen[:, looked_at], _tables(players, seen.device).between
    noises, differ = torch.tensor(NOISES, device=seen.device), _players_apart(signs, signs)
    score = lambda rate, noise: _Process(signs, differ, seen, between[rate], noises[noise]).log_likelihood()
    of_rates = torch.stack([score(torch.full_like(rate, each), rate * 0 + FIRST_NOISE) for each in range(len(RATES))])
    rate = of_rates.argmax(0)
    of_noises = torch.stack([score(rate, torch.full_like(noise, each)) for each in range(len(NOISES))])
    return rate, of_noises.argmax(0)


def _players_apart(signs: Tensor, others: Tensor) -> Tensor:
    """In how many players coalitions (n, M, K) differ from others (n, R, K), (n, M, R)."""
    return ((signs.shape[2] - signs @ others.mT) / 2).round_().long()


class _Process:
    """A Gaussian process for n games, given what is seen of each: the first row is that of all players.

    signs    (n, R, K) of the coalitions, float64
    differ   (n, R, R) in how many players two of them differ
    seen     (n, R) the odd part of their worths
    between  (n, K + 1) covariance of the odd part of two coalitions without that of single players, by ``differ``
    noise    (n,) its variance
    """

    def __init__(self, signs: Tensor, differ: Tensor, seen: Tensor, between: Tensor, noise: Tensor):
        players = signs.shape[2]
        self.signs, self.between = signs, between
        covariance = self._covariance(differ)
        own = covariance.diagonal(dim1=1, dim2=2)
        own[:, 0] += EXACT
        own[:, 1:] += noise.to(covariance)[:, None]
        self.factor = torch.linalg.cholesky(covariance)
        # All in units in which the rows of the process are independent.
        self.singles = torch.linalg.solve_triangular(self.factor, signs, upper=False)
        self.whitened = torch.linalg.solve_triangular(self.factor, seen[..., None], upper=False)
        ridge = torch.eye(players, dtype=signs.dtype, device=signs.device) / FREE
        gram = self.singles.mT @ self.singles + ridge
        self.precision = torch.linalg.cholesky(gram)  # of single players' coefficients
        self.coefficients = torch.cholesky_solve(self.singles.mT @ self.whitened, self.precision)
        self.rest = self.whitened - self.singles @ self.coefficients
        self.spare = signs.shape[1] - players

    def _covariance(self, differ: Tensor) -> Tensor:
        """Of the odd part of coalitions that differ in so many players."""
        return self.between.gather(1, differ.flatten(1)).view(differ.shape)

    def log_likelihood(self) -> Tensor:
        """The restricted log likelihood (n,) of what is seen, but for a constant, at the most likely scale."""
        left = self.rest.square().sum((1, 2)).clamp(min=1e-300)
        sizes = sum(each.diagonal(dim1=1, dim2=2).log().sum(1) for each in (self.factor, self.precision))
        return -(self.spare * left.log() / 2 + sizes)

    def predicted(self, signs: Tensor) -> Tensor:
        """The posterior means (n, M) of the odd part of other coalitions ``signs`` (n, M, K)."""
        weights = torch.linalg.solve_triangular(self.factor.mT, self.rest, upper=True)
        part_of = lambda some: self._covariance(_players_apart(some, self.signs)) @ weights + some @ self.coefficients
        return torch.cat([part_of(some) for some in signs.split(MOST_PAIRS, 1)], 1)[..., 0]

    def values(self, with_value: Tensor, of_value: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means and deviations (n, K) of the Shapley values, by the rest of ``_Tables``."""
        players = self.signs.shape[2]
        absent = self.signs < 0
        others = absent.sum(2, keepdim=True) - absent.long()  # absent players but for the one whose value it is
        covariance = self.signs * with_value.gather(1, others.flatten(1)).view_as(self.signs)
        known = torch.linalg.solve_triangular(self.factor, covariance, upper=False)
        values = 2 * self.coefficients[..., 0] + (known.mT @ self.rest)[..., 0]
        left = self.rest.square().sum((1, 2))
        scale = left / self.spare if self.spare >= LEAST_SPARE else torch.full_like(left, math.nan)
        unexplained = 2 * torch.eye(players, dtype=known.dtype, device=known.device) - self.singles.mT @ known
        of_singles = torch.linalg.solve_triangular(self.precision, unexplained, upper=False).square().sum(1)
        variance = of_value[:, None] - known.square().sum(1) + of_singles
        return values, (scale[:, None] * variance.clamp(min=0)).sqrt()


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
    chosen = lambda of, some: np.array(
        [math.lgamma(of + 1) - math.lgamma(each + 1) - math.lgamma(of - each + 1) for each in some]
    )
    of_sizes = sizes * math.log(rate) + chosen(players, sizes)
    if not len(sizes):
        return np.zeros(players + 1), np.zeros(players), np.zeros(())
    scale = -np.logaddexp.reduce(of_sizes)
    product = lambda of, minus, by: np.exp((of - minus) * np.log1p(by) + minus * np.log1p(-by) + scale)
    between = (product(players, differ, rate) - product(players, players - differ, rate)) / 2
    between -= rate * (players - 2 * differ) * np.exp(scale)
    at, weight = np.polynomial.legendre.leggauss(players // 2 + 1)
    by = rate * (at[:, None] + 1) / 2
    even = (product(players - 1, absent, by) + product(players - 1, players - 1 - absent, by)) / 2
    with_value = 2 * rate * ((weight[:, None] / 2 * even).sum(0) - np.exp(scale))
    own = 4 * np.exp(sizes * math.log(rate) + chosen(players - 1, sizes - 1) - 2 * np.log(sizes) + scale).sum()
    return between, with_value, np.array(own)
