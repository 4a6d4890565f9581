"""Localisation: whether attribution lies where the object is. A model may have good reasons to look elsewhere.

All need masks of the object; an empty mask gives NaN. Units of equal attribution are not ordered at random: the score
is the exact mean over all their orders. ``tied`` is the share of the top places for which more units than places are
equal; for the area under the curve it is the share of the units that another one equals. On a map that is the same
everywhere the scores are those of chance.

In the examples the object is the upper left quarter of the image. Of three maps the first is right, the second is the
same everywhere, and the third is wrong.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._masks import EMPTY_MASK, grown, object_masks, share_of_top, unless_empty
from harness.metrics._similarity import average_ranks, with_reason
from harness.option_types import Range, SomeShare
from harness.ordering import tied_share
from harness.registry import metric

PUBLISHED_SIDE = 224  # the shorter side, in pixels, of the images that the published margin is for


@metric(
    better="higher", unit="hit", span=(0, 1), kind="localisation", needs=("masks",), renamed={"tolerance": "margin"}
)
def pointing_game(batch: Batch, *, margin: Annotated[float, Range(0, 10_000)] = 15.0) -> Scores:
    """Whether the largest attribution lies on the object or near it (Zhang et al. 2018, 1608.00507).

    1 for a hit, 0 for a miss; higher is better. A unit is near if its Euclidean distance to the mask is less than
    ``margin``, in pixels of an image with a shorter side of 224, as in the published benchmark; on other grids the
    margin scales with the shorter side, and on sequences with their length. Where several units have the largest
    attribution, the score is the share of them that hits. The paper's accuracy is a mean over classes; in a mean over
    samples a class counts by the number of its samples. NaN for an empty mask. NotApplicable without masks and, unless
    ``margin=0``, where units have no distance, like the columns of a table.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("pointing_game", image_model, *same, masks=corner.expand(3, 4, 4)).tolist()
    [1.0, 0.25, 0.0]
    """
    masks = object_masks(batch)
    near = batch.samples.shared(("grown masks", margin), lambda: _grown(batch, masks, margin))
    single = torch.ones(len(batch), dtype=torch.long, device=masks.device)
    return _share_of_top(batch, near.flatten(1), single)


@metric(better="higher", unit="share", span=(0, 1), kind="localisation", needs=("masks",))
def relevance_mass(batch: Batch, *, sign: Literal["abs", "pos"] = "pos") -> Scores:
    """Share of the attribution that lies on the object (relevance mass accuracy: Arras et al. 2022, 2003.07258).

    Sum of a+ over the mask / sum of a+, with a+ the positive part of a, or |a| for ``sign="abs"``. In [0, 1], higher
    is better; a map that is the same everywhere scores the share of the units that the mask covers. NaN for an empty
    mask, and where no attribution is positive (``abs``: where all are 0). NotApplicable without masks.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("relevance_mass", image_model, *same, masks=corner.expand(3, 4, 4)).tolist()
    [1.0, 0.25, 0.0]
    """
    masks, values = object_masks(batch).flatten(1), batch.attributions.flatten(1).double()
    mass = values.abs() if sign == "abs" else values.clamp(min=0)
    share = (mass * masks).sum(1) / mass.sum(1)
    nothing = "the attribution is 0 throughout" if sign == "abs" else "no attribution is positive"
    return with_reason(unless_empty(share, masks), f"{EMPTY_MASK}, or {nothing}")


@metric(better="higher", unit="share", span=(0, 1), kind="localisation", needs=("masks",))
def relevance_rank(batch: Batch) -> Scores:
    """Share of the m highest attributions that lie on an object of m units (Arras et al. 2022, 2003.07258).

    Relevance rank accuracy, by signed attributions. In [0, 1], higher is better; a map that is the same everywhere
    scores the share of the units that the mask covers. NaN for an empty mask. NotApplicable without masks.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("relevance_rank", image_model, *same, masks=corner.expand(3, 4, 4)).tolist()
    [1.0, 0.25, 0.0]
    """
    masks = object_masks(batch).flatten(1)
    return _share_of_top(batch, masks, masks.sum(1))


@metric(
    better="higher", unit="share", span=(0, 1), kind="localisation", needs=("masks",), renamed={"share": "top_share"}
)
def top_k_intersection(batch: Batch, *, top_share: SomeShare = 0.02) -> Scores:
    """Share of the k highest attributions that lie on the object (Theiner et al. 2021, 2104.14995).

    k is ``top_share`` of the units, rounded, and at least 1; attributions are signed. In [0, 1], higher is better.
    Where the object has m < k units no map scores more than m / k. NaN for an empty mask. NotApplicable without masks;
    ValueError unless 0 < top_share <= 1.

    Half of the pixels are 8, of which at most 4 lie on the object:

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("top_k_intersection", image_model, *same, masks=corner.expand(3, 4, 4), top_share=0.5).tolist()
    [0.5, 0.25, 0.0]
    """
    masks = object_masks(batch).flatten(1)
    k = max(1, round(top_share * batch.units.count))
    return _share_of_top(batch, masks, torch.full_like(masks[:, 0], k, dtype=torch.long))


@metric(better="higher", unit="auc", span=(0, 1), chance=0.5, kind="localisation", needs=("masks",))
def localization_auc(batch: Batch) -> Scores:
    """Area under the ROC curve of the attribution as a detector of the object's units (Fawcett 2006).

    The probability that a unit on the object has a higher attribution than one off it; equal ones count half. In
    [0, 1], 0.5 by chance, higher is better. Only the order of the signed attributions matters. NaN for a mask that is
    empty or full. NotApplicable without masks.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("localization_auc", image_model, *same, masks=corner.expand(3, 4, 4)).tolist()
    [1.0, 0.5, 0.0]
    """
    masks, values = object_masks(batch).flatten(1), batch.attributions.flatten(1)
    on = masks.sum(1).double()
    off = masks.shape[1] - on
    pairs_won = (average_ranks(values) * masks).sum(1) - on * (on + 1) / 2  # Mann and Whitney's U
    return with_reason(pairs_won / (on * off), "the mask is empty or full", tied=tied_share(values))


def _grown(batch: Batch, masks: Tensor, margin: float) -> Tensor:
    """The masks with their margin."""
    if margin == 0:
        return masks
    if batch.units.channel_axis is None or len(batch.units.shape) > 2:
        raise NotApplicable(f"these units, {batch.units.shape}, have no distance from each other (give margin=0)")
    return grown(masks, margin * min(batch.units.shape) / PUBLISHED_SIDE)


def _share_of_top(batch: Batch, inside: Tensor, counts: Tensor) -> Scores:
    """Share of the ``counts`` (N,) highest attributions that are ``inside`` (N, d), mean over orders of equal ones."""
    share, tied = share_of_top(batch.attributions.flatten(1), inside, counts.clamp(min=1))
    return with_reason(unless_empty(share, inside), EMPTY_MASK, tied=tied)
