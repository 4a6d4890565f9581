"""Perturbation curves from fewer evaluations: points where the curve changes, and straight lines between them.

Between two evaluated points, g steps apart, the curve is modelled as a Brownian bridge: it leaves the straight line at
random, with a variance s2 per step. The sum of the g - 1 points between them is then off by a variance of
s2 (g^3 - g) / 12, and the errors of different gaps are independent. s2 is the squared change over the gap divided by g.
It is at least the mean over the gap and the two gaps on either side (1 : 2 : 3 : 2 : 1), and at least ``FLOOR`` of that
of the whole curve, so that a gap beside a steep one is never assumed flat. The standard error is taken ``CAUTION``
times as large: s2 rests on few squares, and gaps that look flat by chance are never refined. In each round the gaps are
halved that have at least ``SHARE`` of the largest variance.

The standard error describes curves that are as rough between the points as they are at the points. A drop and a rise
that both lie in one gap are not seen. How often the area is within two standard errors is in docs/speed.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch
from harness.metrics._curve import AdaptiveCurve, heights, one_draw_unless_random, rank, track_ends, track_points
from harness.predictor import pick

FIRST = 9  # points that are evaluated first, end points included
FLOOR = 0.05
SHARE = 0.25
CAUTION = 1.25


@dataclass(frozen=True)
class CurveEstimate:
    """A curve at all points, and how far its mean may be off.

    heights          (N, K + 1) float64
    standard_error   (N,) float64 of the mean over the steps; None if all points are evaluated by the options
    """

    heights: Tensor
    standard_error: Tensor | None = None


def estimate_heights(batch: Batch, curve: AdaptiveCurve, order: str, score: str) -> CurveEstimate:
    """The score along the curve, averaged over imputations and breakings of ties, evaluated where it changes."""
    if not curve.standard_error:
        return CurveEstimate(heights(batch, curve.evenly_spaced, order, score))
    estimate = lambda: _estimate(batch, one_draw_unless_random(curve), order, score)
    return batch.remember(("adaptive curve", curve, order, score), estimate)


def joint_error(first: CurveEstimate, second: CurveEstimate) -> Tensor | None:
    """The standard error of the sum or difference of two curves' means, whose errors are taken as independent."""
    if first.standard_error is None or second.standard_error is None:
        return None
    return torch.hypot(first.standard_error, second.standard_error)


def _estimate(batch: Batch, curve: AdaptiveCurve, order: str, score: str) -> CurveEstimate:
    samples, ranking, spaced = batch.samples, rank(batch, curve), curve.evenly_spaced

    def evaluate(sample: Tensor, point: Tensor) -> Tensor:
        return pick(track_points(samples, spaced, ranking, order, sample, point), score).double().mean(1)

    ends = [pick(each, score).double().mean(1) for each in track_ends(samples, spaced)]
    return estimate_curves(evaluate, *ends, ranking.repeated, curve.standard_error)


def estimate_curves(
    evaluate: Callable[[Tensor, Tensor], Tensor], start: Tensor, end: Tensor, repeated: Tensor, wanted: float
) -> CurveEstimate:
    """Curves (N, K + 1) from their end points (N,) and ``evaluate(samples, points)``, heights (rows,) of pairs (rows,).

    ``repeated`` (N, K + 1) int64 is the point that each point repeats, or itself; ``wanted`` is the standard error that
    is aimed at, of each curve's mean. The stated one is at least half of that where points were not evaluated: what
    changes between them is not known. No curve depends on another one.
    """
    count, points = repeated.shape
    values, known = start.new_zeros(count, points), torch.zeros_like(repeated, dtype=torch.bool)
    values[:, 0], values[:, -1] = start, end
    known[:, 0] = known[:, -1] = True
    places = _distinct_places(repeated)
    asked = torch.zeros_like(known)
    asked[:, torch.linspace(0, points - 1, min(FIRST, points)).round().long()] = True
    while True:
        sample, point = asked.nonzero(as_tuple=True)
        fresh = torch.zeros_like(known)
        fresh[sample, repeated[sample, point]] = True
        fresh &= ~known
        sample, point = fresh.nonzero(as_tuple=True)
        values[sample, point] = evaluate(sample, point)
        known |= fresh
        values, known = values.gather(1, repeated), known.gather(1, repeated)
        gaps, steps = _Gaps.of(values, known, places), places[:, -1].clamp(min=1)
        asked = gaps.halved((wanted * steps[:, None]) ** 2)
        if not asked.any():
            error = gaps.variance.sum(1).sqrt() / steps
            return CurveEstimate(gaps.filled(values), torch.where(known.all(1), error, error.clamp(min=wanted / 2)))


