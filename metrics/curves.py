"""Faithfulness by perturbation curves: the model's score while units are removed or inserted in order of attribution.

The options are those of ``harness.metrics._curve.AdaptiveCurve``, and ``score``: ``logit``, ``probability`` or
``log_odds`` of the explained class. A segment or patch is ranked by the mean of its attributions. RISE's own insertion
is ``baseline="blur"``. Region perturbation is ``aopc`` with ``granularity="patch"``, pixel flipping is ``deletion``.
All metrics with the same options share their model evaluations; ``random_order`` is what random orders give. With
``standard_error`` above 0 a score is estimated from fewer evaluations, which metrics of the same ``score`` share, and
comes with its standard error (``harness.metrics._adaptive_curve``).

A model that predicts numbers (task ``regression``) has scores of no fixed zero or sign. Its curves are measured from
the straight line between f(x) and f(baseline), and the areas are those between curve and line (Hama et al. 2022,
2205.12423): lower is better for ``deletion``, higher for ``insertion``, and 0 is what random orders give where units do
not interact. ``srg`` and ``abpc`` are the same with and without the line.

In the examples f = 2 x_0 - x_1 is the logit of one of two classes, and the baseline is 0.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._adaptive_curve import CurveEstimate, estimate_heights, joint_error
from harness.metrics._curve import (
    AdaptiveCurve,
    Curve,
    Ranking,
    Removal,
    RemovalOrder,
    Schedule,
    from_line,
    random_heights,
    rank,
)
from harness.metrics._similarity import with_reason
from harness.option_types import Count, Repeats
from harness.registry import metric
from harness.task import Score

SINGLE = "the sample has a single segment, so there is nothing to order"


def score_unit(options: Mapping[str, Any]) -> str:
    """The unit of a metric that is measured in the model's score."""
    return options["score"]


@metric(
    better=lambda options: "lower" if options["order"] == "morf" else "higher",
    unit=score_unit,
    span={"probability": (0, 1)},
    added={"standard_error": 0.0},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height="{score}{line}",
)
def deletion(
    batch: Batch, *, curve: AdaptiveCurve = AdaptiveCurve(), score: Score = "probability", order: RemovalOrder = "morf"
) -> Scores:
    """Area under the score while units are removed, most important first (RISE: Petsiuk et al. 2018, 1806.07421).

    Trapezoidal rule over the removed share of units, both end points included; with ``order="lerf"`` the least
    important units are removed first. In the unit of the score, [0, 1] for probability; lower is better, for lerf
    higher. For regression it is the area between the curve and the straight line from f(x) to f(baseline). Curves (N,
    K + 1) are the scores, or their heights above that line. A map of equal values is scored in random order and
    reported as tied. NotApplicable for inputs of a single unit, for a table without training inputs (unless
    ``baseline`` needs none), and for probabilities of a model that has none.

    f goes 1, -1, 0 for the first input and 4, 0, 0 for the second:

    >>> maps = inputs * logits.weight[0]
    >>> harness.score("deletion", logits, inputs, targets, maps, baseline="zero", score="logit").tolist()
    [-0.25, 1.0]
    """
    ranking = rank(batch, curve)
    found = estimate_heights(batch, curve, order, score)
    return _area(from_line(found.heights, ranking, batch.samples), ranking, ranking.tied, found.standard_error)


@metric(
    better="higher",
    unit=score_unit,
    span={"probability": (0, 1)},
    added={"standard_error": 0.0},
    curve_across="share inserted",
    curve_places=(0, 1),
    curve_height="{score}{line}",
)
def insertion(batch: Batch, *, curve: AdaptiveCurve = AdaptiveCurve(), score: Score = "probability") -> Scores:
    """Area under the score while units are inserted, most important first (RISE: Petsiuk et al. 2018, 1806.07421).

    Trapezoidal rule over the inserted share of units, both end points included. In the unit of the score; higher is
    better. For regression it is the area between the curve and the straight line from f(baseline) to f(x). The baseline
    is that of deletion, not RISE's blur, which leaves evidence visible. Otherwise as ``deletion``.

    f goes 0, 2, 1 for the first input and 0, 4, 4 for the second:

    >>> maps = inputs * logits.weight[0]
    >>> harness.score("insertion", logits, inputs, targets, maps, baseline="zero", score="logit").tolist()
    [1.25, 3.0]
    """
    ranking = rank(batch, curve)
    found = estimate_heights(batch, curve, "lerf", score)
    inserted = from_line(found.heights.flip(1), ranking, batch.samples)
    return _area(inserted, ranking, ranking.tied, found.standard_error)


