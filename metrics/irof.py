"""Iterative removal of features: the share of the score that is lost while segments are removed."""

import torch

from harness.batch import Batch, Scores
from harness.metrics._curve import Curve, from_line, heights, rank
from harness.metrics._similarity import with_reason
from harness.registry import metric
from harness.task import Score

NOT_A_SHARE = (
    "the sample has a single segment, or f(x) is not positive (for regression: f(x) is f(baseline)), so that nothing is"
    " a share of it"
)


@metric(
    better="higher",
    unit=lambda options: "share" if options["normalised"] else options["score"],
    span={"probability": (-1, 1)},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height=lambda options: "relative {score}{line}" if options["normalised"] else "{score}{line}",
)
def irof(
    batch: Batch,
    *,
    curve: Curve = Curve(steps=100, granularity="segment"),
    score: Score = "probability",
    normalised: bool = True,
) -> Scores:
    """Area over the relative score while segments are removed, most important first (Rieger and Hansen 2020,
    2003.08747).

    1 - AUC(f(x_l) / f(x_0)) over the removed share of segments, both end points included, in descending order of their
    mean attribution; higher is better, in (-inf, 1] for probability (above 1 where a logit or log-odds falls below 0).
    Where there are more segments than ``steps``, several are removed at once. Because of the division, samples of low
    f(x_0) dominate a mean over samples: ``normalised=False`` gives f(x_0) - AUC(f(x_l)), in the unit of the score. For
    regression, where f has no zero, it is the area from the curve up to the straight line between f(x_0) and
    f(baseline) (Hama et al. 2022, 2205.12423), as a share of the distance of these two. The paper removes to the data
    set's mean, which is ``baseline="train_mean"``; the default needs training data on tables only. Segments are
    superpixels of an image, the words of a text, and else up to 100 parts. Curves (N, K + 1) are f(x_l) / f(x_0), or
    f(x_l). Options and model evaluations are shared with ``deletion``. NaN for a single segment, and where f(x_0) is
    not positive, or for regression is f(baseline). NotApplicable as for ``deletion``, and for ``slic`` segments of
    inputs that are no images.

    f counts the ones in the upper left of four squares: f(x_l) / f(x_0) goes 1, 0, 0, 0, 0, with an area of 1/8.

    >>> options = {"segments": "grid:2", "baseline": "zero", "score": "logit"}
    >>> harness.score("irof", image_model, images, targets[:1], corner.float(), **options).tolist()
    [0.875]
    """
    scores, ranking = heights(batch, curve, "morf", score), rank(batch, curve)
    whole = scores[:, :1] if batch.samples.task.classed else (scores[:, :1] - scores[:, -1:]).abs()
    scores = from_line(scores, ranking, batch.samples)
    if normalised:
        scores = (scores / whole).masked_fill(whole <= 0, float("nan"))
    lost = scores[:, 0] - torch.trapezoid(scores, ranking.fractions, dim=1)
    values = lost.masked_fill(ranking.totals < 2, float("nan"))
    return with_reason(values, NOT_A_SHARE, curves=scores, tied=ranking.tied)
