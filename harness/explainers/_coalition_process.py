"""A Gaussian process over coalitions: the posterior of a game, given the worths of some of its coalitions.

With s_i = 1 for a player who is present and -1 for one who is not, a game is

    v(s) = sum over sets T of players of c_T prod_{i in T} s_i.

Here the c_T of single players, and that of no player where the game has a ``level``, are free, as in a regression.
Those of larger sets are drawn from a prior that is the same for all sets of one size: independent normals whose
variance falls by a constant ``rate`` with each player, plus independent noise, for what this prior does not describe.
Given some v(S), the c_T, and so what is linear in them, have a normal posterior in closed form (universal kriging, as
in Cressie 1993): its mean is the estimate, its deviation the standard error. The rate and the noise are those under
which what is seen is most likely (restricted maximum likelihood).

The cost grows with the cube of the number of coalitions.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

RATES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9)
NOISES = (1e-6, 1e-3, 1e-2, 0.1, 1.0)  # variances, relative to the prior variance of v(S) that larger sets cause
FIRST_NOISE = 2  # place in NOISES with which the rates are compared
MIDDLE = (3, 2)  # places in RATES and NOISES where coalitions are too few to choose
EXACT = 1e-9  # added to the variance of v(all), which has no noise, so that matrices are not singular
FREE = 1e8  # the prior variance of a free coefficient
LOOKED_AT = 256  # coalitions, or twice as many as players, by which rate and noise are chosen
LEAST_SPARE = 3  # coalitions that are not needed for the free coefficients
MOST_SEEN = 2048  # coalitions that enter one process, whose cost grows with their cube
AT_ONCE = 2**22  # entries of all matrices of a step: 32 MiB


def seen_by_process(count: int) -> int:
    """How many of the evaluated coalitions the process sees: all, or half or fewer, so that the others correct it."""
    return count if count < 2 * MOST_SEEN else MOST_SEEN


def evenly(count: int, most: int) -> Tensor:
    """At most ``most`` places among ``count``, evenly over all."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long()


def chosen_prior(signs: Tensor, seen: Tensor, between: Tensor, level: bool = False) -> tuple[Tensor, Tensor]:
    """The places (n,) in RATES and NOISES under which what is seen is most likely; first a rate, then a noise.

    ``between`` (rates, K + 1) has a row for each rate; the other arguments are those of ``CoalitionProcess``.
    """
    n, rows, players = signs.shape
    count = min(rows, max(LOOKED_AT, 2 * players))
    rate, noise = (torch.full((n,), place, device=seen.device) for place in MIDDLE)
    if count < players + level + LEAST_SPARE:  # nothing is left to compare them by
        return rate, noise
    looked_at = evenly(rows, count).to(seen.device)
    signs, seen = signs[:, looked_at], seen[:, looked_at]
    noises, differ = torch.tensor(NOISES, device=seen.device), hamming_distances(signs, signs)
    score = lambda rate, noise: CoalitionProcess(
        signs, differ, seen, between[rate], noises[noise], level
    ).log_likelihood()
    of_rates = torch.stack([score(torch.full_like(rate, each), rate * 0 + FIRST_NOISE) for each in range(len(RATES))])
    rate = of_rates.argmax(0)
    of_noises = torch.stack([score(rate, torch.full_like(noise, each)) for each in range(len(NOISES))])
    return rate, of_noises.argmax(0)


def process_given(
    signs: Tensor, seen: Tensor, between: Tensor, level: bool = False
) -> tuple["CoalitionProcess", Tensor]:
    """The process under the prior that ``chosen_prior`` finds, with the place (n,) of its rate in RATES."""
    rate, noise = chosen_prior(signs, seen, between, level)
    noises = torch.tensor(NOISES, device=seen.device)
    differ = hamming_distances(signs, signs)
    return CoalitionProcess(signs, differ, seen, between[rate], noises[noise], level), rate


