"""Effective complexity: how few units, most important first, keep the model's score."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._similarity import with_reason
from harness.metrics._smallest_number import smallest_number
from harness.option_types import Positive, Repeats, Several, Share, ShareBelowOne
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import BaselineName, is_random
from harness.samples import Samples
from harness.task import LOG_PROBABILITY, Score

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

    tolerance: Positive = 0.1
    steps: Several = 256
    least_probability: Share = 0.2
    baseline: BaselineName | Tensor = "typical"
    score: Score = "probability"
    imputations: Repeats = 1


@metric(
    better="lower",
    unit=lambda options: "share" if options["normalised"] else "count",
    span={"share": (0, 1), "count": (0, None)},
    kind="complexity",
    renamed={"epsilon": "least_attribution"},
)
def effective_complexity(
    batch: Batch,
    *,
    definition: Literal["model", "threshold"] = "model",
    search: Search = Search(),
    least_attribution: ShareBelowOne = 0.01,
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
    undefined = ~samples.clean(search.score).isfinite() | _improbable(samples, search.least_probability)
    values = torch.full_like(sizes[:, 0], float("nan"))
    rows = (~undefined).nonzero()[:, 0]

    def suffices(sample: Tensor, kept: Tensor) -> Tensor:
        loss = _loss(samples, places, sample, kept, search)
        return (loss < search.tolerance).double().masked_fill(loss.isnan(), float("nan"))

    # All units suffice, as they lose nothing.
    values[rows] = smallest_number(rows, count, search.steps, suffices, samples.predictor.chunk)
    return values


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
