"""Perturbation curves: the model's score while groups of units are removed in the order of their attribution.

A curve has K + 1 points. At point k, n_k of the d groups of units are removed, with n_{K-k} = d - n_k. So inserting in
one order gives the same inputs as deleting in the reverse order, and all metrics need only two curves: most important
first (morf) and least important first (lerf). The two end points are the same for all explainers, which share them.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch
from harness.metrics._groups import Grouping, Groups, make_groups
from harness.option_types import NotNegative, Repeats, Several
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.removal.baselines import BaselineName, is_random
from harness.samples import Samples

RemovalOrder = Literal["morf", "lerf"]


@dataclass(frozen=True)
class Stepwise:
    """Options of a removal in steps.

    steps      number of steps from the whole input to the baseline: at most one per group; one more if an even number
               of steps cannot divide an odd number of groups symmetrically
    baseline   what a removed unit becomes: a name (``harness.removal.baselines``), or a tensor of one input's shape;
               ``noisy_linear``, ``inpaint`` and ``vae`` fill in from the units that remain. ``typical``, the default of
               all metrics that remove units, is the mean of an image or a series per channel, a text's padding (or
               zero), and the training mean of a table, for which it needs training inputs
    """

    steps: Several = 32
    baseline: BaselineName | Tensor = "typical"


@dataclass(frozen=True)
class Removal(Grouping, Stepwise):
    """Options of metrics that remove groups of units in steps: those of ``Stepwise``, then those of ``Grouping``."""


@dataclass(frozen=True)
class Curve(Removal):
    """Options of the perturbation curves, in addition to those of ``Removal``.

    imputations   draws of a random baseline over which the curve is averaged; a baseline that is not random has one
    tie_draws     random orders of units of equal attribution over which the curve is averaged
    """

    imputations: Repeats = 1
    tie_draws: Repeats = 1


@dataclass(frozen=True)
class AdaptiveCurve(Curve):
    """Options of the metrics whose score is an area or a mean over a curve, in addition to those of ``Curve``.

    standard_error   0 evaluates all points; above 0, points are evaluated where the curve changes most, until the
                     estimated standard error of the curve's mean (``harness.metrics._adaptive_curve``) is at most this,
                     in the unit of the score, and the other points lie on straight lines between them
    """

    standard_error: NotNegative = 0.0

    @property
    def evenly_spaced(self) -> Curve:
        """The same curve at all points: metrics without this option share its evaluations."""
        return Curve(*(getattr(self, each.name) for each in fields(Curve)))


@dataclass(frozen=True)
class Schedule:
    """How many groups are removed at each point, ``counts`` (N, K + 1) int64, of ``totals`` (N,) int64."""

    counts: Tensor
    totals: Tensor

    @property
    def fractions(self) -> Tensor:
        """Share of the groups that is removed at each point: (N, K + 1) float64 from 0 to 1."""
        return self.counts.double() / self.totals[:, None]

    @property
    def fresh(self) -> Tensor:
        """Where more groups are removed than at the point before: (N, K + 1) bool.

        A sample with fewer groups than other samples, or than steps, repeats some points.
        """
        return self.counts.diff(dim=1, prepend=self.counts[:, :1] - 1) > 0

    @property
    def within(self) -> Tensor:
        """Where some groups remain: (N, K + 1) bool."""
        return self.counts < self.totals[:, None]

    @property
    def repeated(self) -> Tensor:
        """The point (N, K + 1) int64 that each point repeats: an earlier one, the end where everything is removed there
        already, or itself."""
        number = torch.arange(self.counts.shape[1], device=self.counts.device)
        return number.where(self.fresh, 0).cummax(1).values.where(self.within, number[-1])


@dataclass(frozen=True)
class Order:
    """The place of each unit in the order of removal, 0 for the first: (N, T, *units) int32, for T orders of ties.

    tied   (N,) share of the groups whose place was drawn at random
    """

    places: Tensor
    tied: Tensor


@dataclass(frozen=True)
class Ranking(Schedule):
    """Each unit's place in the order of removal, as in ``Order``, and how many groups are removed at each point."""

    places: Tensor
    tied: Tensor