def in_parts(solve: Callable[..., tuple[Tensor, Tensor]], rows: int, *games: Tensor) -> tuple[Tensor, Tensor]:
    """The values (n, K) and errors (n, K) that ``solve`` finds for as many games at once as fit into memory.

    ``games`` are what it takes, (n, ...) each, and ``rows`` the coalitions of a process.
    """
    splits = (each.split(max(1, AT_ONCE // rows**2)) for each in games)
    values, errors = zip(*(solve(*some) for some in zip(*splits, strict=True)), strict=True)
    return torch.cat(values), torch.cat(errors)


def weights_beside_fitted(
    sizes: Tensor, fitted: Tensor, of_all: Callable[[int], float], number_of: Callable[[int], int]
) -> tuple[Tensor, Tensor]:
    """The weights (R,) of coalitions of these sizes, and the share (R,) of what each represents that was not seen.

    All coalitions of a size, ``number_of(size)``, weigh ``of_all(size)``. One that a process was ``fitted`` to, (R,)
    bool, has its own weight. The others share the weight of all that it was not fitted to.
    """
    weights, unseen = torch.zeros(2, len(sizes), dtype=torch.float64, device=sizes.device)
    for size in sizes.unique().tolist():
        there, number = sizes == size, number_of(size)
        others = there & ~fitted
        count, of_fitted = int(others.sum()), int((there & fitted).sum())
        weights[there] = of_all(size) * (1 / number)  # of very many players 0: numbers are beyond floats
        if count:
            weights[others] = of_all(size) * (1 - of_fitted / number) / count
            unseen[others] = 1 - count / (number - of_fitted)  # where all are seen, nothing is left to chance
    return weights, unseen


def hamming_distances(signs: Tensor, others: Tensor) -> Tensor:
    """Hamming distances (n, M, R) of coalitions (n, M, K) and (n, R, K), given as signs."""
    return ((signs.shape[2] - signs @ others.mT) / 2).round_().long()


class CoalitionProcess:
    """A process for n games, given what is seen of each: the first row is that of all players.

    signs    (n, R, K) of the coalitions, float64
    differ   (n, R, R) in how many players two of them differ
    seen     (n, R) their worths
    between  (n, K + 1) covariance of the worths of two coalitions but for what is free, by ``differ``
    noise    (n,) its variance
    level    whether the worth of an average coalition is free too: the first of the C free coefficients, C = K + 1 and
             not K
    """

    def __init__(
        self, signs: Tensor, differ: Tensor, seen: Tensor, between: Tensor, noise: Tensor, level: bool = False
    ):
        self.signs, self.between, self.level = signs, between, level
        covariance = self._covariance(differ)
        own = covariance.diagonal(dim1=1, dim2=2)
        own[:, 0] += EXACT
        own[:, 1:] += noise.to(covariance)[:, None]
        self.factor = torch.linalg.cholesky(covariance)
        # All in units in which the rows of the process are independent.
        free = self._of_free(signs)
        self.free = torch.linalg.solve_triangular(self.factor, free, upper=False)
        self.whitened = torch.linalg.solve_triangular(self.factor, seen[..., None], upper=False)
        ridge = torch.eye(free.shape[2], dtype=signs.dtype, device=signs.device) / FREE
        self.precision = torch.linalg.cholesky(self.free.mT @ self.free + ridge)  # of the free coefficients
        self.coefficients = torch.cholesky_solve(self.free.mT @ self.whitened, self.precision)
        self.rest = self.whitened - self.free @ self.coefficients
        self.spare = signs.shape[1] - free.shape[2]

    def _of_free(self, signs: Tensor) -> Tensor:
        """What the free coefficients are multiplied by, (n, M, C)."""
        return torch.cat([torch.ones_like(signs[..., :1]), signs], -1) if self.level else signs

    def _covariance(self, differ: Tensor) -> Tensor:
        """Of the worths of coalitions that differ in so many players."""
        return self.between.gather(1, differ.flatten(1)).view(differ.shape)

    def log_likelihood(self) -> Tensor:
        """The restricted log likelihood (n,) of what is seen, but for a constant, at the most likely scale."""
        left = self.rest.square().sum((1, 2)).clamp(min=1e-300)
        sizes = sum(each.diagonal(dim1=1, dim2=2).log().sum(1) for each in (self.factor, self.precision))
        return -(self.spare * left.log() / 2 + sizes)

    def predicted(self, signs: Tensor) -> Tensor:
        """The posterior means (n, M) of the worths of other coalitions ``signs`` (n, M, K)."""
        weights = torch.linalg.solve_triangular(self.factor.mT, self.rest, upper=True)
        part_of = lambda some: (
            self._covariance(hamming_distances(some, self.signs)) @ weights + self._of_free(some) @ self.coefficients
        )
        return torch.cat([part_of(some) for some in signs.split(MOST_SEEN, 1)], 1)[..., 0]

    def values(self, covariance: Tensor, of_free: Tensor, of_value: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means and deviations (n, V) of V numbers that are linear in the game.

        ``covariance`` (n, R, V) is that with the rows, ``of_free`` (C, V) what they get of each free coefficient, and
        ``of_value`` (n,) their variance, both but for what is free. Deviations are NaN where too few rows are left.
        """
        known = torch.linalg.solve_triangular(self.factor, covariance, upper=False)
        values = (of_free.mT @ self.coefficients)[..., 0] + (known.mT @ self.rest)[..., 0]
        left = self.rest.square().sum((1, 2))
        scale = left / self.spare if self.spare >= LEAST_SPARE else torch.full_like(left, math.nan)
        variance = self._variances(known, of_free, of_value)
        return values, (scale[:, None] * variance.clamp(min=0)).sqrt()

    def variances(self, covariance: Tensor, of_free: Tensor, of_value: Tensor) -> Tensor:
        """The squares of the deviations of ``values`` at a scale of 1, (n, V): they do not depend on what is seen."""
        known = torch.linalg.solve_triangular(self.factor, covariance, upper=False)
        return self._variances(known, of_free, of_value)

    def _variances(self, known: Tensor, of_free: Tensor, of_value: Tensor) -> Tensor:
        unexplained = of_free - self.free.mT @ known
        of_unexplained = torch.linalg.solve_triangular(self.precision, unexplained, upper=False).square().sum(1)
        return of_value[:, None] - known.square().sum(1) + of_unexplained


def log_binomials(of: int, some: np.ndarray) -> np.ndarray:
    """The logarithms of the numbers of ways to choose ``some`` of so many."""
    return np.array([math.lgamma(of + 1) - math.lgamma(each + 1) - math.lgamma(of - each + 1) for each in some])


def product_of_signs(players: int, minus: np.ndarray, by: np.ndarray | float, scale: float) -> np.ndarray:
    """exp(scale) times prod_i (1 + by t_i), of signs t of which so many are -1.

    It is the sum over all sets T of by^|T| prod_{i in T} t_i.
    """
    return np.exp((players - minus) * np.log1p(by) + minus * np.log1p(-by) + scale)
