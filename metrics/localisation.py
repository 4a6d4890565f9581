"""Localisation: whether attribution lies where the object is. A model may have good reasons to look elsewhere.

All need masks of the object; an empty one leaves nothing to find and gives NaN. Units of equal attribution are not
ordered by lot: the score is the exact mean over all their orders, and ``tied`` is the share of the places among the
highest for which more units than places are equal (for the area under the curve, of the units that another equals).
On a map that is the same everywhere the scores are those of chance.
"""

import math

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError, unknown
from harness.metrics._masks import grown, object_masks, share_of_top
from harness.metrics._similarity import average_ranks, with_reason
from harness.ordering import tied_share
from harness.registry import metric

EMPTY = "the mask is empty"
SIGNS = ("abs", "pos")
SIDE = 224  # the shorter side, in pixels, of the images that the published tolerance is for


@metric(better="higher", unit="hit", kind="localisation", needs=("masks",))
def pointing_game(batch: Batch, *, tolerance: float = 15.0) -> Scores:
    """Whether the largest attribution lies on the object or near it (Zhang et al. 2018, 1608.00507).

    1 for a hit, 0 for a miss; higher is better. Near is a Euclidean distance to the mask of less than ``tolerance``,
    in pixels of an image whose shorter side has 224, as in the published benchmark; on other grids it scales with the
    shorter side, and on sequences with their length. Where several units share the largest attribution, the share of
    them that hits. The paper's accuracy is the mean over classes; a mean over samples weighs classes by their number.
    NaN for an empty mask. NotApplicable without masks; and, unless ``tolerance=0``, where units have no distance,
    like the columns of a table.
    """
    masks = object_masks(batch)
    near = batch.samples.shared(("grown masks", tolerance), lambda: _grown(batch, masks, tolerance))
    single = torch.ones(len(batch), dtype=torch.long, device=masks.device)
    return _share_of_top(batch, near.flatten(1), single)


@metric(better="higher", unit="share", kind="localisation", needs=("masks",))
def relevance_mass(batch: Batch, *, sign: str = "pos") -> Scores:
    """Share of the attribution that lies on the object (relevance mass accuracy: Arras et al. 2022, 2003.07258).

    Sum of a+ over the mask / sum of a+, with a+ the positive part of a, or |a| for ``sign="abs"``. In [0, 1], higher
    is better; a map that is the same everywhere scores the share of the units that the mask covers. NaN for an empty
    mask, and where nothing is positive (``abs``: where all is 0). NotApplicable without masks.
    """
    if sign not in SIGNS:
        raise unknown("sign", sign, SIGNS)
    masks, values = object_masks(batch).flatten(1), batch.attributions.flatten(1).double()
    mass = values.abs() if sign == "abs" else values.clamp(min=0)
    share = (mass * masks).sum(1) / mass.sum(1)
    nothing = "the attribution is 0 throughout" if sign == "abs" else "no attribution is positive"
    return with_reason(_unless_empty(share, masks), f"{EMPTY}, or {nothing}")


@metric(better="higher", unit="share", kind="localisation", needs=("masks",))
def relevance_rank(batch: Batch) -> Scores:
    """Share of the m highest attributions that lie on an object of m units (Arras et al. 2022, 2003.07258).

    Relevance rank accuracy, by signed attributions. In [0, 1], higher is better; a map that says nothing scores the
    share of the units that the mask covers. NaN for an empty mask. NotApplicable without masks.
    """
    masks = object_masks(batch).flatten(1)
    return _share_of_top(batch, masks, masks.sum(1))


@metric(better="higher", unit="share", kind="localisation", needs=("masks",))
def top_k_intersection(batch: Batch, *, share: float = 0.02) -> Scores:
    """Share of the k highest attributions that lie on the object (Theiner et al. 2021, 2104.14995).

    k is ``share`` of the units, rounded, and at least 1; attributions are signed. In [0, 1], higher is better. Where
    the object has m < k units no map scores more than m / k. NaN for an empty mask. NotApplicable without masks;
    ValueError unless 0 < share <= 1.
    """
    if not 0 < share <= 1:
        raise UserError(f"share is {share}, expected a number above 0 and at most 1")
    masks = object_masks(batch).flatten(1)
    k = max(1, round(share * batch.units.count))
    return _share_of_top(batch, masks, torch.full_like(masks[:, 0], k, dtype=torch.long))


@metric(better="higher", unit="auc", kind="localisation", needs=("masks",))
def localization_auc(batch: Batch) -> Scores:
    """Area under the ROC curve of the attribution as a detector of the object's units (Fawcett 2006).

    The probability that a unit on the object has a higher attribution than one off it, half where they are equal. In
    [0, 1], 0.5 by chance, higher is better. By signed attributions, and by their order alone. NaN for a mask that is
    empty or full. NotApplicable without masks.
    """
    masks, values = object_masks(batch).flatten(1), batch.attributions.flatten(1)
    on = masks.sum(1).double()
    off = masks.shape[1] - on
    pairs_won = (average_ranks(values) * masks).sum(1) - on * (on + 1) / 2  # Mann and Whitney's U
    return with_reason(pairs_won / (on * off), "the mask is empty or full", tied=tied_share(values))


def _grown(batch: Batch, masks: Tensor, tolerance: float) -> Tensor:
    """The masks with their margin."""
    if not 0 <= tolerance < math.inf:
        raise UserError(f"tolerance is {tolerance}, expected 0 or a number of pixels above it")
    if tolerance == 0:
        return masks
    if batch.units.channel_axis is None or len(batch.units.shape) > 2:
        raise NotApplicable(f"these units, {batch.units.shape}, have no distance from each other (give tolerance=0)")
    return grown(masks, tolerance * min(batch.units.shape) / SIDE)


def _share_of_top(batch: Batch, inside: Tensor, counts: Tensor) -> Scores:
    """Share of the ``counts`` (N,) highest attributions that are ``inside`` (N, d): its mean over orders of equals."""
    share, tied = share_of_top(batch.attributions.flatten(1), inside, counts.clamp(min=1))
    return with_reason(_unless_empty(share, inside), EMPTY, tied=tied)


def _unless_empty(values: Tensor, masks: Tensor) -> Tensor:
    return values.masked_fill(~masks.any(1), float("nan"))
