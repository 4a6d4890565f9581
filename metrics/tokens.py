"""Comprehensiveness and sufficiency of rationales (ERASER): the most important tokens are removed, or kept alone.

Shared options: ``percents`` of the tokens, each rounded up to whole tokens; ``positive_only`` leaves out
tokens whose attribution is not positive; ``baseline`` what a removed token becomes, its place stays; ``score`` of the
explained class; ``padding``: with ``zero`` tokens whose embedding is 0 throughout are taken for padding, which has no
rank and does not count, with ``none`` every token counts. Any other units serve as tokens, and have no padding.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import unknown
from harness.metrics._percents import percentages
from harness.metrics._similarity import with_reason
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric

PADDINGS = ("none", "zero")


def _unit(options: Mapping[str, Any]) -> str:
    return options["score"]


@metric(better="higher", unit=_unit, kind="faithfulness")
def comprehensiveness(
    batch: Batch,
    *,
    percents: str = "1 5 10 20 50",
    positive_only: bool = False,
    baseline: str | Tensor = "zero",
    score: str = "probability",
    padding: str = "zero",
) -> Scores:
    """Mean drop of the score when the most important tokens are removed (ERASER: DeYoung et al. 2020, 1911.03429).

    f(x) - f(x without the top k tokens), mean over ``percents``, ties by lot. In the unit of the score, [-1, 1] for
    probability; higher is better. Curves (N, number of percents) hold the drop at each. NaN where all is padding.
    NotApplicable for class probabilities of a model with one output.
    """
    return _mean_drop(batch, percents, positive_only, baseline, score, padding, alone=False)


@metric(better="lower", unit=_unit, kind="faithfulness")
def sufficiency(
    batch: Batch,
    *,
    percents: str = "1 5 10 20 50",
    positive_only: bool = False,
    baseline: str | Tensor = "zero",
    score: str = "probability",
    padding: str = "zero",
) -> Scores:
    """Mean drop of the score when only the most important tokens are kept (ERASER: DeYoung et al. 2020, 1911.03429).

    f(x) - f(the top k tokens alone), mean over ``percents``, ties by lot; padding stays. In the unit of the score,
    [-1, 1] for probability; lower is better. Curves, NaN and NotApplicable as for ``comprehensiveness``.
    """
    return _mean_drop(batch, percents, positive_only, baseline, score, padding, alone=True)


def _mean_drop(
    batch: Batch, percents: str, positive_only: bool, baseline: str | Tensor, score: str, padding: str, alone: bool
) -> Scores:
    samples, fractions = batch.samples, [percent / 100 for percent in percentages(percents)]
    counted = _counted(batch, padding)
    totals, ranked = counted.sum(1), batch.attributions.flatten(1).masked_fill(~counted, float("-inf"))
    place = ranks(ranked, samples.stream("ties 0"))
    most = torch.stack([_whole(share, totals) for share in fractions], 1)
    candidates = counted & (ranked > 0) if positive_only else counted

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        top = (place[sample] < most[sample, draw][:, None]) & candidates[sample]
        kept = top | ~counted[sample] if alone else ~top
        return kept.view(-1, *batch.units.shape)

    after = pick(samples.masked(len(fractions), keep, baseline), score).double()
    drops = (samples.clean(score).double()[:, None] - after).masked_fill((totals == 0)[:, None], float("nan"))
    tied = tied_share(ranked, totals.clamp(min=1))
    return with_reason(drops.mean(1), "every token is padding", curves=drops, tied=tied)


def _whole(share: float, totals: Tensor) -> Tensor:
    """How many of ``totals`` (N,) a share is, rounded up, but for the rounding of the share itself."""
    return (share * totals.double() - 1e-9).ceil().long().clamp(min=1)


def _counted(batch: Batch, padding: str) -> Tensor:
    """Which units (N, count) are tokens rather than padding."""
    if padding not in PADDINGS:
        raise unknown("padding", padding, PADDINGS)
    if padding == "none" or batch.units.modality != "tokens":
        return torch.ones_like(batch.attributions, dtype=torch.bool).flatten(1)
    tokens = (batch.inputs != 0).any(-1, keepdim=True)
    return (tokens if batch.units.channel_axis else tokens.expand_as(batch.inputs)).flatten(1)
