"""Correlations over random subsets from fewer evaluations: a surrogate of the output, and what it misses.

The plain estimate is the correlation over the M subsets that the model was evaluated on. Here a Gaussian process over
subsets is fitted to the outputs of all sizes together; it has its own level for each size, effects of single groups and
of pairs. It predicts the outputs of as many new subsets as wanted, and its errors on the evaluated ones, each predicted
from the others, correct the moments (a control variate, as in Owen 2013, Monte Carlo theory, chapter 8):

    cov(a, f) = cov of a and the prediction over new subsets + mean of (a - mean a) error over evaluated ones,

and likewise the variance of f. Here a is the sum of the attributions of a subset, and f the output without it. Where
the process explains too little of the variance within a size, the plain estimate is kept: the errors of its numerator
and denominator partly cancel. The process does not use attributions, so that all explainers are treated alike, and it
is fitted once for all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.messages import say, sign_of_life
from harness.metrics._groups import Groups
from harness.metrics._sets import draw_sets, set_sums, unpack
from harness.metrics._similarity import pearson
from harness.samples import Samples

NEW = 2048  # new subsets of each size, or twice as many as were evaluated, if that is more
LEAST_EXPLAINED = 0.7  # share of the variance of the outputs within a size from which the surrogate is used
LEVEL = 10.0  # prior variance of a size's level: large beside that of the effects, which is 1 + curvature
CURVATURES = (0.0, 0.5, 2.0)  # variance of pairs' effects, as a share of that of single groups' effects
NOISES = (1e-3, 1e-2, 0.1, 1.0)  # variance as a share of that of all effects; of a size, times its outputs' variance
LEAST_WEIGHT = 1e-6  # of the noise of a size whose outputs are all equal
MOST = 2048  # evaluated subsets that enter the process
LEAST_VARIANCE = 0.1  # of the outputs, as a share of that of the predictions


@dataclass(frozen=True)
class Subsets:
    """Subsets of the groups of N samples, of S sizes.

    samples    the samples
    groups     the partition of their units
    counts     (N, S) the sizes
    evaluated  (N, S * M, bytes) the packed subsets that the model was evaluated on, size by size
    """

    samples: Samples
    groups: Groups
    counts: Tensor
    evaluated: Tensor

    def new(self, size: int, count: int) -> Tensor:
        """New packed subsets (N, count, bytes) of the size with this index: drawn when needed, as they are many."""
        return draw_sets(self.samples, self.groups, f"new subsets {size}", count, self.counts[:, size])

    def take(self, row: int) -> "Subsets":
        """Those of one sample."""
        rows = torch.tensor([row], device=self.counts.device)
        labels = None if self.groups.labels is None else self.groups.labels[rows]
        groups = replace(self.groups, labels=labels, sizes=self.groups.sizes[rows])
        return Subsets(self.samples.take(rows), groups, self.counts[rows], self.evaluated[rows])


@dataclass(frozen=True)
class Surrogate:
    """What is predicted of some samples' outputs, for S sizes with M evaluated subsets each.

    outputs    (N, S, M) float64, what the model gave
    errors     (N, S, M) float64, the output less its prediction from other evaluated subsets; NaN without a prediction
    predicted  (N, S, R) float64, the predictions for R new subsets of each size
    """

    outputs: Tensor
    errors: Tensor
    predicted: Tensor

    def correlations(self, subsets: "Subsets", values: Tensor) -> Tensor:
        """Correlation (N, S) of the sum of the values (N, G) of a subset's groups and the output, float64.

        NaN where sums are constant over the new subsets of a size, as far as the surrogate is used.
        """
        sums = set_sums(values, subsets.evaluated).view_as(self.outputs)
        plain = pearson(sums, self.outputs)
        if self.errors.isnan().all():
            return plain
        sizes, count = range(self.outputs.shape[1]), self.predicted.shape[-1]
        new = torch.stack([set_sums(values, subsets.new(size, count)) for size in sizes], 1)
        middle, level = new.mean(-1, keepdim=True), self.predicted.mean(-1, keepdim=True)
        covariance = _mean_product(new - middle, self.predicted - level) + _mean_product(sums - middle, self.errors)
        from_others = self.outputs - self.errors
        own = (self.predicted - level).square().mean(-1)
        variance = own + 2 * _mean_product(from_others - level, self.errors) + self.errors.var(-1, correction=0)
        deviations = (torch.maximum(variance, LEAST_VARIANCE * own) * new.var(-1, correction=0)).sqrt()
        constant = new.amax(-1) == new.amin(-1)
        found = (covariance / deviations).clamp(-1, 1).masked_fill(constant, float("nan"))
        return found.where(self.explained >= LEAST_EXPLAINED, plain)

    @property
    def explained(self) -> Tensor:
        """The share (N, S) of the outputs' variance within a size that is predicted from other subsets."""
        spread = self.outputs.var(-1, correction=0)
        return 1 - self.errors.square().mean(-1) / spread.where(spread > 0, 1)