@metric(
    better="higher",
    unit=score_unit,
    span={"probability": (-1, 1)},
    chance=0,
    added={"standard_error": 0.0},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height="{score}, least important removed first minus most important first",
)
def srg(batch: Batch, *, curve: AdaptiveCurve = AdaptiveCurve(), score: Score = "probability") -> Scores:
    """Symmetric relevance gain: area between the score's curves while units are removed least important first and most
    important first (Blücher et al. 2024, 2401.06654).

    Equals insertion minus deletion with the same baseline. In the unit of the score, on average 0 for a random order,
    whatever the model; higher is better. Curves (N, K + 1) are the difference of the two. NotApplicable as for
    ``deletion``.

    Insertion gives 1.25 and 3, deletion -0.25 and 1:

    >>> maps = inputs * logits.weight[0]
    >>> harness.score("srg", logits, inputs, targets, maps, baseline="zero", score="logit").tolist()
    [1.5, 2.0]
    """
    ranking = rank(batch, curve)
    difference = _of_both_orders(batch, curve, score)
    return _area(difference.heights, ranking, ranking.tied, difference.standard_error)


@metric(
    better=lambda options: "higher" if options["order"] == "morf" else "lower",
    unit=score_unit,
    span={"probability": (-1, 1)},
    added={"standard_error": 0.0},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height="drop of the {score}{line}",
)
def aopc(
    batch: Batch, *, curve: AdaptiveCurve = AdaptiveCurve(), score: Score = "probability", order: RemovalOrder = "morf"
) -> Scores:
    """Mean drop of the score while units are removed, most important first (Samek et al. 2017, 1509.06321).

    1 / (K + 1) times the sum over k = 0 .. K of f(x) - f(x without the first k). In the unit of the score; higher is
    better, for ``order="lerf"`` lower. With ``granularity="patch"`` it is the paper's region perturbation; here
    everything is removed in the end, while the paper stops after 100 regions of 9 x 9 pixels. For regression the drops
    count from the straight line between f(x) and f(baseline). Curves (N, K + 1) are the drops. NotApplicable as for
    ``deletion``.

    The drops are 0, 2, 1 for the first input and 0, 4, 4 for the second:

    >>> maps = inputs * logits.weight[0]
    >>> drops = harness.score("aopc", logits, inputs, targets, maps, baseline="zero", score="logit")
    >>> drops.round(decimals=4).tolist()
    [1.0, 2.6667]
    """
    found, ranking = estimate_heights(batch, curve, order, score), rank(batch, curve)
    drops = from_line(found.heights[:, :1] - found.heights, ranking, batch.samples)
    return _mean_over_points(drops, ranking, found.standard_error)


@metric(
    better="higher",
    unit=score_unit,
    span={"probability": (-1, 1)},
    chance=0,
    added={"standard_error": 0.0},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height="{score}, least important removed first minus most important first",
)
def abpc(batch: Batch, *, curve: AdaptiveCurve = AdaptiveCurve(), score: Score = "probability") -> Scores:
    """Mean gap between the scores while units are removed least important first and most important first (Samek et al.
    2017, 1509.06321).

    1 / (K + 1) times the sum over k = 0 .. K of f(x without the k least) - f(x without the k most relevant units): the
    mean over points where ``srg`` is the area. In the unit of the score, on average 0 for a random order, whatever the
    model; higher is better. Curves (N, K + 1) are the difference. NotApplicable as for ``deletion``.

    The gaps are 0, 3, 0 for the first input and 0, 4, 0 for the second:

    >>> maps = inputs * logits.weight[0]
    >>> gaps = harness.score("abpc", logits, inputs, targets, maps, baseline="zero", score="logit")
    >>> gaps.round(decimals=4).tolist()
    [1.0, 1.3333]
    """
    difference = _of_both_orders(batch, curve, score)
    return _mean_over_points(difference.heights, rank(batch, curve), difference.standard_error)


