"""Agreement with the truth: how close an attribution is to the one that is known to be right, on planted data.

The truth t (N, *units) is given by the data set; the attribution a of a sample is compared with its own t, unit by
unit. The model is not used: if it has not learnt what was planted in the data, its right attributions differ from the
truth. All are NaN for a sample that is explained for another class than its label, and NotApplicable where the data has
no truth.
"""

import math

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._masks import share_of_top
from harness.metrics._similarity import pearson, spearman
from harness.metrics._transport import earth_movers_distance, pooled
from harness.metrics._truth import maps_and_truth, truth_scores
from harness.option_types import Size
from harness.registry import metric

LARGEST_GRID = 256  # units; with more the transport takes seconds per sample


@metric(
    better="higher",
    unit="correlation",
    span=(-1, 1),
    chance=0,
    kind="truth",
    needs=("truth",),
    renamed={"absolute": "unsigned"},
)
def truth_correlation(batch: Batch, *, rank: bool = False, unsigned: bool = False) -> Scores:
    """Pearson correlation over units of a sample's attribution with the known right one (as GT-Shapley of Liu et al.
    2021, 2106.12543).

    In [-1, 1], higher is better; scale and offset do not matter. ``rank`` correlates ranks (Spearman, equal values at
    their average rank), ``unsigned`` the magnitudes |a| and |t|. NaN where either is the same on all units.

    >>> maps, truth = torch.tensor([[4.0, -2.0], [0.0, 3.0]]), torch.tensor([[2.0, -1.0], [4.0, 0.0]])
    >>> data = harness.Data(inputs, targets, truth=truth)
    >>> harness.score("truth_correlation", linear, data, maps).round(decimals=4).tolist()
    [1.0, -1.0]
    """
    values, truth = maps_and_truth(batch)
    if unsigned:
        values, truth = values.abs(), truth.abs()
    return truth_scores((spearman if rank else pearson)(values, truth), "the attribution or the truth is constant")


@metric(better="higher", unit="cosine", span=(-1, 1), chance=0, kind="truth", needs=("truth",))
def truth_cosine(batch: Batch) -> Scores:
    """Cosine of the angle between a sample's attribution and the known right one.

    In [-1, 1], higher is better; the scale does not matter, an offset does. NaN where either is 0 on all units.

    >>> maps, truth = torch.tensor([[4.0, -2.0], [0.0, 3.0]]), torch.tensor([[2.0, -1.0], [4.0, 0.0]])
    >>> data = harness.Data(inputs, targets, truth=truth)
    >>> harness.score("truth_cosine", linear, data, maps).round(decimals=4).tolist()
    [1.0, 0.0]
    """
    return truth_scores(_cosine_of_rows(*maps_and_truth(batch)), "the attribution or the truth is 0 throughout")


@metric(
    better="lower",
    unit="share",
    span=lambda options: (0, 1) if options["scaled"] else (0, None),
    kind="truth",
    needs=("truth",),
)
def truth_error(batch: Batch, *, scaled: bool = True) -> Scores:
    """Squared error of a sample's attribution as a share of the square of the known right one.

    |c a - t|^2 / |t|^2; 0 is right, lower is better. With ``scaled`` c >= 0 is the factor of least error, so that units
    of measurement do not matter; values are in [0, 1], and 1 for an attribution of 0 or one that points away from the
    truth. Without it c is 1 and there is no upper bound. NaN where the truth is 0 on all units.

    >>> maps, truth = torch.tensor([[4.0, -2.0], [0.0, 3.0]]), torch.tensor([[2.0, -1.0], [4.0, 0.0]])
    >>> data = harness.Data(inputs, targets, truth=truth)
    >>> harness.score("truth_error", linear, data, maps).round(decimals=4).tolist()
    [0.0, 1.0]
    """
    values, truth = maps_and_truth(batch)
    size = truth.square().sum(1)
    if scaled:
        error = 1 - _cosine_of_rows(values, truth).nan_to_num(0).clamp(min=0).square()
        error = error.where(truth.isfinite().all(1), float("nan"))
    else:
        error = (values - truth).square().sum(1) / size
    return truth_scores(error.masked_fill(size == 0, float("nan")), "the truth is 0 throughout")


@metric(better="higher", unit="share", span=(0, 1), chance=0.5, kind="truth", needs=("truth",))
def truth_sign(batch: Batch, *, weighted: bool = True) -> Scores:
    """Share of the units with an effect whose attribution has the sign of the known right one.

    Over the units where t is not 0, weighted by |t|, or equally without ``weighted``. In [0, 1], higher is better, 0.5
    by chance; an attribution of 0 has no sign and counts half, like a guess. NaN where the truth is 0 on all units.
    NotApplicable to explainers whose attributions have no meaningful sign.

    >>> maps, truth = torch.tensor([[4.0, 2.0], [0.0, 3.0]]), torch.tensor([[3.0, -1.0], [4.0, 0.0]])
    >>> data = harness.Data(inputs, targets, truth=truth)
    >>> harness.score("truth_sign", linear, data, maps).tolist()
    [0.75, 0.5]
    """
    if batch.explainer is not None and not batch.explainer.signed:
        raise NotApplicable("the sign of this explainer's attributions means nothing")
    values, truth = maps_and_truth(batch)
    weights = truth.abs() if weighted else (truth != 0).double().where(truth.isfinite(), truth)
    right = (1 + values.sign() * truth.sign()) / 2
    return truth_scores((right * weights).sum(1) / weights.sum(1), "the truth is 0 throughout")


