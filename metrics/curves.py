"""Faithfulness by perturbation curves: the model's score while units leave or enter in the order of attribution.

Shared options: ``steps`` points after the first (at most one per unit, one more where needed for symmetry),
``baseline`` what a removed unit becomes, ``score`` of the explained class (logit, probability or log_odds),
``granularity`` what moves at once: a unit, a ``patch`` (side in units) or a segment of ``segments`` (ranked by mean
attribution), ``imputations`` draws of a random baseline and ``tie_draws`` random breakings of ties, over which the
curve is averaged. RISE's own insertion is ``baseline="blur"``. Region perturbation is ``aopc`` with
``granularity="patch"``, pixel flipping is ``deletion``. All metrics along the same path share their model evaluations;
``random_order`` is what a random order gives along it. A baseline may also fill in from the units that are left
(``noisy_linear``, ``inpaint``, ``vae``).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._curve import Path, Schedule, check_draws, curve, random_curve, rank
from harness.metrics._similarity import with_reason
from harness.registry import metric

SINGLE = "there is a single segment, and nothing to order"


def _unit(options: Mapping[str, Any]) -> str:
    return options["score"]


@metric(better=lambda options: "lower" if options["order"] == "morf" else "higher", unit=_unit, kind="faithfulness")
def deletion(
    batch: Batch,
    *,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    order: str = "morf",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    tie_draws: int = 1,
) -> Scores:
    """Area under the score while units are removed, most important first (RISE: Petsiuk et al. 2018, 1806.07421).

    Trapezoid over the removed share of units, both end points included; with ``order="lerf"`` least important first.
    In the unit of the score, [0, 1] for probability; lower is better, for lerf higher. Curves (N, K + 1). A constant
    map is scored in random order and reported as tied. NotApplicable with a single unit, and for class probabilities
    of a model with one output.
    """
    path = Path(steps, baseline, granularity, patch, segments, imputations, tie_draws)
    ranking, heights = rank(batch, path), curve(batch, path, order, score)
    return _area(heights, ranking, ranking.tied)


@metric(better="higher", unit=_unit, kind="faithfulness")
def insertion(
    batch: Batch,
    *,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    tie_draws: int = 1,
) -> Scores:
    """Area under the score while units enter, most important first (RISE: Petsiuk et al. 2018, 1806.07421).

    Trapezoid over the inserted share of units, both end points included. In the unit of the score; higher is better.
    The baseline is deletion's, not RISE's blur, which lets evidence through. Otherwise as ``deletion``.
    """
    path = Path(steps, baseline, granularity, patch, segments, imputations, tie_draws)
    ranking, heights = rank(batch, path), curve(batch, path, "lerf", score).flip(1)
    return _area(heights, ranking, ranking.tied)


@metric(better="higher", unit=_unit, kind="faithfulness")
def srg(
    batch: Batch,
    *,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    tie_draws: int = 1,
) -> Scores:
    """Symmetric relevance gain: area between least and most important first (Blücher et al. 2024, 2401.06654).

    Equals insertion minus deletion with the same baseline. In the unit of the score, 0 for a random order of any model;
    higher is better. Curves are the difference of the two. NotApplicable as for ``deletion``.
    """
    path = Path(steps, baseline, granularity, patch, segments, imputations, tie_draws)
    heights = curve(batch, path, "lerf", score) - curve(batch, path, "morf", score)
    ranking = rank(batch, path)
    return _area(heights, ranking, ranking.tied)


@metric(better=lambda options: "higher" if options["order"] == "morf" else "lower", unit=_unit, kind="faithfulness")
def aopc(
    batch: Batch,
    *,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    order: str = "morf",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    tie_draws: int = 1,
) -> Scores:
    """Mean drop of the score over the steps of removal, the zeroth included (Samek et al. 2017, 1509.06321).

    1 / (K + 1) times the sum over k = 0 .. K of f(x) - f(x without the first k). In the unit of the score; higher is
    better, for ``order="lerf"`` lower. With ``granularity="patch"`` it is the paper's region perturbation; everything
    is removed in the end, where the paper stops at 100 regions of 9 x 9. Curves (N, K + 1) are the drops. NotApplicable
    as for ``deletion``.
    """
    path = Path(steps, baseline, granularity, patch, segments, imputations, tie_draws)
    heights = curve(batch, path, order, score)
    drops = heights[:, :1] - heights
    ranking = rank(batch, path)
    return with_reason(_ordered(_mean(drops, ranking), ranking), SINGLE, curves=drops, tied=ranking.tied)


@metric(better="higher", unit=_unit, kind="faithfulness")
def abpc(
    batch: Batch,
    *,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    tie_draws: int = 1,
) -> Scores:
    """Area between the perturbation curves: AOPC of most less that of least relevant first (Samek et al. 2017,
    1509.06321).

    1 / (K + 1) times the sum over k = 0 .. K of f(x without the k least) - f(x without the k most relevant), the mean
    over points where ``srg`` is the area. In the unit of the score, 0 for a random order of any model; higher is
    better. Curves (N, K + 1) are the difference. NotApplicable as for ``deletion``.
    """
    path = Path(steps, baseline, granularity, patch, segments, imputations, tie_draws)
    gaps = curve(batch, path, "lerf", score) - curve(batch, path, "morf", score)
    ranking = rank(batch, path)
    return with_reason(_ordered(_mean(gaps, ranking), ranking), SINGLE, curves=gaps, tied=ranking.tied)


@metric(better="lower", unit=_unit, kind="faithfulness")
def selectivity(
    batch: Batch,
    *,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    granularity: str = "patch",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    tie_draws: int = 1,
) -> Scores:
    """Area under the score while patches are removed, most relevant first (Montavon et al. 2018, 1706.07979).

    ``deletion`` with patches for units, as the paper has it: trapezoid over the removed share of patches, both end
    points included. In the unit of the score; lower is better. Curves (N, K + 1). NotApplicable as for ``deletion``,
    and where patches make no sense, as on tables, unless the granularity is another.
    """
    path = Path(steps, baseline, granularity, patch, segments, imputations, tie_draws)
    ranking = rank(batch, path)
    return _area(curve(batch, path, "morf", score), ranking, ranking.tied)


@metric(better=None, unit=_unit, kind="reference")
def random_order(
    batch: Batch,
    *,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    imputations: int = 1,
    orders: int = 4,
) -> Scores:
    """Area under the score while units are removed in random order, the reference of all perturbation curves (R-OMS:
    Blücher et al. 2024, 2401.06654).

    The mean over ``orders`` random orders and their reverses, and so of ``deletion`` and of ``insertion`` alike. No
    attribution matters: it is the same for every explainer, evaluated once for all, and has no direction. For an
    additive model it is (f(x) + f(baseline)) / 2 whatever the orders. The mean drop that ``aopc`` is held against is
    f(x) less the mean of the curve; for ``srg`` and ``abpc`` it is 0. In the unit of the score. Curves (N, K + 1).
    NotApplicable as for ``deletion``.
    """
    check_draws(orders=orders)
    path = Path(steps, baseline, granularity, patch, segments, imputations, orders)
    heights, points = random_curve(batch.samples, path, score)
    return _area(heights, points)


def _area(heights: Tensor, points: Schedule, tied: Tensor | None = None) -> Scores:
    area = torch.trapezoid(heights, points.fractions, dim=1)
    return with_reason(_ordered(area, points), SINGLE, curves=heights, tied=tied)


def _mean(heights: Tensor, points: Schedule) -> Tensor:
    """The mean height (N,) over the points, each once: a sample of fewer groups than steps stands still at some."""
    return (heights * points.fresh).sum(1) / points.fresh.sum(1)


def _ordered(values: Tensor, points: Schedule) -> Tensor:
    """NaN for samples of a single group, of which there is nothing to order."""
    return values.masked_fill(points.totals < 2, float("nan"))
