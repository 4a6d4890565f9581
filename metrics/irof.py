"""Iterative removal of features: the share of the score that is lost while segments are removed."""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._curve import Path, curve, rank
from harness.metrics._similarity import with_reason
from harness.registry import metric

REASON = "there is a single segment, or f(x) is not positive and nothing is a share of it"


@metric(
    better="higher", unit=lambda options: "share" if options["normalised"] else options["score"], kind="faithfulness"
)
def irof(
    batch: Batch,
    *,
    steps: int = 100,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    granularity: str = "segment",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    tie_draws: int = 1,
    normalised: bool = True,
) -> Scores:
    """Area over the relative score while segments are removed, most important first (Rieger and Hansen 2020,
    2003.08747).

    1 - AUC(f(x_l) / f(x_0)) over the removed share of segments, both end points included, in descending order of their
    mean attribution; higher is better, in (-inf, 1] for probability (above 1 where a logit or log-odds falls below 0).
    Where there are more segments than ``steps``, several go at once. Division by f(x_0) lets samples of low confidence
    dominate a mean: ``normalised=False`` is f(x_0) - AUC(f(x_l)), in the unit of the score. The paper removes to the
    data set's mean: that is ``baseline="train_mean"``; the default needs no training data. Curves (N, K + 1) are
    f(x_l) / f(x_0), or f(x_l). The other options are those of
    ``deletion``, with which it shares model evaluations. NaN for a single segment, and where f(x_0) is not positive.
    NotApplicable as for ``deletion``, and for superpixels of what is no image.
    """
    path = Path(steps, baseline, granularity, patch, segments, imputations, tie_draws)
    heights, ranking = curve(batch, path, "morf", score), rank(batch, path)
    whole = heights[:, :1]
    if normalised:
        heights = (heights / whole).masked_fill(whole <= 0, float("nan"))
    lost = heights[:, 0] - torch.trapezoid(heights, ranking.fractions, dim=1)
    return with_reason(lost.masked_fill(ranking.totals < 2, float("nan")), REASON, curves=heights, tied=ranking.tied)
