"""The grid pointing game: of several images side by side, does an explanation of one's class point to that one?

The other images of a mosaic come from the training inputs, a pool that is the same for every sample, so that a score
does not depend on which samples are scored together. Which of them, and where the sample's own image lies, is drawn
from (seed, sample): every explainer meets the same mosaics.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, ExplainsAgain, Scores
from harness.checks import first_line
from harness.errors import NotApplicable, UserError
from harness.metrics._mosaics import IMAGES, Layout, fewer, make_mosaics, per_cell
from harness.metrics._similarity import with_reason
from harness.predictor import pick, track
from harness.randomness import integers, uniform
from harness.registry import metric
from harness.samples import Samples

REASON = (
    "the explained class has less than the asked confidence, too few other classes have it, or the explanation of a "
    "mosaic has no positive part or is not finite"
)


@metric(better="higher", unit="share", kind="localisation", needs=("explainer", "train"))
def grid_pointing(
    batch: Batch, *, side: int = 2, confidence: float = 0.99, grids: int = 1, resize: bool = False
) -> Scores:
    """Share of the positive attribution in an image's own cell of a mosaic (GridPG: Rao et al. 2022, 2205.10435).

    The image stands in a mosaic of ``side`` x ``side`` with training inputs of other classes, each class once, at a
    place drawn by lot; its target is explained on the mosaic. Score: positive attribution in its cell / all positive
    attribution, mean over ``grids`` mosaics. In [0, 1], 1 / side^2 for a map that is the same everywhere; higher is
    better. The other images' predicted classes, and the sample's target, have at least ``confidence`` as a
    probability on the image alone; labels are not asked. The mosaic has the images' full size, so the model must take
    inputs of ``side`` times their size; with ``resize`` it is scaled down (bilinear, antialiased) to the size of one.
    Explainers that use training inputs are given such mosaics of them.

    NaN where the target has not that confidence, where too few other classes have it, where no attribution is
    positive (the authors' code: 0) or where one is not finite. NotApplicable to inputs that are not images, without
    training inputs or with too few confident classes among them, for attributions given without their explainer, to
    models of one output, and, without ``resize``, to models that take one size of input only.
    """
    _check(batch, side, confidence, grids)
    samples = batch.samples
    pool = _pool(samples, side, confidence)
    others = (pool.classes != samples.targets[:, None]).sum(1)
    usable = (samples.clean("probability") >= confidence) & (others >= side**2 - 1)
    values = torch.full((len(batch),), float("nan"), dtype=torch.float64, device=samples.inputs.device)
    if usable.any():
        rows = usable.nonzero()[:, 0]
        values[rows] = _shares(batch, _draw(samples, pool, rows, side, grids), resize).view(-1, grids).mean(1)
    return with_reason(values, REASON)


@dataclass(frozen=True)
class Pool:
    """Training inputs that may stand in a mosaic, grouped by predicted class.

    images    (M,) int64, their numbers, class by class
    classes   (C,) int64, the classes there are
    first     (C,) int64, where each class begins in ``images``
    counts    (C,) int64, how many each class has
    """

    images: Tensor
    classes: Tensor
    first: Tensor
    counts: Tensor


def _check(batch: Batch, side: int, confidence: float, grids: int) -> None:
    for name, value, least in (("side", side, 2), ("grids", grids, 1)):
        if value < least:
            raise UserError(f"{name} is {value}, expected a whole number from {least}")
    if not 0 <= confidence <= 1:
        raise UserError(f"confidence is {confidence}, expected a probability from 0 to 1")
    batch.samples.need("image")
    batch.need_explainer()
    if batch.samples.train is None:
        raise NotApplicable("the other images of a mosaic are training inputs; the data has none (give train=)")


def _pool(samples: Samples, side: int, confidence: float) -> Pool:
    """The training inputs that the model is confident of."""
    predictions = samples.for_block(("training predictions",), lambda: _predictions(samples))
    sure = (predictions[:, 1] >= confidence).nonzero()[:, 0]
    own = predictions[sure, 0].long()
    images = sure[own.argsort(stable=True)]
    classes, counts = own.sort().values.unique_consecutive(return_counts=True)
    needed = side**2 - 1
    if len(classes) < needed:
        raise NotApplicable(
            f"a mosaic needs training inputs of {needed} other classes, predicted with a probability of at least "
            f"{confidence}; there are {len(classes)}"
        )
    return Pool(images, classes, counts.cumsum(0) - counts, counts)


def _predictions(samples: Samples) -> Tensor:
    """The class that the model gives each training input, and with what probability: (R, 2) float64."""
    parts = samples.train.split(max(IMAGES, samples.predictor.chunk))
    return torch.cat([_predicted(samples, part.to(samples.inputs)) for part in parts])


def _predicted(samples: Samples, inputs: Tensor) -> Tensor:
    logits = samples.predictor.logits(inputs)
    if logits.dim() == 1 or logits.shape[1] == 1:
        raise NotApplicable("images of different classes need a model with several, this one has a single output")
    classes = logits.argmax(1)
    return torch.stack([classes, pick(track(logits, classes), "probability")], 1).double()


def _draw(samples: Samples, pool: Pool, rows: Tensor, side: int, grids: int) -> Layout:
    """For each of the samples ``rows`` as many mosaics: classes drawn without return, and an image of each."""
    needed, keys = side**2 - 1, lambda use: samples.stream(f"grid pointing {use}")[rows]
    lots = uniform(keys("classes"), grids, len(pool.classes), dtype=torch.float64)
    own = pool.classes == samples.targets[rows, None]
    chosen = lots.masked_fill(own[:, None], 2).argsort(-1)[..., :needed]
    within = (uniform(keys("images"), grids, needed, dtype=torch.float64) * pool.counts[chosen]).long()
    others, place = pool.images[pool.first[chosen] + within], integers(keys("place"), side**2, grids)
    return Layout(side, rows.repeat_interleave(grids), place.flatten(), others.flatten(0, 1))


def _shares(batch: Batch, layout: Layout, resize: bool) -> Tensor:
    """The share (M,) float64 of the positive attribution that lies in each mosaic's own cell."""
    found = []
    for part in layout.split():
        mosaics = make_mosaics(batch.samples, part, resize)
        if not resize:
            _need_taken(mosaics)
        maps = mosaics.units.reduce(_explain(batch, mosaics), batch.reduction)
        cells = per_cell(maps.double().clamp(min=0), layout.side)
        found.append(cells.gather(1, part.place[:, None])[:, 0] / cells.sum(1))
    return torch.cat(found)


def _need_taken(mosaics: Samples) -> bool:
    """Raise NotApplicable where the model does not take an input of a mosaic's size."""
    try:
        mosaics.predictor.logits(mosaics.inputs[:1])
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        shape = tuple(mosaics.inputs.shape[1:])
        raise NotApplicable(
            f"the model does not take mosaics of shape {shape} (resize=True scales them down): {first_line(error)}"
        ) from None
    return True


def _explain(batch: Batch, mosaics: Samples) -> Tensor:
    """The explainer's maps of mosaics, by whatever it prepares made for their size."""
    if not isinstance(batch.explain_again, ExplainsAgain):
        return batch.explain(mosaics)
    size = fewer(batch.explain_again.batch_size, batch.samples, mosaics.inputs)
    return batch.explain_again.afresh(mosaics, size)(mosaics)
