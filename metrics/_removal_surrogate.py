"""Mean squared errors over random removals from fewer evaluations: a surrogate of the change, and what it misses.

The plain estimate is the mean of (P - D)^2 over the M removals that the model was evaluated on, with the change P that
attributions predict and the change D of the output. Here a Gaussian process is fitted to D. It predicts D for all
removals, or for as many new ones as wanted, where P is known too. So the means over all removals of P^2 and, with D'
for the predicted changes, of D'^2 - 2 P D' are known: they are control variates (Owen 2013, Monte Carlo theory, chapter
8). For the evaluated removals D' is the leave-one-out prediction. The plain estimate is corrected by

    b (E P^2 - mean of P^2) + c (E (D'^2 - 2 P D') - mean of D'^2 - 2 P D'),

with E over all removals, means over the evaluated ones, and the least-squares coefficients b and c of the squared
errors on the two controls. They are shrunk towards 1 (ridge regression), which would be right if D' were D. The
estimate is unbiased but for what the fit and the coefficients cost.

If all removals can be listed, those that were evaluated enter with their own changes. Once all are, the value is exact.

The process has effects of single places and of pairs. For squares the effects of near places are correlated: their
covariance falls exponentially with the distance. The covariance of two squares is the sum over all pairs of their
places. The process does not use attributions, so that all explainers are treated alike, and it is fitted once for all
of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.messages import say, sign_of_life
from harness.metrics._sets import pack, set_sums
from harness.metrics._squares import count_squares, square_sums, squares_numbered
from harness.metrics._subset_surrogate import (
    LEVEL,
    covariance_of_sets,
    fits_leaving_one_out,
    signs_of_sets,
)
from harness.randomness import bits, integers
from harness.samples import Samples

LISTED = 2**14  # all removals are predicted if they are at most this many
NEW = 2**13  # otherwise so many new ones are drawn, or twice as many as were evaluated, if that is more
MOST_MISSED = 0.5  # share of the variance of the changes that the surrogate may miss, with very many draws, to be used
SPENT = 45  # with M draws it may miss (1 - SPENT / M) times that share, since the fit itself costs accuracy
MOST = 1024  # evaluated removals that enter the process, whose cost grows with the cube of their number
REACHES = (0.0, 1 / 28, 3 / 28)  # distance at which places are alike by 1 / e, as a share of the shortest axis
CURVATURES = (0.0, 0.3, 1.0, 4.0)  # variance of pairs' effects, as a share of that of single places' effects
NOISES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)  # variance as a share of that of the effects
PRIOR_DRAWS = 0.1  # weight of the prior value 1 of a control's coefficient, in evaluated removals
JITTER = 1e-9  # on the diagonal of the controls' correlations, so that two may be equal
PART = 2**20  # covariances that are held at once in a prediction

Covariance = Callable[[Tensor, Tensor], Tensor]  # removals (A, K) and (B, K) -> (A, B)


class Removals(Protocol):
    """Removals of N samples: those that the model was evaluated on, and others.

    drawn   (N, M, K) a description of each evaluated one
    others  (N or 1, R, K) of others: all there are, or new ones, or none if they cannot be predicted
    listed  whether the others are all there are, each of them once
    level   prior variance of a constant that is added to the changes
    """

    drawn: Tensor
    others: Tensor
    listed: bool
    level: float

    def sums(self, values: Tensor) -> Tensor:
        """The sums (N, R) of values (N, *units) within the others, float64."""

    def covariances(self, seen: Tensor) -> Iterator[Covariance]:
        """The prior covariances to choose from, but for the level, for a process that is fitted to some removals."""


@dataclass(frozen=True)
class Squares:
    """Squares on units of this shape, described as in ``harness.metrics._squares``."""

    drawn: Tensor
    others: Tensor
    listed: bool
    shape: tuple[int, ...]
    level: float = 0.0  # the smaller a square, the smaller its change

    def sums(self, values: Tensor) -> Tensor:
        """The sums (N, R) of values (N, *units) within the others, float64."""
        return square_sums(values, self.others)

    def covariances(self, seen: Tensor) -> Iterator[Covariance]:
        """Those with the reach of places and the effects of pairs to choose from."""
        for share in REACHES:
            tables = [_cumulated_covariance(length, share * min(self.shape), seen.device) for length in self.shape]
            for curvature in CURVATURES:
                yield _covariance_of_squares(tables, seen, curvature)


@dataclass(frozen=True)
class RandomSubsets:
    """Sets that hold each unit with probability 1/2, described by their bytes (``harness.metrics._sets.pack``)."""

    drawn: Tensor
    others: Tensor
    listed: bool
    units: int
    level: float = LEVEL

    def sums(self, values: Tensor) -> Tensor:
        """The sums (N, R) of values (N, *units) within the others, float64."""
        return set_sums(values.flatten(1), self.others.expand(len(values), -1, -1))

    def covariances(self, seen: Tensor) -> Iterator[Covariance]:
        """Those with the effects of pairs to choose from."""
        everyone = torch.ones(self.units, dtype=torch.bool, device=seen.device)
        for curvature in CURVATURES:
            yield lambda first, second, curvature=curvature: covariance_of_sets(
                signs_of_sets(first, everyone), signs_of_sets(second, everyone), curvature
            )


def with_other_squares(samples: Samples, drawn: Tensor, largest: int) -> Squares:
    """The drawn squares (N, M, axes + 1) of side 1 to ``largest``, with others."""
    shape = samples.units.shape
    count = count_squares(shape, largest)
    numbers = _numbers_of_others(samples, count, drawn.shape[1], "other squares")
    return Squares(drawn, squares_numbered(numbers, shape, largest), count <= LISTED, shape)


def with_other_subsets(samples: Samples, drawn: Tensor) -> RandomSubsets:
    """The drawn packed sets (N, M, bytes) of units, with others; none if units are more than the draws that enter the
    process, which do not tell the effect of each."""
    units = samples.units.count
    if units > min(drawn.shape[1], MOST):
        return RandomSubsets(drawn, drawn[:1, :0], False, units)
    if 2**units <= LISTED:
        numbers = torch.arange(2**units, device=drawn.device)[:, None]
        return RandomSubsets(
            drawn, pack((numbers >> torch.arange(units, device=drawn.device) & 1).bool())[None], True, units
        )
    count = max(NEW, 2 * drawn.shape[1])
    words = bits(samples.stream("other subsets"), -(-count * drawn.shape[2] // 8))
    others = words.view(torch.uint8)[:, : count * drawn.shape[2]].view(len(samples), count, -1)
    spare = torch.arange(drawn.shape[2] * 8, device=drawn.device) < units
    return RandomSubsets(drawn, others & pack(spare), False, units)


def _numbers_of_others(samples: Samples, count: int, draws: int, use: str) -> Tensor:
    """The numbers (1, count) of all removals, or random ones (N, R) if they are too many to be listed."""
    if count <= LISTED:
        return torch.arange(count, device=samples.inputs.device)[None]
    return integers(samples.stream(use), count, max(NEW, 2 * draws))


@dataclass(frozen=True)
class PredictedChanges:
    """The surrogate's predictions of N samples' changes of the output.

    changes    (N, M) float64, the changes by the evaluated removals
    used       (N,) bool, whether the surrogate is used
    distinct   (N, M) bool, False for an evaluated removal that repeats an earlier one
    left_out   (N, M) float64, leave-one-out predictions: each evaluated change, predicted without its own output
    predicted  (N, R) float64, the changes predicted for the other removals
    unseen     (N, R) bool, True for those of the other removals that were not evaluated
    """

    changes: Tensor
    used: Tensor
    distinct: Tensor
    left_out: Tensor
    predicted: Tensor
    unseen: Tensor

    def mean(self, values: Tensor, controls: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
        """The mean (N,) of values (N, M) over the different evaluated removals; with controls, that over all removals.

        Each control is known or predicted for all removals: (N, M) for the evaluated and (N, R) for the other ones.
        Coefficients of 1 are expected: values are the sum of the controls and a rest that they do not predict.
        """
        mean = _mean_where(self.distinct, values)
        if not controls:
            return mean
        correction = [self.mean_of_all(*each) - _mean_where(self.distinct, each[0]) for each in controls]
        return mean + (self._coefficients(values, controls) * torch.stack(correction, 1)).sum(1)

    def _coefficients(self, values: Tensor, controls: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Ridge-regression coefficients (N, K) of values (N, M) on K controls, shrunk towards 1.

        The penalty has the weight of ``PRIOR_DRAWS`` evaluated removals, with the covariance that the controls have
        over the other removals. It matters where a control hardly varies over the evaluated ones, such as P^2 of a
        large attribution at a pixel that few draws remove: its coefficient stays near 1, so that its known mean counts.
        """
        centred = lambda each, there: (each - _mean_where(there, each)[:, None]).where(there, 0)
        evaluated = torch.stack([centred(own, self.distinct) for own, _ in controls], 1)
        others = torch.stack([centred(rest, self.unseen) for _, rest in controls], 1)
        weight = PRIOR_DRAWS / self.unseen.sum(1).clamp(min=1)
        gram = evaluated @ evaluated.mT + weight[:, None, None] * (others @ others.mT)
        scale = gram.diagonal(dim1=1, dim2=2).sqrt()
        scale = scale.where(scale > 0, 1)
        correlation = gram / (scale[:, :, None] * scale[:, None]) + JITTER * torch.eye(len(controls)).to(gram)
        residual = centred(values, self.distinct) - evaluated.sum(1)
        return 1 + torch.linalg.solve(correlation, evaluated @ residual[..., None] / scale[..., None])[..., 0] / scale

    def mean_of_all(self, own: Tensor, others: Tensor) -> Tensor:
        """The mean (N,) over all removals of values that are known for evaluated (N, M) and for other ones (N, R)."""
        share = 1 - self.unseen.to(own.dtype).mean(1)  # of all removals, those that were evaluated
        return share * _mean_where(self.distinct, own) + (1 - share) * _mean_where(self.unseen, others)


