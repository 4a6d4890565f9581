"""The engine of the perturbation curves: units leave the input in the order of their attribution.

A curve has K + 1 points; after point k, n_k of the d units are removed, with n_{K-k} = d - n_k. So inserting in one
order runs through the same inputs as deleting in the reverse order, and two passes serve every metric: most
important first (morf) and least important first (lerf). Both end points are the same for all explainers and shared.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.baselines import is_random
from harness.batch import Batch
from harness.errors import UserError, unknown
from harness.metrics._groups import groups
from harness.ordering import ranks, tied_share
from harness.predictor import pick
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


@dataclass(frozen=True)
class Ranking:
    """Each unit's place in the order of removal, most important first, and how many groups are gone at each point.

    places   (N, T, *units) int32, 0 for the first; one order for each of T breakings of ties
    counts   (N, K + 1) int64, groups removed at each point
    totals   (N,) int64, groups of each sample
    tied     (N,) share of the groups whose place was drawn by lot
    """

    places: Tensor
    counts: Tensor
    totals: Tensor
    tied: Tensor

    @property
    def fractions(self) -> Tensor:
        """Share of the groups that is removed at each point: (N, K + 1) float64 from 0 to 1."""
        return self.counts.double() / self.totals[:, None]


def schedule(totals: Tensor, steps: int) -> Tensor:
    """How many of ``totals`` (N,) are removed at each of steps + 1 points, evenly and symmetrically: (N, steps + 1)."""
    point = torch.arange(steps + 1, device=totals.device)
    nearer = torch.minimum(point, steps - point)
    fewer = (2 * nearer * totals[:, None] + steps) // (2 * steps)
    return torch.where(2 * point <= steps, fewer, totals[:, None] - fewer)


def rank(batch: Batch, path: Path) -> Ranking:
    """The order in which this explainer's attributions remove the units, made once for all curves along ``path``."""
    key = ("ranking", path.steps, path.granularity, path.patch, path.segments, path.tie_draws)
    return batch.remember(key, lambda: _rank(batch, path))


def curve(batch: Batch, path: Path, order: str, score: str) -> Tensor:
    """The score (N, K + 1) float64 along the path, averaged over imputations and breakings of ties."""
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    if not is_random(path.baseline):
        path = replace(path, imputations=1)
    tracked = batch.remember(("curve", path, order), lambda: _evaluate(batch, path, order))
    return pick(tracked, score).double().mean(1)


def _rank(batch: Batch, path: Path) -> Ranking:
    found = groups(batch.samples, path.granularity, path.patch, path.segments)
    values = found.means(batch.attributions)
    every = torch.arange(len(batch), device=values.device)
    places = [
        found.spread(ranks(values, batch.samples.stream(f"ties {draw}")).int(), every) for draw in range(path.tie_draws)
    ]
    counts = schedule(found.totals, _points(path.steps, values.shape[1], found.alike))
    return Ranking(torch.stack(places, 1), counts, found.totals, tied_share(values, found.totals))


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


def _evaluate(batch: Batch, path: Path, order: str) -> Tensor:
    """Tracked outputs (N, imputations * T, K + 1, 3) along the path."""
    samples, ranking = batch.samples, rank(batch, path)
    ties = path.tie_draws
    start = samples.intact()[:, None, None].expand(-1, path.imputations * ties, 1, -1)
    end = torch.stack([samples.emptied(path.baseline, draw) for draw in range(path.imputations)], 1)
    end = end.repeat_interleave(ties, 1)[:, :, None]
    return torch.cat([start, _between(samples, path, ranking, order), end], 2)


def _between(samples: Samples, path: Path, ranking: Ranking, order: str) -> Tensor:
    """Tracked outputs (N, imputations * T, K - 1, 3) at the points between the end points."""
    counts, ties = ranking.counts[:, 1:-1], path.tie_draws
    points = counts.shape[1]
    units = [1] * len(samples.units.shape)
    baselines = [samples.baseline(path.baseline, draw) for draw in range(path.imputations)]
    removed = baselines[0][None] if len(baselines) == 1 else torch.stack(baselines)

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        place = ranking.places[sample, draw // points % ties]
        count = counts[sample, draw % points]
        if order == "lerf":  # the reverse order: place becomes total - 1 - place
            kept = place < (ranking.totals[sample] - count).view(-1, *units)
        else:
            kept = place >= count.view(-1, *units)
        gone = removed[draw // (points * ties), sample]
        return torch.where(samples.units.expand(kept), samples.inputs[sample], gone)

    draws = path.imputations * ties
    return samples.track(draws * points, build).view(len(samples), draws, points, -1)
