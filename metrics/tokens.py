"""Comprehensiveness and sufficiency of rationales (ERASER): the most important tokens are removed, or kept alone.

Inputs that are no texts have units in place of tokens, and no padding. The options are those of ``Rationale``.

In the examples f = 2 x_0 - x_1, and the baseline is 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._checks import check_choice
from harness.metrics._percents import checked_percents
from harness.metrics._similarity import with_reason
from harness.metrics.curves import score_unit
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric

PADDINGS = ("none", "zero")


@dataclass(frozen=True)
class Rationale:
    """Options of metrics that remove or keep the most important tokens.

    percents        sizes of the rationale in percent of the tokens, each rounded up to whole tokens; a score is the
                    mean over them
    positive_only   leaves out tokens whose attribution is not positive
    baseline        what a removed token becomes, as in ``harness.metrics._curve.Stepwise``; its place stays
    score           of the explained class: ``logit``, ``probability`` or ``log_odds``
    padding         ``zero``: tokens whose embedding is 0 throughout are padding, which has no rank and does not count;
                    ``none``: every token counts
    """

    percents: tuple[float, ...] = (1, 5, 10, 20, 50)
    positive_only: bool = False
    baseline: str | Tensor = "typical"
    score: str = "probability"
    padding: str = "zero"


@metric(better="higher", unit=score_unit)
def comprehensiveness(batch: Batch, *, rationale: Rationale = Rationale()) -> Scores:
    """Mean drop of the score when the most important tokens are removed (ERASER: DeYoung et al. 2020, 1911.03429).

    f(x) - f(x without the top k tokens), mean over ``percents``, ties at random. In the unit of the score, [-1, 1] for
    probability; higher is better. Curves (N, number of percents) are the drops at each. NaN where every token is
    padding. NotApplicable for class probabilities of a model with one output.

    Half of two units is x_0, without which f drops from 1 to -1, and from 4 to 0:

    >>> maps, options = inputs * linear.weight[0], {"percents": 50, "score": "logit", "baseline": "zero"}
    >>> harness.score("comprehensiveness", linear, inputs, targets, maps, **options).tolist()
    [2.0, 4.0]
    """
    return _mean_drop(batch, rationale, alone=False)


@metric(better="lower", unit=score_unit)
def sufficiency(batch: Batch, *, rationale: Rationale = Rationale()) -> Scores:
    """Mean drop of the score when only the most important tokens are kept (ERASER: DeYoung et al. 2020, 1911.03429).

    f(x) - f(the top k tokens alone), mean over ``percents``, ties at random; padding is kept as well. In the unit of
    the score, [-1, 1] for probability; lower is better. Curves, NaN and NotApplicable as for ``comprehensiveness``.

    Half of two units is x_0, with which alone f rises from 1 to 2, and stays at 4:

    >>> maps, options = inputs * linear.weight[0], {"percents": 50, "score": "logit", "baseline": "zero"}
    >>> harness.score("sufficiency", linear, inputs, targets, maps, **options).tolist()
    [-1.0, 0.0]
    """
    return _mean_drop(batch, rationale, alone=True)


def _mean_drop(batch: Batch, rationale: Rationale, alone: bool) -> Scores:
    samples, fractions = batch.samples, [percent / 100 for percent in checked_percents(rationale.percents)]
    counted = _counted_tokens(batch, rationale.padding)
    totals, ranked = counted.sum(1), batch.attributions.flatten(1).masked_fill(~counted, float("-inf"))
    place = ranks(ranked, samples.stream("ties 0"))
    most = torch.stack([_rounded_up(share, totals) for share in fractions], 1)
    candidates = counted & (ranked > 0) if rationale.positive_only else counted

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        top = (place[sample] < most[sample, draw][:, None]) & candidates[sample]
        kept = top | ~counted[sample] if alone else ~top
        return kept.view(-1, *batch.units.shape)

    after = pick(samples.masked(len(fractions), keep, rationale.baseline), rationale.score).double()
    before = samples.clean(rationale.score).double()[:, None]
    drops = (before - after).masked_fill((totals == 0)[:, None], float("nan"))
    tied = tied_share(ranked, totals.clamp(min=1))
    return with_reason(drops.mean(1), "every token is padding", curves=drops, tied=tied)


def _rounded_up(share: float, totals: Tensor) -> Tensor:
    """How many of ``totals`` (N,) a share is, rounded up to at least 1; an excess below 1e-9 is not rounded up."""
    return (share * totals.double() - 1e-9).ceil().long().clamp(min=1)


def _counted_tokens(batch: Batch, padding: str) -> Tensor:
    """Which units (N, count) are tokens rather than padding."""
    check_choice("padding", padding, PADDINGS)
    if padding == "none" or batch.units.modality != "tokens":
        return torch.ones_like(batch.attributions, dtype=torch.bool).flatten(1)
    tokens = (batch.inputs != 0).any(-1, keepdim=True)
    return (tokens if batch.units.channel_axis else tokens.expand_as(batch.inputs)).flatten(1)