def _mean_where(there: Tensor, values: Tensor) -> Tensor:
    """The mean (N,) of the values (N, M) that are there (N, M); 0 where none is."""
    return values.where(there, 0).sum(1) / there.sum(1).clamp(min=1)


def fit_changes(removals: Removals, changes: Tensor) -> PredictedChanges:
    """What is expected of the changes (N, M) of the output by the evaluated removals.

    The surrogate of a sample is used where it misses little of the variance of the changes: a share of at most
    ``MOST_MISSED`` times 1 - ``SPENT`` / the number of different removals in the process; or where all removals were
    evaluated. A line of the run says for how many samples it is not used.
    """
    changes = changes.double()
    count, others = len(changes), removals.others
    left_out, predicted = torch.zeros_like(changes), changes.new_zeros(count, others.shape[1])
    distinct, unseen = torch.zeros_like(changes, dtype=torch.bool), torch.ones_like(predicted, dtype=torch.bool)
    used = torch.zeros(count, dtype=torch.bool, device=changes.device)
    for row in range(count):
        own = others[row if len(others) > 1 else 0]
        distinct[row], unseen[row] = _first_of_each(removals.drawn[row], own)
        drawn, values = removals.drawn[row][distinct[row]], changes[row][distinct[row]]
        complete = removals.listed and not unseen[row].any()
        if complete or not len(own) or len(drawn) <= SPENT or not values.isfinite().all():
            used[row] = complete
            continue
        process, expected = _process_of_removals(removals, drawn, values)
        missed, allowed = (values - expected).square().mean(), MOST_MISSED * (1 - SPENT / min(len(drawn), MOST))
        used[row] = missed <= allowed * values.var(correction=0)
        if used[row]:
            left_out[row, distinct[row]], predicted[row] = expected, process.predict(own)
        sign_of_life()
    if not used.all():
        say(
            f"surrogate: used for {int(used.sum())} of {count} samples; the others are of the draws alone, as it "
            "misses too much of the variance, draws are too few, or an output is not finite"
        )
    return PredictedChanges(changes, used, distinct, left_out, predicted, unseen)


