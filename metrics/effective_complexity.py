"""Effective complexity: how few units, most important first, keep the model's score."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError
from harness.metrics._checks import check_choice, check_draws
from harness.metrics._similarity import with_reason
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import is_random
from harness.samples import Samples
from harness.task import LOG_PROBABILITY

DEFINITIONS = ("model", "threshold")
UNDEFINED = "the attribution is 0 throughout, or the explained class has a probability under least_probability"


@dataclass(frozen=True)
class Search:
    """Options of the search for the smallest number of units.

    tolerance           the largest loss of the score, above 0
    steps               the most numbers of units tried in a round, at least 2; the result is exact for inputs of up to
                        ``steps`` + 1 units
    least_probability   a sample whose explained class is less probable has no score: such a class is as improbable
                        without any unit, so that one unit would do
    baseline            what a removed unit becomes, as in ``harness.metrics._curve.Stepwise``
    score               of the explained class: ``logit``, ``probability`` or ``log_odds``
    imputations         number of draws of a random ``baseline`` over which the loss is averaged
    """

    tolerance: float = 0.1
    steps: int = 256
    least_probability: float = 0.2
    baseline: str | Tensor = "typical"
    score: str = "probability"
    imputations: int = 1

    def __post_init__(self) -> None:
        check_draws(imputations=self.imputations)
        if not (self.tolerance > 0 and self.steps >= 2 and 0 <= self.least_probability <= 1):
            came = f"tolerance={self.tolerance}, steps={self.steps}, least_probability={self.least_probability}"
            raise UserError(f"options are {came}, expected more than 0, at least 2, and a probability")


@metric(
    better="lower",
    unit=lambda options: "share" if options["normalised"] else "count",
    kind="complexity",
    renamed={"epsilon": "least_attribution"},
)
def effective_complexity(
    batch: Batch,
    *,
    definition: str = "model",
    search: Search = Search(),
    least_attribution: float = 0.01,
    normalised: bool = True,
) -> Scores:
    """Smallest share of the units, most important first, that keeps the model's score (effective complexity: Nguyen and
    Martinez 2020, 2007.07584).

    ``definition="model"``, as in the paper: the smallest k from 1 to d for which the expected loss of keeping only the
    k units of largest |a| is below ``tolerance``. The loss is |f(x) - f(x with the others replaced)|, where f is the
    ``score`` (logit, probability or log_odds); the expectation is the mean over ``imputations`` draws of a random
    ``baseline``, for example ``train_sample``, which draws from the data. Units of equal |a| are ordered at random and
    reported as tied. The loss need not fall with k, so that only trying every k from 1 up is sure to find the smallest.
    This is done for up to ``steps`` + 1 units. Beyond, ``steps`` evenly spaced numbers are tried, then as many in the
    gap below the first that suffices, and so on: the k that is found suffices, k - 1 does not, and neither does any
    smaller number that was tried.

    ``definition="threshold"``, a shortcut without the model: the number of units with |a| > ``least_attribution``
    times the largest. No other option matters to it, and ``least_attribution`` to nothing else.

    The value is a share of the d units, or their number with ``normalised=False``; lower is better. NaN where all
    attributions are 0, where an output is not finite, and where the explained class has a probability under
    ``least_probability``. ``definition="model"`` is NotApplicable for inputs of a single unit and for probabilities of
    a model with one output.

    f = 2 x_0 - x_1 is 1 for the first input and 2 with x_0 alone; for the second x_0 is enough:

    >>> maps, options = inputs * linear.weight[0], {"baseline": "zero", "score": "logit"}
    >>> harness.score("effective_complexity", linear, inputs, targets, maps, **options).tolist()
    [1.0, 0.5]
    """
    check_choice("definition", definition, DEFINITIONS)
    if not 0 <= least_attribution < 1:
        raise UserError(
            f"least_attribution is {least_attribution}, expected a share of the largest attribution, from 0 to below 1"
        )
    sizes = batch.attributions.flatten(1).double().abs()
    if definition == "threshold":
        counts, tied = (sizes > least_attribution * sizes.amax(1, keepdim=True)).sum(1).double(), None
    else:
        counts, tied = _smallest_count(batch, sizes, search), tied_share(sizes)
    values = counts.masked_fill((sizes == 0).all(1), float("nan"))
    return with_reason(values / (sizes.shape[1] if normalised else 1), UNDEFINED, tied=tied)


def _smallest_count(batch: Batch, sizes: Tensor, search: Search) -> Tensor:
    """The smallest number of units (N,) float64 whose loss is below the tolerance; NaN where there is none to find."""
    samples, count = batch.samples, sizes.shape[1]
    if count < 2:
        raise NotApplicable("the inputs have a single unit, so there is nothing to choose from")
    places = ranks(sizes, samples.stream("ties 0")).int().view(batch.attributions.shape)
    loss = lambda sample, kept: _loss(samples, places, sample, kept, search)
    # At first no number is known not to suffice, and all units are known to suffice, as they lose nothing.
    too_few, enough = torch.zeros_like(sizes[:, 0], dtype=torch.long), torch.full_like(sizes[:, 0], count).long()
    undefined = ~samples.clean(search.score).isfinite() | _improbable(samples, search.least_probability)
    while True:
        open_ = ((enough - too_few > 1) & ~undefined).nonzero()[:, 0]
        if not len(open_):
            return enough.double().masked_fill(undefined, float("nan"))
        low, high, broken = _narrowed(open_, too_few[open_], enough[open_], loss, search, samples.predictor.chunk)
        too_few[open_], enough[open_], undefined[open_] = low, high, broken


def _narrowed(
    sample: Tensor, low: Tensor, high: Tensor, loss: Callable[[Tensor, Tensor], Tensor], search: Search, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The bounds (n,) after one round of trials in ascending order, and where an output was not finite.

    ``low`` is the last number that does not suffice, ``high`` the first that does. As many numbers are tried at once as
    fill about ``rows`` rows of a forward pass. What comes after the first that suffices counts for nothing, so that the
    result does not depend on that.
    """
    trials = torch.minimum(high - low - 1, torch.full_like(high, search.steps))
    numbers = torch.arange(1, int(trials.max()) + 1, device=low.device)
    tried = low[:, None] + numbers * (high - low)[:, None] // (trials[:, None] + 1)
    broken, searching = torch.zeros_like(low, dtype=torch.bool), torch.arange(len(low), device=low.device)
    start = 0
    while len(searching) and start < len(numbers):
        block = slice(start, start + max(1, rows // len(searching)))
        kept, there = tried[searching, block], numbers[block] <= trials[searching, None]
        row, column = there.nonzero(as_tuple=True)
        losses = torch.full(kept.shape, float("inf"), dtype=torch.float64, device=low.device)
        losses[row, column] = loss(sample[searching[row]], kept[row, column])
        stops = ~(losses >= search.tolerance)  # also where it is not a number
        first = torch.where(stops.any(1), stops.long().argmax(1), there.sum(1))
        last = first - 1
        low[searching] = torch.where(last >= 0, kept.gather(1, last.clamp(min=0)[:, None])[:, 0], low[searching])
        found = stops.any(1)
        at = first.clamp(max=kept.shape[1] - 1)[:, None]
        high[searching[found]] = kept.gather(1, at)[found, 0]
        broken[searching] |= found & losses.gather(1, at)[:, 0].isnan()
        searching, start = searching[~found], block.stop
    return low, high, broken


def _loss(samples: Samples, places: Tensor, sample: Tensor, kept: Tensor, search: Search) -> Tensor:
    """The mean change of the score (rows,) when only the ``kept`` (rows,) most important units of samples remain."""
    draws = search.imputations if is_random(search.baseline) else 1
    count, before = kept.view(-1, *[1] * len(samples.units.shape)), samples.clean(search.score)[sample]

    def change(draw: int) -> Tensor:
        remove = samples.remover(search.baseline, draw)
        build = lambda rows: remove(sample[rows], places[sample[rows]] < count[rows])
        return (before - pick(samples.track_rows(sample, build), search.score)).double().abs()

    return torch.stack([change(draw) for draw in range(draws)]).mean(0)


def _improbable(samples: Samples, least: float) -> Tensor:
    """Where (N,) the explained class is less probable than ``least``; nowhere for a model without probabilities."""
    return samples.intact()[:, LOG_PROBABILITY].exp() < least  # NaN, which is not less, where there are none
