"""The engine of the perturbation curves: units leave the input in the order of their attribution.

A curve has K + 1 points; after point k, n_k of the d units are removed, with n_{K-k} = d - n_k. So inserting in one
order runs through the same inputs as deleting in the reverse order, and two passes serve every metric: most
important first (morf) and least important first (lerf). Both end points are the same for all explainers and shared.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from harness.batch import Batch
from harness.errors import UserError, unknown
from harness.metrics._groups import Groups, groups
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.removal.baselines import is_random
from harness.samples import Samples

ORDERS = ("lerf", "morf")


@dataclass(frozen=True)
class Path:
    """The options that decide which inputs a curve runs through; see ``harness.metrics.curves``."""

    steps: int
    baseline: str | Tensor
    granularity: str
    patch: int
    segments: str | Tensor
    imputations: int
    tie_draws: int

    def __post_init__(self) -> None:
        check_draws(imputations=self.imputations, tie_draws=self.tie_draws)


@dataclass(frozen=True)
class Schedule:
    """How many groups are gone at each point, ``counts`` (N, K + 1) int64, of ``totals`` (N,) int64."""

    counts: Tensor
    totals: Tensor

    @property
    def fractions(self) -> Tensor:
        """Share of the groups that is removed at each point: (N, K + 1) float64 from 0 to 1."""
        return self.counts.double() / self.totals[:, None]

    @property
    def fresh(self) -> Tensor:
        """Where another number is gone than at the point before: (N, K + 1) bool.

        A sample of fewer groups than others, or than steps, stands still at some points.
        """
        return self.counts.diff(dim=1, prepend=self.counts[:, :1] - 1) > 0

    @property
    def within(self) -> Tensor:
        """Where something is left: (N, K + 1) bool."""
        return self.counts < self.totals[:, None]


@dataclass(frozen=True)
class Order:
    """Places (N, T, *units) int32 of the units, 0 for the first to go, in each of T breakings of ties.

    tied   (N,) share of the groups whose place was drawn by lot
    """

    places: Tensor
    tied: Tensor


@dataclass(frozen=True)
class Ranking(Schedule):
    """Each unit's place in the order of removal, as in ``Order``, and how many groups are gone at each point."""

    places: Tensor
    tied: Tensor


def check_draws(**numbers: int) -> None:
    """Raise one line on a number of draws, by the name of its option, that leaves nothing to average."""
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name} is {number}, expected at least 1")


def schedule(totals: Tensor, steps: int) -> Tensor:
    """How many of ``totals`` (N,) are removed at each of steps + 1 points, evenly and symmetrically: (N, steps + 1)."""
    point = torch.arange(steps + 1, device=totals.device)
    nearer = torch.minimum(point, steps - point)
    fewer = (2 * nearer * totals[:, None] + steps) // (2 * steps)
    return torch.where(2 * point <= steps, fewer, totals[:, None] - fewer)


def order_units(
    batch: Batch, granularity: str = "unit", patch: int = 16, segments: str | Tensor = "slic:100", tie_draws: int = 1
) -> Order:
    """The order of this explainer's attributions, most important first, with ties broken ``tie_draws`` times by lot."""
    key = ("order", granularity, patch, segments, tie_draws)
    options = (granularity, patch, segments, tie_draws)
    return batch.remember(key, lambda: _order(batch.samples, batch.attributions, "ties", *options))


def rank(batch: Batch, path: Path) -> Ranking:
    """The order in which this explainer's attributions remove the units, and how many are gone at each point."""
    order = order_units(batch, path.granularity, path.patch, path.segments, path.tie_draws)
    return _ranking(order, schedule_of(groups(batch.samples, path.granularity, path.patch, path.segments), path.steps))


def curve(batch: Batch, path: Path, order: str, score: str) -> Tensor:
    """The score (N, K + 1) float64 along the path, averaged over imputations and breakings of ties."""
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    path = _once_if_fixed(path)
    tracked = batch.remember(("curve", path, order), lambda: _evaluate(batch.samples, path, rank(batch, path), order))
    return pick(tracked, score).double().mean(1)


def random_curve(samples: Samples, path: Path, score: str) -> tuple[Tensor, Schedule]:
    """The mean score (N, K + 1) float64 along random orders and their reverses, one pair for each of ``tie_draws``.

    No attribution decides it: it is evaluated once for all explainers.
    """
    path = _once_if_fixed(path)
    found = schedule_of(groups(samples, path.granularity, path.patch, path.segments), path.steps)
    key = ("random order", *(getattr(path, each.name) for each in fields(path)))
    tracked = samples.outputs(key, lambda: _evaluate_random(samples, path, found))
    return pick(tracked, score).double().mean(1), found


