"""Perturbation curves that can be compared between models: normalised by the best and the worst order, or by a line.

How far a score can fall, and how fast, depends on the model and the sample. ``naopc`` places the area of an explainer's
order between those of the best and the worst order; ``abc`` measures it from the straight line between the ends of the
curve, which random orders give on average if the model is additive.

In the examples f = 2 x_0 - x_1 is the logit of one of two classes, and the baseline is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._curve import Curve, RemovalOrder, heights, rank
from harness.metrics._groups import Grouping, Groups, make_groups
from harness.metrics._sets import rounding
from harness.metrics._similarity import with_reason
from harness.metrics.curves import SINGLE, score_unit
from harness.option_types import Range
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.samples import Samples
from harness.task import Score

MOST_GROUPS = 62  # a set of groups is the bits of one number
TOO_MANY = f"the search for the best order is for at most {MOST_GROUPS} groups"


@dataclass(frozen=True)
class OrderSearch:
    """Options of the search for the orders with the largest and the smallest area.

    most_exact  the largest number of groups for which all sets of groups are evaluated, so that both orders are found
    beam        with more groups, the number of sets of each size that are followed, at least 1
    """

    most_exact: Annotated[int, Range(0, 20)] = 10
    beam: Annotated[int, Range(1, 1000)] = 5


def _better(options: Mapping[str, Any]) -> str:
    return "higher" if options["order"] == "morf" else "lower"


@metric(
    better=_better,
    unit="share",
    span=(None, None),
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height="{score}",
)
def naopc(
    batch: Batch,
    *,
    grouping: Grouping = Grouping(granularity="segment", segments="parts:16"),
    baseline: BaselineName | Tensor = "typical",
    search: OrderSearch = OrderSearch(),
    score: Score = "probability",
    order: RemovalOrder = "morf",
) -> Scores:
    """Normalised AOPC: mean drop of the score while groups of units are removed, as a share of the way from the worst
    to the best order of removal (Edin et al. 2025, 2408.08137).

    (AOPC - lower) / (upper - lower), where the limits are the smallest and the largest AOPC of any order of the
    sample's groups, removed one at a time. ``order="morf"`` is the paper's comprehensiveness, and higher is better;
    ``"lerf"`` its sufficiency, and lower is better. Up to ``most_exact`` groups the limits are exact: the best area
    over a set is that over one of its subsets that lack one group, plus its own drop, so that 2^G evaluations serve,
    not G! orders. With more groups a beam search finds them nearly, as in the authors' code (which follows a set once
    for each order in which it was reached; here once); an AOPC beyond them gives a value outside of [0, 1]. The limits
    do not depend on the explainer and are found once for all, in about ``beam`` G^2 evaluations per sample (1,200 for
    16 groups, 19,000 for 62). A random ``baseline`` has one draw.

    NaN where the score does not depend on the order, and for a sample of a single group or, where samples differ in
    their groups, of more than 62. NotApplicable for inputs of more than 62 groups, and as for ``deletion``. Curves
    (N, K + 1) are the scores.

    Of two orders of two units the map of the first input has the better, that of the second the worse:

    >>> maps, options = torch.tensor([[2.0, -1.0], [0.0, 1.0]]), {"baseline": "zero", "score": "logit"}
    >>> harness.score("naopc", logits, inputs, targets, maps, segments="unit", **options).tolist()
    [1.0, 0.0]
    """
    samples = batch.samples
    groups = make_groups(samples, grouping)
    few = groups.totals <= MOST_GROUPS
    if groups.everyone and not few.all():
        raise NotApplicable(f"{TOO_MANY}, these are {groups.sizes.shape[1]} (give granularity=segment)")
    key = ("limits of aopc", *grouping.key, baseline, search, score)
    limits = samples.shared(key, lambda: _limits(samples, groups, baseline, search, score))
    # More steps than groups, so that they go one by one whatever the number of groups of other samples.
    curve = Curve(**vars(grouping), steps=MOST_GROUPS + 2, baseline=baseline)
    scores, ranking = heights(batch, curve, order, score), rank(batch, curve)
    own = ((scores[:, :1] - scores) * ranking.fresh).sum(1)
    lower, upper = limits.unbind(1)
    flat = upper - lower <= groups.totals * rounding(samples.clean(score).double())
    values = ((own - lower) / (upper - lower)).masked_fill(flat | ~few | (groups.totals < 2), float("nan"))
    reason = f"the score does not depend on the order, or {SINGLE}, or {TOO_MANY}"
    return with_reason(values, reason, curves=scores, tied=ranking.tied)


@metric(
    better="higher",
    unit=lambda options: "share" if options["relative"] else score_unit(options),
    span={"probability": (-1, 1)},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height=lambda options: f"{{score}} {'below' if options['test'] == 'deletion' else 'above'} the straight line",
)
def abc(
    batch: Batch,
    *,
    curve: Curve = Curve(),
    score: Score = "probability",
    test: Literal["deletion", "insertion"] = "insertion",
    relative: bool = False,
) -> Scores:
    """Area between the curve of insertion or deletion and the straight line between its ends (Hama et al. 2022,
    2205.12423).

    ``test="insertion"``: how much faster than the line the score comes when the most important units are inserted
    first; ``"deletion"``: how much faster it goes when they are removed first. 0 is what random orders give where units
    do not interact; higher is better for both. In the unit of the score; with ``relative`` divided by |f(x) -
    f(baseline)|, so that models can be compared. For regression ``insertion`` and ``deletion`` (with the other sign)
    are the same without ``relative``. Curves (N, K + 1) are the heights above, or below, the line, from the whole
    input to the baseline. NaN for a sample of a single group and, with ``relative``, where f(x) is f(baseline).
    NotApplicable as for ``deletion``.

    f goes 0, 2, 1 with x_0 inserted first, and 0, 4, 4, above lines through 0.5 and 2:

    >>> maps, options = inputs * logits.weight[0], {"baseline": "zero", "score": "logit"}
    >>> harness.score("abc", logits, inputs, targets, maps, **options).tolist()
    [0.75, 1.0]
    """
    ranking = rank(batch, curve)
    scores = heights(batch, curve, "morf" if test == "deletion" else "lerf", score)
    above = scores - torch.lerp(scores[:, :1], scores[:, -1:], ranking.fractions)
    above = -above if test == "deletion" else above
    area, fall = torch.trapezoid(above, ranking.fractions, dim=1), (scores[:, 0] - scores[:, -1]).abs()
    if relative:
        area = (area / fall).masked_fill(fall <= rounding(scores[:, 0]), float("nan"))
    nothing = "the score of the input is that of the baseline, or " if relative else ""
    values = area.masked_fill(ranking.totals < 2, float("nan"))
    return with_reason(values, f"{nothing}{SINGLE}", curves=above, tied=ranking.tied)


def _limits(samples: Samples, groups: Groups, baseline: str | Tensor, search: OrderSearch, score: str) -> Tensor:
    """The smallest and the largest sum of drops (N, 2) over the removal of all groups, in any order found."""
    exact, few = groups.totals <= search.most_exact, groups.totals <= MOST_GROUPS
    limits = torch.zeros(len(samples), 2, dtype=torch.float64, device=few.device)
    for which, beam in ((exact & few, None), (~exact & few, search.beam)):
        rows = which.nonzero()[:, 0]
        if len(rows):
            finder = _SetSearch(samples, groups, baseline, score, beam)
            limits[rows] = torch.stack([finder.sums(rows, sign) * sign for sign in (-1, 1)], 1)
    return limits


@dataclass(frozen=True)
class _SetSearch:
    """Finds the order of removal with the largest sum of drops, set by set of one size after the other.

    A set of groups is a number whose bits are its groups. Of all orders that remove the same set first, only the best
    can be part of the best order, so that a set is followed once. ``beam`` None follows all sets of a size.
    """

    samples: Samples
    groups: Groups
    baseline: str | Tensor
    score: str
    beam: int | None

    @property
    def numbers(self) -> Tensor:
        """The numbers (G,) of the groups."""
        return torch.arange(min(MOST_GROUPS, self.groups.sizes.shape[1]), device=self.groups.sizes.device)

    def sums(self, rows: Tensor, sign: int) -> Tensor:
        """The largest sum (n,) of ``sign`` times the drops, for the samples ``rows`` (n,)."""
        totals = self.groups.totals[rows]
        sets = torch.zeros(len(rows), 1, dtype=torch.long, device=rows.device)
        best = torch.zeros(len(rows), 1, dtype=torch.float64, device=rows.device)
        final = best[:, 0].clone()
        for size in range(1, int(totals.max()) + 1):
            sets, best = self._one_more(rows, sets, best, sign)
            final = torch.where(totals == size, best.amax(1), final)
        return final

    def _one_more(self, rows: Tensor, sets: Tensor, best: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        """The sets (n, B) with one more group, each once, and the best sum (n, B) on the way to it; -inf for none."""
        bits = 1 << self.numbers
        free = (sets[:, :, None] & bits == 0) & self.groups.present[rows, : len(bits)][:, None]
        larger = (sets[:, :, None] | bits).flatten(1)
        reached = best[:, :, None].where(free, float("-inf")).flatten(1)
        larger, reached = _each_once(larger, reached)
        drops = self._drops(rows, larger, reached.isfinite())
        reached = reached + sign * drops
        count = int(reached.isfinite().sum(1).max())
        reached, place = reached.topk(max(1, count if self.beam is None else min(self.beam, count)), dim=1)
        return larger.gather(1, place), reached

    def _drops(self, rows: Tensor, sets: Tensor, real: Tensor) -> Tensor:
        """f(x) - f(x without the set) for sets (n, B), 0 where a set is not ``real``."""
        which, place = real.nonzero(as_tuple=True)
        sample, chosen = rows[which], sets[which, place]
        remove = self.samples.remover(self.baseline)

        def build(some: Tensor) -> Tensor:
            kept = (chosen[some, None] >> self.numbers & 1) == 0
            return remove(sample[some], self.groups.spread(kept, sample[some]))

        after = pick(self.samples.track_rows(sample, build), self.score).double()
        drops = torch.zeros_like(sets, dtype=torch.float64)
        drops[which, place] = self.samples.clean(self.score).double()[sample] - after
        return drops


def _each_once(sets: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
    """Sets (n, B) with their sums (n, B), where of equal sets only the one of largest sum keeps its sum, not -inf."""
    order = reached.argsort(dim=1, descending=True, stable=True)
    sets, reached = sets.gather(1, order), reached.gather(1, order)
    order = sets.argsort(dim=1, stable=True)
    sets, reached = sets.gather(1, order), reached.gather(1, order)
    again = torch.nn.functional.pad(sets[:, 1:] == sets[:, :-1], (1, 0))
    return sets, reached.masked_fill(again, float("-inf"))
