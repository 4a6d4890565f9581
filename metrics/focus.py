"""Focus: of four images side by side, two of which show the explained class, does the explanation point to these two?

The other three images are training inputs, drawn as in ``grid_pointing``: from the seed and the sample alone.
"""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._mosaic_pool import (
    RESIZE_HINT,
    Pool,
    check_mosaic_options,
    check_taken,
    explain_mosaics,
    training_pool,
)
from harness.metrics._mosaics import MosaicLayout, make_mosaics, per_cell
from harness.metrics._similarity import with_reason
from harness.option_types import Count, Share
from harness.randomness import integers, uniform
from harness.registry import metric
from harness.samples import Samples

SIDE = 2  # images along a side, as published
NO_FOCUS = (
    "no training input is predicted as the explained class with the required confidence, or the explanation of a "
    "mosaic has no positive part or is not finite"
)


@metric(better="higher", unit="share", span=(0, 1), chance=0.5, kind="localisation", needs=("explainer", "train"))
def focus(batch: Batch, *, confidence: Share = 0.0, draws: Count = 1, resize: bool = False) -> Scores:
    """Share of the positive attribution in the two images of the explained class, of a mosaic of four (Focus:
    Arias-Duart et al. 2022, 2109.15035).

    The image, a training input of the explained class and two of other classes are put at random places of a mosaic of
    2 x 2, on which the class is explained. The score is the positive attribution in the cells of the first two over all
    positive attribution, mean over ``draws`` mosaics. In [0, 1], 0.5 for a map that is the same everywhere; higher is
    better. The paper takes labels for classes; here they are what the model predicts, with a probability of at least
    ``confidence``. ``resize`` as in ``grid_pointing``.

    NaN where no training input is predicted as the explained class, where no attribution is positive or where one is
    not finite. NotApplicable as for ``grid_pointing``, and for training inputs that are all of one class.

    A map that is the same everywhere has half of its attribution in two of four cells:

    >>> brightest = torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()).eval()
    >>> shown = 2 * torch.eye(4)[:, :, None, None].expand(4, 4, 2, 2)  # one image of each of four classes
    >>> flat = lambda model, inputs, targets: torch.ones_like(inputs)
    >>> maps, labels = torch.ones(4, 4, 2, 2), torch.arange(4)
    >>> harness.score("focus", brightest, shown, labels, maps, explainer=flat, train=shown).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    check_mosaic_options(batch, SIDE, confidence, draws)
    samples, pool = batch.samples, training_pool(batch.samples, 2, confidence)
    usable = (pool.classes == samples.targets[:, None]).any(1)
    values = torch.full((len(batch),), float("nan"), dtype=torch.float64, device=samples.inputs.device)
    if usable.any():
        rows = usable.nonzero()[:, 0]
        layout, partner_cell = _draw_pairs(samples, pool, rows, draws)
        values[rows] = _shares_of_two(batch, layout, partner_cell, resize).view(-1, draws).mean(1)
    return with_reason(values, NO_FOCUS)


def _draw_pairs(samples: Samples, pool: Pool, rows: Tensor, draws: int) -> tuple[MosaicLayout, Tensor]:
    """For each of the samples ``rows`` ``draws`` mosaics, and the cells (M,) of the other images of their class."""
    keys = lambda use: samples.stream(f"focus {use}")[rows]
    own = (pool.classes == samples.targets[rows, None]).long().argmax(1)
    others = integers(keys("classes"), len(pool.classes) - 1, 2 * draws).view(-1, draws, 2)
    others = others + (others >= own[:, None, None])
    chosen = torch.cat([own[:, None, None].expand(-1, draws, 1), others], 2)
    within = (uniform(keys("images"), draws, 3, dtype=torch.float64) * pool.counts[chosen]).long()
    images = pool.images[pool.first[chosen] + within]
    turn = integers(keys("order"), 3, draws)  # which of the three other cells shows the class
    order = (torch.arange(3, device=turn.device) - turn[..., None]) % 3
    place = integers(keys("place"), SIDE**2, draws)
    layout = MosaicLayout(SIDE, rows.repeat_interleave(draws), place.flatten(), images.gather(2, order).flatten(0, 1))
    return layout, (turn + (turn >= place)).flatten()


def _shares_of_two(batch: Batch, layout: MosaicLayout, partner_cell: Tensor, resize: bool) -> Tensor:
    """The share (M,) float64 of the positive attribution that lies in the two cells of each mosaic's class."""
    shares, done = [], 0
    for part in layout.split():
        mosaics = make_mosaics(batch.samples, part, resize)
        if not resize:
            check_taken(mosaics, RESIZE_HINT)
        maps = mosaics.units.reduce(explain_mosaics(batch, mosaics), batch.reduction)
        cells = per_cell(maps.double().clamp(min=0), SIDE)
        two = torch.stack([part.place, partner_cell[done : done + len(part.place)]], 1)
        shares.append(cells.gather(1, two).sum(1) / cells.sum(1))
        done += len(part.place)
    return torch.cat(shares)