@metric(
    better="lower",
    unit=score_unit,
    span={"probability": (0, 1)},
    added={"standard_error": 0.0},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height="{score}{line}",
)
def selectivity(
    batch: Batch, *, curve: AdaptiveCurve = AdaptiveCurve(granularity="auto"), score: Score = "probability"
) -> Scores:
    """Area under the score while patches are removed, most relevant first (Montavon et al. 2018, 1706.07979).

    ``deletion`` of patches rather than units, as in the paper: trapezoidal rule over the removed share of patches,
    both end points included. In the unit of the score; lower is better. For regression it is the area between the curve
    and the straight line, as in ``deletion``. Curves (N, K + 1) are the scores. The columns of a table have no
    neighbours: they are removed one by one, as in ``deletion``. NotApplicable as for ``deletion``.

    f counts the ones in the upper left of four patches, which is removed first, so it goes 4, 0, 0, 0, 0:

    >>> options = {"patch": 2, "baseline": "zero", "score": "logit"}
    >>> harness.score("selectivity", image_model, images, targets[:1], corner.float(), **options).tolist()
    [0.5]
    """
    ranking = rank(batch, curve)
    found = estimate_heights(batch, curve, "morf", score)
    return _area(from_line(found.heights, ranking, batch.samples), ranking, ranking.tied, found.standard_error)


@metric(
    better=None,
    unit=score_unit,
    span={"probability": (0, 1)},
    kind="reference",
    renamed={"orders": "draws"},
    curve_across="share removed",
    curve_places=(0, 1),
    curve_height="{score}{line}",
)
def random_order(
    batch: Batch,
    *,
    removal: Removal = Removal(),
    score: Score = "probability",
    imputations: Repeats = 1,
    draws: Count = 4,
) -> Scores:
    """Area under the score while units are removed in random order: the reference for all perturbation curves (R-OMS:
    Blücher et al. 2024, 2401.06654).

    The mean over ``draws`` random orders and their reverses, so it is the expected score of ``deletion`` and of
    ``insertion`` for an order that has nothing to do with the model. It is the same for every explainer, evaluated once
    for all, and has no direction. The expected score of ``aopc`` is f(x) less the mean of the curve; that of ``srg``
    and ``abpc`` is 0. In the unit of the score. For regression it is the area between the curve and the straight line,
    as in ``deletion``. Curves (N, K + 1) are the scores; ``imputations`` as in ``deletion``. NotApplicable as for
    ``deletion``.

    For an additive model it is (f(x) + f(baseline)) / 2, whatever the orders:

    >>> maps = torch.zeros(2, 2)
    >>> harness.score("random_order", logits, inputs, targets, maps, baseline="zero", score="logit").tolist()
    [0.5, 2.0]
    """
    curve = Curve(**vars(removal), imputations=imputations, tie_draws=draws)
    scores, points = random_heights(batch.samples, curve, score)
    return _area(from_line(scores, points, batch.samples), points)


def _of_both_orders(batch: Batch, curve: AdaptiveCurve, score: str) -> CurveEstimate:
    """The score without the least less the score without the most important units, at each point: (N, K + 1)."""
    least, most = (estimate_heights(batch, curve, order, score) for order in ("lerf", "morf"))
    return CurveEstimate(least.heights - most.heights, joint_error(least, most))


def _area(curves: Tensor, points: Schedule, tied: Tensor | None = None, standard_error: Tensor | None = None) -> Scores:
    area = torch.trapezoid(curves, points.fractions, dim=1)
    return _unless_single(area, points, curves, tied, standard_error)


def _mean_over_points(curves: Tensor, ranking: Ranking, standard_error: Tensor | None) -> Scores:
    """The mean over the points, each once: a sample of fewer groups than steps repeats some."""
    mean = (curves * ranking.fresh).sum(1) / ranking.fresh.sum(1)
    return _unless_single(mean, ranking, curves, ranking.tied, standard_error)


def _unless_single(
    values: Tensor, points: Schedule, curves: Tensor, tied: Tensor | None, standard_error: Tensor | None
) -> Scores:
    """The scores, NaN for samples of a single group."""
    values = values.masked_fill(points.totals < 2, float("nan"))
    return with_reason(values, SINGLE, curves=curves, tied=tied, standard_error=standard_error)
