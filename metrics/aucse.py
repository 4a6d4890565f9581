"""Relative drops of the score while points of positive relevance are replaced, for time series (InterpretTime).

Turbé et al. 2023 (2202.05656): of the points whose attribution is not negative the highest, or the lowest, are replaced
by noise that looks like the signal. The options are those of ``Replacement``; both metrics share the model's outputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._similarity import with_reason
from harness.option_types import Repeats
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import BaselineName, is_random
from harness.samples import Samples
from harness.task import Score

# Shares of the points of positive relevance that are replaced: those of the authors' code.
REPLACED = tuple((5 + 10 * step) / 100 for step in range(10))
NO_DROP = "no attribution is at least 0, the score of the input is 0, or an output is not finite"


@dataclass(frozen=True)
class Replacement:
    """Options of metrics that replace points of positive relevance.

    baseline      what a replaced unit becomes, as in ``harness.metrics._curve.Stepwise``; by default Gaussian noise
                  with the input's own mean and deviation, which for standardised series is the published one
    imputations   number of draws of a random baseline that a score is averaged over
    score         of the explained class: ``logit``, ``probability`` or ``log_odds``
    """

    baseline: BaselineName | Tensor = "gaussian_noise"
    imputations: Repeats = 1
    score: Score = "probability"


@metric(
    better="higher",
    unit="share",
    span=(None, None),
    curve_across="share replaced of the points with an attribution of at least 0",
    curve_places=(0.05, 0.95),
    curve_height="drop of the {score}, as a share of it",
)
def aucse_top(batch: Batch, *, replacement: Replacement = Replacement()) -> Scores:
    """Area under the relative drop of the score while the points of highest relevance are replaced (AUCSE top: Turbé et
    al. 2023, 2202.05656).

    The relative drop is (f(x) - f(x replaced)) / f(x), at 5, 15, ... 95 % of the units whose attribution is at least 0,
    the highest first, ties at random, each number rounded and at least 1. The area is over the share of all units that
    is replaced, from 0 to 1; beyond the last point the drop stays as it is. So a map of few positive units whose
    replacement is enough has the larger area. At most 1 for probabilities, higher is better. It has no lower bound: the
    drop is relative, so that of a class with a probability near 0, which rises when points are replaced, is far below
    0; compare medians, or explain predicted classes, where such samples occur. Trapezoidal rule, where the authors'
    code has Simpson's; it integrates the mean drop of all samples, which are here one by one. Curves (N, 10) are the
    drops. NaN where no attribution is at least 0, where f(x) is 0 and where an output is not finite. NotApplicable for
    class probabilities of a model with one output.

    f falls from 1 to -1 without x_0, which is the only unit of positive relevance, and half of all:

    >>> maps, options = torch.tensor([[2.0, -1.0]]), {"score": "logit", "baseline": "zero"}
    >>> harness.score("aucse_top", linear, inputs[:1], targets[:1], maps, **options).tolist()
    [1.5]
    """
    shares, drops, _ = _both_ends(batch, replacement)
    ends = torch.cat([shares, torch.ones_like(shares[:, :1])], 1), torch.cat([drops, drops[:, -1:]], 1)
    values = _area_under_drops(*ends)
    return with_reason(values, NO_DROP, curves=drops, tied=tied_share(batch.attributions.flatten(1)))


@metric(
    better="higher",
    unit="share",
    span=(0, None),
    curve_across=None,
)
def aucse_f_score(batch: Batch, *, replacement: Replacement = Replacement()) -> Scores:
    """Whether the score drops when the most relevant points are replaced and stays when the least relevant are (F score
    of the areas: Turbé et al. 2023, 2202.05656).

    T (1 - B) / (T + 1 - B), half of the harmonic mean, as in the authors' code; T and B are the areas under the
    relative drops of ``aucse_top`` for the highest and for the lowest of the units whose attribution is at least 0, up
    to the share of all units that is replaced. The authors apply the formula once, to the areas under the mean drops of
    the data set. The areas of one sample may lie outside [0, 1], where the formula has a pole and can prefer the
    reversed map, so that T and 1 - B below 0 count as 0, and the score is 0 where either of them is. In [0, 0.5] for
    areas in [0, 1], never below 0, at most 1 for probabilities; higher is better. Curves (N, 20) are the drops of the
    highest and of the lowest. NaN and NotApplicable as for ``aucse_top``.

    With one unit of positive relevance the highest and the lowest are the same; both areas are half of 2 * 0.5:

    >>> maps, options = torch.tensor([[2.0, -1.0]]), {"score": "logit", "baseline": "zero"}
    >>> harness.score("aucse_f_score", linear, inputs[:1], targets[:1], maps, **options).tolist()
    [0.25]
    """
    shares, top, bottom = _both_ends(batch, replacement)
    falls, stays = _area_under_drops(shares, top).clamp(min=0), (1 - _area_under_drops(shares, bottom)).clamp(min=0)
    nothing = ((falls == 0) | (stays == 0)) & falls.isfinite() & stays.isfinite()
    values = (falls * stays / (falls + stays)).masked_fill(nothing, 0.0)
    curves = torch.cat([top, bottom], 1)
    return with_reason(values, NO_DROP, curves=curves, tied=tied_share(batch.attributions.flatten(1)))


def _both_ends(batch: Batch, replacement: Replacement) -> tuple[Tensor, Tensor, Tensor]:
    """The shares of all units that are replaced, and the relative drops for highest and lowest: (N, 10) each."""
    samples, values = batch.samples, batch.attributions.flatten(1).double()
    relevant = (values >= 0).sum(1, keepdim=True)
    counts = (relevant * torch.tensor(REPLACED, device=values.device)).round().long().clamp(min=1)
    key = ("relevant replaced", replacement.baseline, replacement.imputations)
    tracked = batch.remember(key, lambda: _without_relevant(samples, values, relevant, counts, replacement))
    after = pick(tracked, replacement.score).double().mean(1)
    clean = samples.clean(replacement.score).double()[:, None]
    drops = ((clean - after) / clean).masked_fill((relevant == 0) | (clean == 0), float("nan"))
    drops = drops.masked_fill(~drops.isfinite(), float("nan"))
    return (counts.double() / values.shape[1], *drops.tensor_split(2, dim=1))


def _without_relevant(
    samples: Samples, values: Tensor, relevant: Tensor, counts: Tensor, replacement: Replacement
) -> Tensor:
    """Tracked outputs (N, imputations, 20, 3) without the highest and then without the lowest units."""
    places = ranks(values.masked_fill(values < 0, float("-inf")), samples.stream("ties 0"))
    points, shape = counts.shape[1], samples.units.shape

    def keep(sample: Tensor, point: Tensor) -> Tensor:
        place, lowest = places[sample], (point >= points)[:, None]
        count, own = counts[sample, point % points][:, None], relevant[sample]
        gone = torch.where(lowest, (place >= own - count) & (place < own), place < count)
        return ~gone.view(-1, *shape)

    draws = replacement.imputations if is_random(replacement.baseline) else 1
    return torch.stack([samples.masked(2 * points, keep, replacement.baseline, draw) for draw in range(draws)], 1)


def _area_under_drops(shares: Tensor, drops: Tensor) -> Tensor:
    """The area (N,) under drops (N, K) over shares (N, K), from no drop at 0."""
    start = torch.zeros_like(shares[:, :1])
    return torch.trapezoid(torch.cat([start, drops], 1), torch.cat([start, shares], 1), dim=1)
