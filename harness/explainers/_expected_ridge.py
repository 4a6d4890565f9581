"""LIME's coefficients from fewer evaluations: those of its expected regression, by a Gaussian process over coalitions.

LIME's M coalitions are that of all players and M - 1 in which each of K players is present with probability 1/2. With
the weight w(S) of a coalition, which depends on its size alone, the sum that its regression minimises has the
expectation

    (M - 1) mean over all S of w(S) (v(S) - b_0 - sum over S of b_i)^2 + (v(all) - b_0 - sum of b_i)^2 + penalty |b|^2.

The b that minimise it are the target here. Its normal equations have one eigenvalue for all differences of players and
one for their mean, so that b is known in closed form, and linear in the game:

    b_i = mean over all S of g(i in S, other players in S) v(S), and some share of v(all).

The prior is that of ``harness.explainers._coalition_process`` with a free level. Without the effects of level and
single players, the covariance of b_i and v(S) is the mean of g over noisy copies of S, in which each player changes
sides with probability (1 - rate) / 2 (the noise operator: O'Donnell 2014, Analysis of Boolean Functions, 2.4). So the
posterior of b is normal and in closed form, over all coalitions. It is exact for a game that is a sum of players'
contributions.

From 4,096 coalitions on, the process is fitted to 2,048 of them. The residuals of its predictions are a game too. The
coefficients of this game, estimated from the other coalitions, are added.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.explainers._coalition_process import (
    NOISES,
    RATES,
    CoalitionProcess,
    evenly,
    hamming_distances,
    in_parts,
    log_binomials,
    process_given,
    product_of_signs,
    seen_by_process,
    weights_beside_fitted,
)

DESIGN_PRIOR = (0, 2)  # places in RATES and NOISES under which designs are compared


def coalition_weights(masks: Tensor, width: float) -> Tensor:
    """The weights (n, M) float64 of coalitions (n, M, K): they fall with the cosine distance 1 - sqrt(sum z / K)."""
    distance = 1 - masks.double().mean(-1).sqrt()
    return torch.exp(-(distance**2) / (2 * width**2))


def ridge(masks: Tensor, weights: Tensor, worth: Tensor, alpha: float) -> Tensor:
    """Coefficients (n, K) of weighted ridge regressions, with intercepts, of worths (n, M) on masks (n, M, K), in
    float64.

    Where the masks leave a direction undetermined and ``alpha`` is 0, the coefficient along it is 0.
    """
    present, share = masks.double(), (weights / weights.sum(-1, keepdim=True))[..., None]
    centred = (present - (share * present).sum(1, keepdim=True)) * weights.sqrt()[..., None]
    rest = (worth[..., None] - (share * worth[..., None]).sum(1, keepdim=True)) * weights.sqrt()[..., None]
    gram = centred.mT @ centred + alpha * torch.eye(masks.shape[-1], dtype=torch.float64, device=masks.device)
    return (torch.linalg.pinv(gram, hermitian=True, rtol=1e-10) @ (centred.mT @ rest))[..., 0]


@dataclass(frozen=True)
class ExpectedRidge:
    """The expectation of LIME's regression.

    players  K, two or more
    draws    M, with the coalition of all players
    width    of the weights
    penalty  on squared coefficients
    """

    players: int
    draws: int
    width: float
    penalty: float

    def weights(self) -> np.ndarray:
        """The weight (K + 1,) of one coalition of each size."""
        sizes = torch.arange(self.players) < torch.arange(self.players + 1)[:, None]
        return coalition_weights(sizes[None], self.width)[0].numpy()

    def of_sizes(self) -> np.ndarray:
        """The expected weight (K + 1,) of all draws of each size."""
        chance = np.exp(log_binomials(self.players, np.arange(self.players + 1)) - self.players * math.log(2))
        return (self.draws - 1) * self.weights() * chance

    def shares(self) -> Mapping[int, float]:
        """What the coalitions of each size weigh, of all sizes but the largest, whose coalition is always there."""
        return dict(enumerate(self.of_sizes()[:-1].tolist()))

    def weights_beside(self, sizes: Tensor, fitted: Tensor) -> tuple[Tensor, Tensor]:
        """``weights_beside_fitted`` of coalitions of these sizes (R,), of which the first is that of all players."""
        of_sizes = self.of_sizes()
        number_of = lambda size: math.comb(self.players, size)
        weights, unseen = weights_beside_fitted(sizes, fitted, lambda size: float(of_sizes[size]), number_of)
        weights[0] += 1  # beside its share of the draws
        return weights, unseen

    def density(self) -> tuple[np.ndarray, float]:
        """g (2, K), by whether a player is present and how many others are, and the share of v(all)."""
        players, sizes, with_all = self.players, np.arange(self.players + 1), self.of_sizes()
        with_all[-1] += 1
        middle = (with_all @ sizes) / with_all.sum()
        apart = with_all @ (sizes * (players - sizes)) / (players * (players - 1))  # the eigenvalue of differences
        together = with_all @ (sizes - middle) ** 2 / players  # that of the mean
        others = np.arange(players)
        size = np.stack([others, others + 1])
        of_one = size / players
        deviation = (np.array([[0.0], [1.0]]) - of_one) / (apart + self.penalty)
        mean = (of_one - middle / players) / (together + self.penalty)
        of_all = (1 - middle / players) / (together + self.penalty)
        return (self.draws - 1) * self.weights()[size] * (deviation + mean), of_all


def coefficients_of_process(present: Tensor, worth: Tensor, target: ExpectedRidge) -> tuple[Tensor, Tensor]:
    """The target's coefficients (n, K) and their standard errors (n, K), from the worths of R coalitions.

    ``present`` (n, R, K) bool are the coalition of all players and other ones, ordered by their sizes, which are the
    same in all games where R is so large that a process does not see all of them; ``worth`` (n, R) is float64. R is at
    least K + 1. Standard errors are NaN where too few coalitions are left to estimate them from.
    """
    rows = seen_by_process(present.shape[1])
    return in_parts(lambda *game: _coefficients_and_errors(*game, target), rows, present, worth - worth[:, :1])


def _coefficients_and_errors(present: Tensor, worth: Tensor, target: ExpectedRidge) -> tuple[Tensor, Tensor]:
    """``coefficients_of_process`` of games that fit into memory together."""
    rows, device = present.shape[1], worth.device
    signs = present.double() * 2 - 1
    first = evenly(rows, seen_by_process(rows)).to(device)
    tables = _ridge_tables(target, device)
    process, rate = process_given(signs[:, first], worth[:, first], tables.between, level=True)
    covariance = _covariance_with_coefficients(present[:, first], tables.with_value[rate])
    values, errors = process.values(covariance, tables.of_free, tables.of_value[rate])
    if rows > len(first):
        fitted = torch.zeros(rows, dtype=torch.bool, device=device).index_fill_(0, first, True)
        more, errors = _coefficients_of_residuals(present, worth - process.predicted(signs), fitted, target)
        values = values + more
    return values, errors


def _covariance_with_coefficients(present: Tensor, with_value: Tensor) -> Tensor:
    """Of coefficients and the worths of coalitions (n, R, K), the same shape, from tables (n, 2, K)."""
    others = present.sum(2, keepdim=True) - present.long()  # present players but for the one whose coefficient it is
    place = present.long() * present.shape[2] + others
    return with_value.flatten(1).gather(1, place.flatten(1)).view(present.shape)


def variance_of_coefficients(present: Tensor, target: ExpectedRidge) -> float:
    """The mean posterior variance of coefficients, under ``DESIGN_PRIOR``, given worths of coalitions (n, R, K)."""
    tables, signs = _ridge_tables(target, present.device), present.double() * 2 - 1
    rate, noise = (torch.full((len(signs),), place) for place in DESIGN_PRIOR)
    between, noises = tables.between[rate], torch.tensor(NOISES, device=present.device)[noise]
    nothing = torch.zeros_like(signs[..., 0])
    process = CoalitionProcess(signs, hamming_distances(signs, signs), nothing, between, noises, level=True)
    covariance = _covariance_with_coefficients(present, tables.with_value[rate])
    return float(process.variances(covariance, tables.of_free, tables.of_value[rate]).mean())


def exact_coefficients(present: Tensor, worth: Tensor, target: ExpectedRidge) -> Tensor:
    """The target's coefficients (n, K) from the worths (n, 2^K) of all coalitions, the first that of all players."""
    weights = coalition_weights(present, target.width) * (target.draws - 1) / present.shape[1]
    weights[:, 0] += 1
    return ridge(present, weights, worth, target.penalty)