def _distinct_places(repeated: Tensor) -> Tensor:
    """The number of each point among the points of its sample that repeat no other: (N, K + 1) int64 from 0."""
    itself = repeated == torch.arange(repeated.shape[1], device=repeated.device)
    return (itself.cumsum(1) - 1).gather(1, repeated)


@dataclass(frozen=True)
class _Gaps:
    """The gaps between known points, each at the index (N, K + 1) of its right end; 0 at other indices.

    known      (N, K + 1) bool
    places     (N, K + 1) int64 the number of each point among those that repeat no other
    left       (N, K + 1) int64 the known point before each point; 0 for the first point
    steps      (N, K + 1) int64 from left to right end, in places
    variance   (N, K + 1) float64 of the sum of the points in the gap
    """

    known: Tensor
    places: Tensor
    left: Tensor
    steps: Tensor
    variance: Tensor

    @classmethod
    def of(cls, values: Tensor, known: Tensor, places: Tensor) -> "_Gaps":
        before, behind = _known_around(known)
        left = torch.cat([before[:, :1], before[:, :-1]], 1)
        right = torch.cat([behind[:, 1:], torch.zeros_like(behind[:, :1])], 1)  # none behind the last gap: index 0
        steps = (places - places.gather(1, left)).where(known, 0)  # 0 too at a point that repeats the one before
        there = steps > 0
        # Rounded, so that outputs that differ by rounding choose the same points: 1e-5 of the range.
        unit = 1e-5 * (values.amax(1, keepdim=True) - values.amin(1, keepdim=True)).clamp(min=1e-12)
        squares = ((values - values.gather(1, left)) / unit).round().mul(unit).square().where(there, 0)
        each = squares / steps.clamp(min=1)
        around = _around(each, left, right) / _around(there.double(), left, right).clamp(min=1)
        whole = squares.sum(1, keepdim=True) / places[:, -1:].clamp(min=1)
        rough = torch.maximum(torch.maximum(each, around), FLOOR * whole)
        return cls(known, places, left, steps, CAUTION**2 * rough * (steps**3 - steps).double() / 12)

    def halved(self, goal: Tensor) -> Tensor:
        """The middle points (N, K + 1) bool of the gaps of largest variance, where all are above ``goal`` (N, 1).

        Each half has about an eighth of its gap's variance, so that halving removes three quarters: no more gaps are
        halved than bring the variance down to the goal.
        """
        ordered, order = self.variance.sort(dim=1, descending=True, stable=True)
        left_over = ordered.sum(1, keepdim=True) - 0.75 * (ordered.cumsum(1) - ordered)  # before each is halved
        chosen = (ordered >= SHARE * ordered[:, :1]) & (ordered > 0) & (left_over > goal)
        sample, right = torch.zeros_like(chosen).scatter_(1, order, chosen).nonzero(as_tuple=True)
        middle = self.places[sample, self.left[sample, right]] + self.steps[sample, right] // 2
        asked = torch.zeros_like(self.known)
        asked[sample, (self.places[sample] < middle[:, None]).sum(1)] = True
        return asked

    def filled(self, values: Tensor) -> Tensor:
        """Values (N, K + 1) with straight lines between the known points."""
        before, behind = _known_around(self.known)
        first, last = self.places.gather(1, before), self.places.gather(1, behind)
        share = (self.places - first) / (last - first).clamp(min=1)
        return torch.lerp(values.gather(1, before), values.gather(1, behind), share.to(values.dtype))


def _known_around(known: Tensor) -> tuple[Tensor, Tensor]:
    """The last known point up to each point, and the first one from it on: (N, K + 1) int64."""
    number = torch.arange(known.shape[1], device=known.device).expand_as(known)
    before = number.where(known, 0).cummax(1).values
    return before, number.where(known, known.shape[1] - 1).flip(1).cummin(1).values.flip(1)


def _around(values: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Sums (N, K + 1) over the gaps around each gap, weighted 1, 2, 3, 2, 1; index 0, which has none, counts as 0."""
    total = 3 * values
    for side in (left, right):
        beside = values.gather(1, side)
        beside[:, 0] = 0
        total = total + 2 * beside + beside.gather(1, side)
    return total