def schedule(totals: Tensor, steps: int) -> Tensor:
    """How many of ``totals`` (N,) are removed at each of steps + 1 points, evenly and symmetrically: (N, steps + 1)."""
    point = torch.arange(steps + 1, device=totals.device)
    nearer = torch.minimum(point, steps - point)
    fewer = (2 * nearer * totals[:, None] + steps) // (2 * steps)
    return torch.where(2 * point <= steps, fewer, totals[:, None] - fewer)


def order_units(batch: Batch, grouping: Grouping, tie_draws: int) -> Order:
    """The order of this explainer's attributions, most important first, with ties broken ``tie_draws`` times."""
    key = ("order", grouping.granularity, grouping.patch, grouping.segments, tie_draws)
    return batch.remember(key, lambda: _order(batch.samples, batch.attributions, "ties", grouping, tie_draws))


def rank(batch: Batch, curve: Curve) -> Ranking:
    """The order in which this explainer's attributions remove the units, and how many are removed at each point."""
    order = order_units(batch, curve, curve.tie_draws)
    return _ranking(order, _schedule_of(make_groups(batch.samples, curve), curve.steps))


def heights(batch: Batch, curve: Curve, order: str, score: str) -> Tensor:
    """The score (N, K + 1) float64 along the curve, averaged over imputations and breakings of ties."""
    curve = one_draw_unless_random(curve)
    track = lambda: _track_curve(batch.samples, curve, rank(batch, curve), order)
    return pick(batch.remember(("curve", curve, order), track), score).double().mean(1)


def from_line(curves: Tensor, points: Schedule, samples: Samples) -> Tensor:
    """Curves (N, K + 1), for a task without classes as their heights above the straight line between their ends.

    Of a number that the model predicts, neither its zero nor its sign means anything, so that the area under it means
    nothing; the line is what an order that has nothing to do with the model gives where units do not interact (Hama et
    al. 2022, 2205.12423). A number that is added to the output changes no height.
    """
    if samples.task.classed:
        return curves
    return curves - torch.lerp(curves[:, :1], curves[:, -1:], points.fractions.to(curves.dtype))


def random_heights(samples: Samples, curve: Curve, score: str) -> tuple[Tensor, Schedule]:
    """The mean score (N, K + 1) float64 along ``tie_draws`` random orders and their reverses, and the schedule.

    It does not depend on the attributions, so it is evaluated once for all explainers.
    """
    curve = one_draw_unless_random(curve)
    points = _schedule_of(make_groups(samples, curve), curve.steps)
    key = ("random order", *(getattr(curve, each.name) for each in fields(curve)))
    tracked = samples.outputs(key, lambda: _track_random_orders(samples, curve, points))
    return pick(tracked, score).double().mean(1), points


def each_with(
    removers: list[Callable[[Tensor, Tensor], Tensor]], which: Tensor, sample: Tensor, kept: Tensor
) -> Tensor:
    """Inputs (rows, ...) with units removed; row i uses the remover with the index ``which[i]``."""
    if len(removers) == 1:
        return removers[0](sample, kept)
    places = {number: (which == number).nonzero()[:, 0] for number in which.unique().tolist()}
    built = torch.cat([removers[number](sample[rows], kept[rows]) for number, rows in places.items()])
    return built[torch.cat(list(places.values())).argsort()]


def _schedule_of(groups: Groups, steps: int) -> Schedule:
    """How many groups are removed at each of ``steps`` + 1 points, or as many as the groups allow."""
    points = _point_count(steps, groups.sizes.shape[1], groups.everyone)
    return Schedule(schedule(groups.totals, points), groups.totals)


def one_draw_unless_random(curve: Curve) -> Curve:
    """The curve with one imputation if its baseline is not random: all draws would be the same."""
    return curve if is_random(curve.baseline) else replace(curve, imputations=1)