def _coefficients_of_residuals(
    present: Tensor, residuals: Tensor, fitted: Tensor, target: ExpectedRidge
) -> tuple[Tensor, Tensor]:
    """The target's coefficients (n, K) and standard errors (n, K) of a game with worths ``residuals`` (n, R), without
    prior.

    The process was ``fitted`` to some of the coalitions, (R,) bool.
    """
    weights, unseen = target.weights_beside(present[0].sum(1), fitted)
    values = ridge(present, weights.expand(len(present), -1), residuals, target.penalty)
    columns = present.double() - (weights @ present.double() / weights.sum())[:, None]
    gram = (columns * weights[:, None]).mT @ columns
    gram = gram + target.penalty * torch.eye(target.players, dtype=torch.float64, device=residuals.device)
    influence = columns * weights[:, None] @ torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)
    level = (residuals - (columns @ values[..., None])[..., 0]) @ weights / weights.sum()
    rest = (residuals - level[:, None] - (columns @ values[..., None])[..., 0]) * unseen.sqrt()
    return values, (influence * rest[..., None]).square().sum(1).sqrt()


class _RidgeTables(NamedTuple):
    """Covariances under the prior for each of RATES, in units of the variance of the worth of one coalition.

    Of sets of two players and more: level and single players are no part of them.

    between     (rates, K + 1) of the worths of two coalitions, by the number of players in which they differ
    with_value  (rates, 2, K) of a coefficient and the worth of a coalition, by whether the player is present and how
                many others are
    of_value    (rates,) the variance of a coefficient
    of_free     (K + 1, K) the coefficients of games in which only the level, or only one player's c_T, is 1
    """

    between: Tensor
    with_value: Tensor
    of_value: Tensor
    of_free: Tensor