@dataclass(frozen=True)
class RemovalProcess:
    """A process that has been fitted to F removals.

    seen          (F, K) the removals
    coefficients  (F,) of the covariances in a prediction
    covariance    the prior one, with the level
    middle        what the changes are predicted as differences from
    """

    seen: Tensor
    coefficients: Tensor
    covariance: Covariance
    middle: Tensor

    def predict(self, others: Tensor) -> Tensor:
        """The changes (R,) by other removals (R, K)."""
        parts = others.split(max(1, PART // len(self.seen)))
        return torch.cat([self.covariance(part, self.seen) @ self.coefficients for part in parts]) + self.middle


def _process_of_removals(removals: Removals, drawn: Tensor, changes: Tensor) -> tuple[RemovalProcess, Tensor]:
    """The process for the changes (F,) by the removals (F, K), and each change as predicted from the others (F,).

    Those that do not enter the process are predicted by it. Its settings are those that predict best from the others.
    The noise grows with the square root of the prior variance: what a large square does is harder to predict.
    """
    seen, known, best = drawn[:MOST], changes[:MOST], None
    middle = known.mean() if removals.level else known.new_zeros(())
    for prior in removals.covariances(seen):
        covariance = lambda first, second, prior=prior: prior(first, second) + removals.level
        values = covariance(seen, seen)
        weight = values.diagonal().sqrt()
        for missed, coefficients, errors in fits_leaving_one_out(
            values, weight / weight.mean(), known - middle, NOISES
        ):
            if best is None or missed < best[0]:
                best = missed, RemovalProcess(seen, coefficients, covariance, middle), errors
    _, process, errors = best
    expected = known - errors
    return process, torch.cat([expected, process.predict(drawn[MOST:])]) if len(drawn) > MOST else expected


def _covariance_of_squares(tables: list[Tensor], some: Tensor, curvature: float) -> Covariance:
    """The prior covariance of squares, plus effects of pairs, scaled so that without them the mean variance of ``some``
    (A, axes + 1) is 1."""
    own = torch.ones((), dtype=torch.float64, device=some.device)
    for axis, table in enumerate(tables):
        begin, end = some[:, axis], some[:, axis] + some[:, -1]
        own = own * (table[end, end] - 2 * table[begin, end] + table[begin, begin])
    size = own.mean()

    def covariance(first: Tensor, second: Tensor) -> Tensor:
        alike = 1 / size
        for axis, table in enumerate(tables):
            rows = table[first[:, axis] + first[:, -1]] - table[first[:, axis]]
            alike = alike * (rows[:, second[:, axis] + second[:, -1]] - rows[:, second[:, axis]])
        return alike + curvature * alike.square()

    return covariance


def _cumulated_covariance(length: int, reach: float, device: torch.device) -> Tensor:
    """Sums (length + 1, length + 1) of exp(-distance / reach) over the places before i and those before j."""
    places = torch.arange(length, dtype=torch.float64, device=device)
    apart = (places[:, None] - places).abs()
    alike = (-apart / reach).exp() if reach else (apart == 0).double()
    return torch.nn.functional.pad(alike.cumsum(0).cumsum(1), (1, 0, 1, 0))


def _first_of_each(drawn: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the drawn removals (M, K) repeat no earlier one (M,), and which others (R, K) were not drawn (R,)."""
    _, number = torch.unique(torch.cat([drawn, others]), dim=0, return_inverse=True)
    own, rest = number[: len(drawn)], number[len(drawn) :]
    places = torch.arange(len(own), device=own.device)
    earliest = torch.full_like(number, len(own)).scatter_reduce(0, own, places, "amin")
    return earliest[own] == places, earliest[rest] == len(own)