def _order(samples: Samples, attributions: Tensor, use: str, grouping: Grouping, draws: int) -> Order:
    groups = make_groups(samples, grouping)
    values, every = groups.means(attributions), torch.arange(len(samples), device=attributions.device)
    places = [groups.spread(ranks(values, samples.stream(f"{use} {draw}")).int(), every) for draw in range(draws)]
    return Order(torch.stack(places, 1), tied_share(values, groups.totals))


def _ranking(order: Order, points: Schedule) -> Ranking:
    return Ranking(points.counts, points.totals, order.places, order.tied)


def _point_count(steps: int, count: int, everyone: bool) -> int:
    """The number of steps: at most one per group; one more if an even number cannot divide an odd count symmetrically.

    If samples differ in their number of groups, the number must not depend on which samples are scored together: it is
    then always odd.
    """
    if not everyone:
        return steps | 1
    steps = min(steps, count)
    return steps + 1 if count % 2 and steps % 2 == 0 else steps


def _track_random_orders(samples: Samples, curve: Curve, points: Schedule) -> Tensor:
    """Tracked outputs (N, 2 * imputations * T, K + 1, 3) along T random orders and their reverses."""
    constant = samples.inputs.new_zeros(len(samples), *samples.units.shape)  # all are equal, so every place is random
    ranking = _ranking(_order(samples, constant, "random order", curve, curve.tie_draws), points)
    return torch.cat([_track_curve(samples, curve, ranking, each) for each in ("lerf", "morf")], 1)


def track_ends(samples: Samples, curve: Curve) -> tuple[Tensor, Tensor]:
    """Tracked outputs (N, imputations * T, 3) of the whole inputs, and of the baselines."""
    ties = curve.tie_draws
    start = samples.intact()[:, None].expand(-1, curve.imputations * ties, -1)
    end = torch.stack([samples.emptied(curve.baseline, draw) for draw in range(curve.imputations)], 1)
    return start, end.repeat_interleave(ties, 1)


def track_points(
    samples: Samples, curve: Curve, ranking: Ranking, order: str, samples_of: Tensor, points_of: Tensor
) -> Tensor:
    """Tracked outputs (rows, imputations * T, 3) of some samples at some points, both (rows,)."""
    draws, ties, units = curve.imputations * curve.tie_draws, curve.tie_draws, [1] * len(samples.units.shape)
    removers = [samples.remover(curve.baseline, draw) for draw in range(curve.imputations)]

    def build(rows: Tensor) -> Tensor:
        sample, draw = samples_of[rows // draws], rows % draws
        place = ranking.places[sample, draw % ties]
        count = ranking.counts[sample, points_of[rows // draws]]
        if order == "lerf":  # the reverse order: place becomes total - 1 - place
            kept = place < (ranking.totals[sample] - count).view(-1, *units)
        else:
            kept = place >= count.view(-1, *units)
        return each_with(removers, draw // ties, sample, kept)

    tracked = samples.track_rows(samples_of.repeat_interleave(draws), build)
    return tracked.view(-1, draws, tracked.shape[1])


def _track_curve(samples: Samples, curve: Curve, ranking: Ranking, order: str) -> Tensor:
    """Tracked outputs (N, imputations * T, K + 1, 3) along the curve."""
    start, end = (each[:, :, None] for each in track_ends(samples, curve))
    points = torch.cat([start, _track_between(samples, curve, ranking, order), end], 2)
    return points.gather(2, ranking.repeated[:, None, :, None].expand_as(points))


def _track_between(samples: Samples, curve: Curve, ranking: Ranking, order: str) -> Tensor:
    """Tracked outputs (N, imputations * T, K - 1, 3) at the points between the end points; 0 at repeated points."""
    samples_of, between = (ranking.fresh & ranking.within)[:, 1:-1].nonzero(as_tuple=True)
    tracked = track_points(samples, curve, ranking, order, samples_of, 1 + between)
    points = tracked.new_zeros(len(samples), ranking.counts.shape[1] - 2, *tracked.shape[1:])
    points[samples_of, between] = tracked
    return points.transpose(1, 2)
