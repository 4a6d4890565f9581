"""Correlations over random subsets from fewer evaluations: a surrogate of the output, and what it misses.

The plain estimate is the correlation over the M subsets that the model was evaluated on. Here a Gaussian process over
subsets is fitted to the outputs of all sizes together; it has an own level for each size, effects of single groups and
of pairs. It predicts the outputs of as many new subsets as wanted, and its errors on the evaluated ones, each predicted
from the others, correct the moments (a control variate, as in Owen 2013, Monte Carlo theory, chapter 8):

    cov(a, f) = cov of a and the prediction over new subsets + mean of (a - mean a) error over evaluated ones,

and likewise the variance of f. Where the process explains too little of a size's variance, the plain estimate stays:
it is the ratio of a covariance and of deviations whose errors cancel, and is then the better one. The process knows no
attributions, so that all explainers are treated alike, and it is fitted once for all of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.metrics._groups import Groups
from harness.metrics._sets import draw_sets, set_sums, unpack
from harness.metrics._similarity import pearson
from harness.samples import Samples

NEW = 2048  # new subsets of each size
LEAST_EXPLAINED = 0.7  # share of the variance of the outputs within a size from which the surrogate is used
LEVEL = 10.0  # prior variance of a size's level: large beside that of the effects, which is 1 + curvature
CURVATURES = (0.0, 0.5, 2.0)  # variance of pairs' effects, in that of single groups'
NOISES = (1e-3, 1e-2, 0.1, 1.0)  # variances beside that of the effects; a size's noise is as its outputs' variance
LEAST_WEIGHT = 1e-6  # of the noise of a size whose outputs are all equal
MOST = 2048  # evaluated subsets that enter the process
LEAST_VARIANCE = 0.1  # of the outputs, as a share of that of the predictions


@dataclass(frozen=True)
class Surrogate:
    """What is predicted of some samples' outputs, for S sizes with M evaluated subsets each.

    evaluated  (N, S * M, bytes) the packed subsets that the model was evaluated on
    outputs    (N, S, M) float64, what the model gave
    errors     (N, S, M) float64, the output less its prediction from all other evaluated subsets
    new        (N, S * NEW, bytes) packed new subsets of the same sizes
    predicted  (N, S, NEW) float64, their predictions
    """

    evaluated: Tensor
    outputs: Tensor
    errors: Tensor
    new: Tensor
    predicted: Tensor

    def correlations(self, values: Tensor) -> Tensor:
        """Correlation (N, S) of the sum of the values (N, G) of a subset's groups and the output, float64.

        NaN where sums are constant over the new subsets of a size, as far as the surrogate is used.
        """
        sums = set_sums(values, self.evaluated).view_as(self.outputs)
        new = set_sums(values, self.new).view_as(self.predicted)
        plain = pearson(sums, self.outputs)
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


def fit_surrogate(
    samples: Samples, groups: Groups, counts: Tensor, evaluated: Tensor, outputs: Tensor
) -> Surrogate | None:
    """The surrogate of outputs (N, S, M) for packed subsets (N, S * M, bytes) of ``counts`` (N, S) groups.

    None where there are more groups than evaluated subsets, from which no effect of a group can be told.
    """
    if groups.sizes.shape[1] > evaluated.shape[1]:
        return None
    sizes = range(counts.shape[1])
    new = torch.cat([draw_sets(samples, groups, f"new subsets {i}", NEW, counts[:, i]) for i in sizes], 1)
    parts = []
    for sample in range(len(outputs)):
        present = groups.present[sample]
        signs = [_signs(packed[sample], present, len(sizes)) for packed in (evaluated, new)]
        parts.append(_errors_and_predictions(*signs, outputs[sample].double()))
    errors, predicted = (torch.stack(each) for each in zip(*parts, strict=True))
    return Surrogate(evaluated, outputs.double(), errors, new, predicted)


def _signs(packed: Tensor, present: Tensor, sizes: int) -> Tensor:
    """Packed sets (S * R, bytes) as 1 for groups that are in a set and -1 for others (S, R, K), of ``present`` ones."""
    return (unpack(packed, len(present))[:, present].double() * 2 - 1).unflatten(0, (sizes, -1))


def _errors_and_predictions(evaluated: Tensor, new: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Errors (S, M) of predictions from the others, and predictions (S, R), of one sample.

    ``evaluated`` (S, M, K) and ``new`` (S, R, K) are signs, ``outputs`` (S, M) those of the evaluated subsets. A
    process is fitted to at most MOST of these, as its cost grows with their cube; it predicts the others.
    """
    fitted = max(1, MOST // len(outputs))
    if not bool((outputs != outputs[:, :1]).any()):  # nothing depends on the subset
        return torch.zeros_like(outputs), outputs[:, :1].expand(new.shape[:2])
    process = _fit(evaluated[:, :fitted], outputs[:, :fitted])
    errors = outputs - process.predict(evaluated)
    errors[:, :fitted] = process.errors
    return errors, process.predict(new)


@dataclass(frozen=True)
class _Process:
    """A process that has been fitted to F subsets of each of S sizes.

    signs         (S, F, K) of the subsets
    errors        (S, F) of each prediction from the others
    coefficients  (S, F) of the covariances in a prediction
    curvature     of the covariance
    """

    signs: Tensor
    errors: Tensor
    coefficients: Tensor
    curvature: float

    def predict(self, signs: Tensor) -> Tensor:
        """The outputs (S, R) of other subsets (S, R, K)."""
        seen, coefficients = self.signs.flatten(0, 1), self.coefficients.flatten()
        effects = torch.stack([_covariance(some, seen, self.curvature) @ coefficients for some in signs])
        return effects + LEVEL * self.coefficients.sum(-1, keepdim=True)


def _fit(signs: Tensor, outputs: Tensor) -> _Process:
    """The process for outputs (S, F) of subsets (S, F, K).

    For each curvature and noise the errors of predictions from the others have a closed form (Rasmussen and Williams
    2006, Gaussian Processes for Machine Learning, 5.4.2); the smallest choose.
    """
    sizes, draws = outputs.shape
    seen, size = signs.flatten(0, 1), torch.arange(sizes, device=outputs.device).repeat_interleave(draws)
    levels = LEVEL * (size[:, None] == size).double()
    spread = outputs.var(-1, correction=0)
    weight = (spread / spread.mean() + LEAST_WEIGHT)[size]
    root, found = weight.sqrt(), []
    for curvature in CURVATURES:
        covariance = _covariance(seen, seen, curvature) + levels
        scale, axes = torch.linalg.eigh(covariance / (root[:, None] * root))
        turned, squares = axes.T @ (outputs.flatten() / root), axes.square()
        for noise in NOISES:
            inverse = 1 / (scale.clamp(min=0) + noise * (1 + curvature))
            coefficients = axes @ (inverse * turned) / root
            errors = coefficients * weight / (squares @ inverse)
            found.append(((errors.square() / weight).mean().item(), curvature, coefficients, errors))
    _, curvature, coefficients, errors = min(found, key=lambda each: each[0])
    return _Process(signs, errors.view(sizes, draws), coefficients.view(sizes, draws), curvature)


def _covariance(first: Tensor, second: Tensor, curvature: float) -> Tensor:
    """Prior covariance of the outputs of sets (A, K) and (B, K) of signs, but for the levels of sizes: (A, B)."""
    alike = first @ second.T / first.shape[1]
    return alike + curvature * alike.square()


def _mean_product(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).mean(-1)