def fit_surrogate(subsets: Subsets, outputs: Tensor) -> Surrogate:
    """The surrogate of the outputs (N, S, M) for the evaluated subsets.

    A sample has no prediction where it has more groups than evaluated subsets, from which no effect of a group can be
    told, or where an output is not finite. Tells for how many sizes and samples the draws alone are used.
    """
    outputs = outputs.double()
    sizes, draws = outputs.shape[1:]
    count = max(NEW, 2 * draws)
    errors, predicted = torch.full_like(outputs, float("nan")), outputs.new_zeros(*outputs.shape[:2], count)
    fits = (subsets.groups.totals <= sizes * min(draws, _most_of_size(sizes))) & outputs.isfinite().flatten(1).all(1)
    for row in fits.nonzero()[:, 0].tolist():
        one, present = subsets.take(row), subsets.groups.present[row]
        process = _process_with_errors(
            signs_of_sets(one.evaluated[0], present).unflatten(0, (sizes, draws)), outputs[row]
        )
        errors[row] = process.errors
        for size in range(sizes):
            predicted[row, size] = process.predict(signs_of_sets(one.new(size, count)[0], present), size)
        sign_of_life()
    surrogate = Surrogate(outputs, errors, predicted)
    enough = surrogate.explained >= LEAST_EXPLAINED
    if not enough.all():
        say(
            f"surrogate: used for {int(enough.sum())} of {enough.numel()} correlations; the others are of the draws "
            f"alone, as it predicts less than {LEAST_EXPLAINED:g} of the variance or groups are more than draws"
        )
    return surrogate


def signs_of_sets(packed: Tensor, present: Tensor) -> Tensor:
    """Packed sets (R, bytes) as 1 for groups that are in a set and -1 for the others (R, K), of those present (G,)."""
    return unpack(packed, len(present))[:, present].double() * 2 - 1


def _most_of_size(sizes: int) -> int:
    """How many evaluated subsets of each size enter the process, whose cost grows with the cube of their number."""
    return max(1, MOST // sizes)


def _process_with_errors(signs: Tensor, outputs: Tensor) -> "SubsetProcess":
    """The process for outputs (S, M) of subsets (S, M, K), with the errors of all of them.

    Those that do not enter the process are predicted by it.
    """
    most = _most_of_size(len(outputs))
    process = _fit_process(signs[:, :most], outputs[:, :most])
    if outputs.shape[1] <= most:
        return process
    others = [process.predict(signs[size, most:], size) for size in range(len(outputs))]
    errors = torch.cat([process.errors, outputs[:, most:] - torch.stack(others)], 1)
    return replace(process, errors=errors)


@dataclass(frozen=True)
class SubsetProcess:
    """A process that has been fitted to F subsets of each of S sizes.

    signs         (S, F, K) of the subsets
    errors        (S, F) of each prediction from the others
    coefficients  (S, F) of the covariances in a prediction
    curvature     of the covariance
    middle        mean of the outputs, which are predicted as differences from it
    """

    signs: Tensor
    errors: Tensor
    coefficients: Tensor
    curvature: float
    middle: Tensor

    def predict(self, signs: Tensor, size: int) -> Tensor:
        """The outputs (R,) of other subsets (R, K) of the size with this index."""
        covariance = covariance_of_sets(signs, self.signs.flatten(0, 1), self.curvature)
        return covariance @ self.coefficients.flatten() + LEVEL * self.coefficients[size].sum() + self.middle


def _fit_process(signs: Tensor, outputs: Tensor) -> SubsetProcess:
    """The process for outputs (S, F) of subsets (S, F, K), with the settings that predict best from the others."""
    sizes, draws = outputs.shape
    middle = outputs.mean()
    outputs = outputs - middle
    seen, size = signs.flatten(0, 1), torch.arange(sizes, device=outputs.device).repeat_interleave(draws)
    levels = LEVEL * (size[:, None] == size).double()
    spread = outputs.var(-1, correction=0)
    if not spread.any():  # within a size nothing depends on the subset
        nothing = torch.zeros_like(outputs)
        return SubsetProcess(signs, nothing, nothing, 0.0, middle)
    weight = (spread / spread.mean() + LEAST_WEIGHT)[size]
    found = []
    for curvature in CURVATURES:
        covariance = covariance_of_sets(seen, seen, curvature) + levels
        noises = [noise * (1 + curvature) for noise in NOISES]
        fits = fits_leaving_one_out(covariance, weight, outputs.flatten(), noises)
        found += [(missed, curvature, coefficients, errors) for missed, coefficients, errors in fits]
    _, curvature, coefficients, errors = min(found, key=lambda each: each[0])
    return SubsetProcess(signs, errors.view(sizes, draws), coefficients.view(sizes, draws), curvature, middle)


def fits_leaving_one_out(
    covariance: Tensor, weight: Tensor, outputs: Tensor, noises: Sequence[float]
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """For each noise, how a process with this covariance (F, F) predicts the outputs (F,): their mean squared error
    by weight, the coefficients (F,) of the covariances in a prediction, and the errors (F,).

    ``weight`` (F,) times the noise is the variance of the noise. Each error is that of the prediction from the other
    outputs, in closed form (Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, 5.4.2).
    """
    root = weight.sqrt()
    scale, axes = torch.linalg.eigh(covariance / (root[:, None] * root))
    turned, squares = axes.T @ (outputs / root), axes.square()
    for noise in noises:
        inverse = 1 / (scale.clamp(min=0) + noise)
        coefficients = axes @ (inverse * turned) / root
        errors = coefficients * weight / (squares @ inverse)
        yield (errors.square() / weight).mean().item(), coefficients, errors


def covariance_of_sets(first: Tensor, second: Tensor, curvature: float) -> Tensor:
    """Prior covariance of the outputs of sets (A, K) and (B, K) of signs, but for the levels of sizes: (A, B)."""
    alike = first @ second.T / first.shape[1]
    return alike + curvature * alike.square()


def _mean_product(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).mean(-1)
