"""The grid pointing game: of several images side by side, does an explanation of one's class point to that image?

The other images of a mosaic are training inputs. All samples draw from the same ones, so that a score does not depend
on which samples are scored together. The draw, and the place of the sample's own image, depend on the seed and the
sample alone: every explainer gets the same mosaics.
"""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._mosaic_pool import (
    RESIZE_HINT,
    MosaicSide,
    check_mosaic_options,
    check_taken,
    draw_mosaics,
    explain_mosaics,
    training_pool,
)
from harness.metrics._mosaics import MosaicLayout, make_mosaics, per_cell
from harness.metrics._similarity import with_reason
from harness.option_types import Count, Share
from harness.registry import metric

NO_SHARE = (
    "the explained class has less than the required confidence, too few other classes have it, or the explanation of a "
    "mosaic has no positive part or is not finite"
)


@metric(
    better="higher",
    unit="share",
    span=(0, 1),
    chance=lambda options: 1 / options["side"] ** 2,
    kind="localisation",
    needs=("explainer", "train"),
    renamed={"grids": "draws"},
)
def grid_pointing(
    batch: Batch, *, side: MosaicSide = 2, confidence: Share = 0.99, draws: Count = 1, resize: bool = False
) -> Scores:
    """Share of the positive attribution in an image's own cell of a mosaic (GridPG: Rao et al. 2022, 2205.10435).

    The image is put at a random place of a mosaic of ``side`` x ``side`` images, whose others are training inputs of
    other classes, each class once; its target is explained on the mosaic. The score is the positive attribution in its
    cell over all positive attribution, mean over ``draws`` mosaics. In [0, 1], 1 / side^2 for a map that is the same
    everywhere; higher is better. On the image alone, the model must give the sample's target, and each other image's
    predicted class, a probability of at least ``confidence``; labels are not used. The images of a mosaic have their
    full size, so that the model must take inputs of ``side`` times that size; with ``resize`` the mosaic is scaled down
    (bilinear, antialiased) to the size of one image. Explainers that use training inputs get mosaics of these.

    NaN where the target has too little confidence, where too few other classes have enough, where no attribution is
    positive (the authors' code: 0) or where one is not finite. NotApplicable for inputs that are no images, without
    training inputs or with too few confident classes among them, for attributions given without their explainer, for
    models of one output and, without ``resize``, for models that take only one size of input.

    A map that is the same everywhere has a quarter of its attribution in one of four cells:

    >>> brightest = torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()).eval()
    >>> shown = 2 * torch.eye(4)[:, :, None, None].expand(4, 4, 2, 2)  # one image of each of four classes
    >>> flat = lambda model, inputs, targets: torch.ones_like(inputs)
    >>> options = {"explainer": flat, "train": shown, "confidence": 0.4}
    >>> maps, labels = torch.ones(4, 4, 2, 2), torch.arange(4)
    >>> harness.score("grid_pointing", brightest, shown, labels, maps, **options).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    check_mosaic_options(batch, side, confidence, draws)
    samples = batch.samples
    pool = training_pool(samples, side**2 - 1, confidence)
    others = (pool.classes != samples.targets[:, None]).sum(1)
    usable = (samples.clean("probability") >= confidence) & (others >= side**2 - 1)
    values = torch.full((len(batch),), float("nan"), dtype=torch.float64, device=samples.inputs.device)
    if usable.any():
        rows = usable.nonzero()[:, 0]
        layout = draw_mosaics(samples, pool, rows, side, draws)
        values[rows] = _own_shares(batch, layout, resize).view(-1, draws).mean(1)
    return with_reason(values, NO_SHARE)


def _own_shares(batch: Batch, layout: MosaicLayout, resize: bool) -> Tensor:
    """The share (M,) float64 of the positive attribution that lies in each mosaic's own cell."""
    shares = []
    for part in layout.split():
        mosaics = make_mosaics(batch.samples, part, resize)
        if not resize:
            check_taken(mosaics, RESIZE_HINT)
        maps = mosaics.units.reduce(explain_mosaics(batch, mosaics), batch.reduction)
        cells = per_cell(maps.double().clamp(min=0), layout.side)
        shares.append(cells.gather(1, part.place[:, None])[:, 0] / cells.sum(1))
    return torch.cat(shares)