@metric(better="higher", unit="share", span=(0, 1), kind="truth", needs=("truth",))
def truth_precision(batch: Batch) -> Scores:
    """Share of the n most important units whose known right attribution is not 0, n being the number of all such units
    (precision of XAI-TRIS: Clark et al. 2024, 2306.12816).

    In [0, 1], higher is better; a map that is the same everywhere scores the share n / d of the d units. Units of equal
    |a| are not ordered at random: the score is the exact mean over all their orders, and ``tied`` is the share of the n
    places for which more units than places are equal. NaN where the truth is 0 on no unit, or on all.

    >>> maps, truth = torch.tensor([[3.0, 1.0], [1.0, 3.0]]), torch.tensor([[4.0, 0.0], [4.0, 0.0]])
    >>> data = harness.Data(inputs, targets, truth=truth)
    >>> harness.score("truth_precision", linear, data, maps).tolist()
    [1.0, 0.0]
    """
    values, truth = maps_and_truth(batch)
    relevant = truth != 0
    count = relevant.sum(1)
    share, tied = share_of_top(values.abs(), relevant, count.clamp(min=1))
    known = truth.isfinite().all(1) & (count > 0) & (count < truth.shape[1])
    return truth_scores(share.masked_fill(~known, float("nan")), "the truth is 0 on no unit or on all", tied=tied)


@metric(better="higher", unit="share", span=(0, 1), kind="truth", needs=("truth",))
def truth_emd(batch: Batch, *, pool: Size = 1) -> Scores:
    """Closeness of the map's magnitudes to the known right ones: 1 less their earth mover's distance, as a share of the
    grid's largest distance (XAI-TRIS: Clark et al. 2024, 2306.12816).

    |a| and |t| are scaled to a sum of 1; moving mass costs the Euclidean distance between units, and the least cost is
    computed exactly, by linear programming. It is divided by the distance of opposite corners,
    sqrt((H - 1)^2 + (W - 1)^2), on a sequence T - 1 (9.9 on 8 x 8; the authors' code has sqrt(128), with which no score
    is below 0.125). In [0, 1], higher is better. With ``pool`` mass is first summed over blocks of ``pool`` x ``pool``
    units, smaller at the edge, which then are the units. NaN where |a| or |t| is 0 on all units. NotApplicable where
    units have no distance, like columns of a table, and on grids of more than 256 units after pooling; ValueError
    unless ``pool`` is at least 1.

    All mass in one corner has to be moved across the whole image to the opposite one:

    >>> maps, truth = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4)
    >>> maps[..., 0, 0] = truth[..., 3, 3] = 1
    >>> data = harness.Data(images, targets[:1], truth=truth)
    >>> harness.score("truth_emd", image_model, data, maps).round(decimals=4).tolist()
    [0.0]
    """
    if batch.units.channel_axis is None or len(batch.units.shape) not in (1, 2):
        raise NotApplicable(f"these units, {batch.units.shape}, have no distance from each other")
    values, truth = (pooled(part.abs().view(len(batch), *batch.units.shape), pool) for part in maps_and_truth(batch))
    shape = tuple(values.shape[1:])
    if math.prod(shape) > LARGEST_GRID:
        raise NotApplicable(f"the transport is exact for at most {LARGEST_GRID} units, not {shape}: give a larger pool")
    longest = math.dist([0] * len(shape), [side - 1 for side in shape])
    if longest == 0:
        raise NotApplicable("a grid of a single unit has no distance")
    distances = [earth_movers_distance(a, t) for a, t in zip(values, truth, strict=True)]
    return truth_scores(
        1 - torch.tensor(distances, dtype=torch.float64) / longest, "the attribution or the truth is 0 throughout"
    )


@metric(better="lower", unit="share", span=(0, 1), kind="truth", needs=("truth",))
def false_mass(batch: Batch) -> Scores:
    """Share of the attribution's magnitude on units whose known right attribution is exactly 0: suppressors, dummies,
    background.

    In [0, 1], lower is better; a map that is the same everywhere scores the share of such units. NaN where the
    attribution is 0 on all units, and where the truth is 0 on none, so that no attribution could be false.

    >>> maps, truth = torch.tensor([[3.0, 1.0], [1.0, 3.0]]), torch.tensor([[4.0, 0.0], [4.0, 0.0]])
    >>> data = harness.Data(inputs, targets, truth=truth)
    >>> harness.score("false_mass", linear, data, maps).tolist()
    [0.25, 0.75]
    """
    values, truth = maps_and_truth(batch)
    mass, idle = values.abs(), truth == 0
    share = (mass * idle).sum(1) / mass.sum(1)
    known = truth.isfinite().all(1) & idle.any(1)
    return truth_scores(
        share.masked_fill(~known, float("nan")), "the attribution is 0 throughout, or the truth on no unit"
    )


def _cosine_of_rows(values: Tensor, truth: Tensor) -> Tensor:
    """Cosine (N,); NaN where one side is 0."""
    return ((values * truth).sum(1) / (values.norm(dim=1) * truth.norm(dim=1))).clamp(-1, 1)