def schedule_of(found: Groups, steps: int) -> Schedule:
    """How many groups are gone at each of ``steps`` + 1 points, or as many as the groups allow."""
    return Schedule(schedule(found.totals, _points(steps, found.sizes.shape[1], found.alike)), found.totals)


def _once_if_fixed(path: Path) -> Path:
    return path if is_random(path.baseline) else replace(path, imputations=1)


def _order(
    samples: Samples, attributions: Tensor, lots: str, granularity: str, patch: int, segments: str | Tensor, draws: int
) -> Order:
    found = groups(samples, granularity, patch, segments)
    values, every = found.means(attributions), torch.arange(len(samples), device=attributions.device)
    places = [found.spread(ranks(values, samples.stream(f"{lots} {draw}")).int(), every) for draw in range(draws)]
    return Order(torch.stack(places, 1), tied_share(values, found.totals))


def _ranking(order: Order, found: Schedule) -> Ranking:
    return Ranking(found.counts, found.totals, order.places, order.tied)


def _points(steps: int, count: int, alike: bool) -> int:
    """The number of steps: at most one per group, and one more where an odd count cannot be halved.

    Where samples differ in their number of groups it must not depend on the company, so there it is always odd.
    """
    if steps < 2:
        raise UserError(f"steps is {steps}, expected at least 2")
    if not alike:
        return steps | 1
    steps = min(steps, count)
    return steps + 1 if count % 2 and steps % 2 == 0 else steps


def _evaluate_random(samples: Samples, path: Path, found: Schedule) -> Tensor:
    """Tracked outputs (N, 2 * imputations * T, K + 1, 3) along T random orders and their reverses."""
    constant = samples.inputs.new_zeros(len(samples), *samples.units.shape)  # every unit's place is drawn by lot
    order = _order(samples, constant, "random order", path.granularity, path.patch, path.segments, path.tie_draws)
    ranking = _ranking(order, found)
    return torch.cat([_evaluate(samples, path, ranking, each) for each in ORDERS], 1)


def _evaluate(samples: Samples, path: Path, ranking: Ranking, order: str) -> Tensor:
    """Tracked outputs (N, imputations * T, K + 1, 3) along the path."""
    ties = path.tie_draws
    start = samples.intact()[:, None, None].expand(-1, path.imputations * ties, 1, -1)
    end = torch.stack([samples.emptied(path.baseline, draw) for draw in range(path.imputations)], 1)
    end = end.repeat_interleave(ties, 1)[:, :, None]
    points = torch.cat([start, _between(samples, path, ranking, order), end], 2)
    number = torch.arange(points.shape[2], device=points.device)
    # At points that stand still, the one they stand at; where everything is gone already, the end.
    latest = number.where(ranking.fresh, 0).cummax(1).values.where(ranking.within, number[-1])
    return points.gather(2, latest[:, None, :, None].expand_as(points))


def _between(samples: Samples, path: Path, ranking: Ranking, order: str) -> Tensor:
    """Tracked outputs (N, imputations * T, K - 1, 3) at the points between the end points; 0 where they stand still."""
    draws, ties, units = path.imputations * path.tie_draws, path.tie_draws, [1] * len(samples.units.shape)
    removers = [samples.remover(path.baseline, draw) for draw in range(path.imputations)]
    samples_of, point_of = (ranking.fresh & ranking.within)[:, 1:-1].nonzero(as_tuple=True)

    def build(rows: Tensor) -> Tensor:
        sample, draw = samples_of[rows // draws], rows % draws
        place = ranking.places[sample, draw % ties]
        count = ranking.counts[sample, 1 + point_of[rows // draws]]
        if order == "lerf":  # the reverse order: place becomes total - 1 - place
            kept = place < (ranking.totals[sample] - count).view(-1, *units)
        else:
            kept = place >= count.view(-1, *units)
        return each_with(removers, draw // ties, sample, kept)

    targets = samples.targets[samples_of].repeat_interleave(draws)
    tracked = samples.predictor.track(len(targets), build, targets)
    points = tracked.new_zeros(len(samples), ranking.counts.shape[1] - 2, draws, tracked.shape[1])
    points[samples_of, point_of] = tracked.view(-1, draws, tracked.shape[1])
    return points.transpose(1, 2)


def each_with(
    removers: list[Callable[[Tensor, Tensor], Tensor]], which: Tensor, sample: Tensor, kept: Tensor
) -> Tensor:
    """Inputs (rows, ...) of which each has its removed units replaced by the remover numbered ``which`` (rows,)."""
    if len(removers) == 1:
        return removers[0](sample, kept)
    places = {number: (which == number).nonzero()[:, 0] for number in which.unique().tolist()}
    built = torch.cat([removers[number](sample[rows], kept[rows]) for number, rows in places.items()])
    return built[torch.cat(list(places.values())).argsort()]