@lru_cache
def _ridge_tables(target: ExpectedRidge, device: torch.device) -> _RidgeTables:
    columns = zip(*(_larger_sets(target, rate) for rate in RATES), strict=True)
    tables = [torch.tensor(np.stack(each), device=device) for each in columns]
    level, own, of_other = _level_and_singles(target)
    of_free = np.full((target.players + 1, target.players), of_other)
    of_free[0], of_free[1:][np.diag_indices(target.players)] = level, own
    return _RidgeTables(*tables, torch.tensor(of_free, device=device))


def _level_and_singles(target: ExpectedRidge) -> tuple[float, float, float]:
    """A coefficient in games of a level of 1, of its player's own c_T of 1, and of another one's."""
    density, of_all = target.density()
    chance = _chances_of_sizes(target.players - 1, 0.0)[0] / 2
    others = 2 * np.arange(target.players) - (target.players - 1)  # the sum of the other players' signs
    level, own = chance @ density.sum(0), chance @ (density[1] - density[0])
    of_other = (chance * others) @ density.sum(0) / (target.players - 1)
    return level + of_all, own + of_all, of_other + of_all


def _larger_sets(target: ExpectedRidge, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row of each table of ``_RidgeTables`` but the last.

    The sum over all sets T of rate^|T| prod_{i in T} s_i t_i is prod_i (1 + rate s_i t_i), which is 2^K times the
    chance of t as a noisy copy of s.
    """
    players = target.players
    sizes, others, differ = np.arange(2, players + 1), np.arange(players), np.arange(players + 1)
    scale = -np.logaddexp.reduce(sizes * math.log(rate) + log_binomials(players, sizes))
    between = product_of_signs(players, differ, rate, scale) - (1 + rate * (players - 2 * differ)) * np.exp(scale)
    density, of_all = target.density()
    absent, present = density @ _chances_of_sizes(players - 1, rate).T
    stays, changes = (1 + rate) / 2, (1 - rate) / 2
    copies = np.stack([stays * absent + changes * present, changes * absent + stays * present])
    level, own, of_other = (each - of_all for each in _level_and_singles(target))
    signs = 2 * others - (players - 1)
    small = level + rate * (np.array([[-own], [own]]) + of_other * signs)
    with_value = (copies - small) * np.exp(scale) + of_all * between[np.stack([players - others, players - 1 - others])]
    of_value = (_chances_of_sizes(players - 1, 0.0)[0] / 2 * density * with_value).sum() + of_all * with_value[1, -1]
    return between, with_value, np.array(of_value)


def _chances_of_sizes(players: int, rate: float) -> np.ndarray:
    """The chances (K + 1, K + 1) of the size of a noisy copy of a coalition, a row for each size of the coalition."""
    stays, changes = (1 + rate) / 2, (1 - rate) / 2
    binomial = lambda count, chance: np.exp(
        log_binomials(count, np.arange(count + 1))
        + np.arange(count + 1) * math.log(chance)
        + np.arange(count, -1, -1) * math.log1p(-chance)
    )
    return np.stack(
        [np.convolve(binomial(size, stays), binomial(players - size, changes)) for size in range(players + 1)]
    )
