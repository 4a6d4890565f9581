"""The grid pointing game: of several images side by side, does an explanation of one's class point to that image?

The other images of a mosaic are training inputs. All samples draw from the same ones, so that a score does not depend
on which samples are scored together. The draw, and the place of the sample's own image, depend on the seed and the
sample alone: every explainer gets the same mosaics.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, ExplainsAgain, Scores
from harness.checks import first_line
from harness.errors import NotApplicable, UserError
from harness.metrics._mosaics import IMAGES_AT_ONCE, MosaicLayout, fewer, make_mosaics, per_cell
from harness.metrics._outputs import output_count
from harness.metrics._similarity import with_reason
from harness.predictor import pick
from harness.randomness import integers, uniform
from harness.registry import metric
from harness.samples import Samples

NO_SHARE = (
    "the explained class has less than the required confidence, too few other classes have it, or the explanation of a "
    "mosaic has no positive part or is not finite"
)


@metric(better="higher", unit="share", kind="localisation", needs=("explainer", "train"), renamed={"grids": "draws"})
def grid_pointing(
    batch: Batch, *, side: int = 2, confidence: float = 0.99, draws: int = 1, resize: bool = False
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
    _check_options(batch, side, confidence, draws)
    samples = batch.samples
    pool = _pool(samples, side, confidence)
    others = (pool.classes != samples.targets[:, None]).sum(1)
    usable = (samples.clean("probability") >= confidence) & (others >= side**2 - 1)
    values = torch.full((len(batch),), float("nan"), dtype=torch.float64, device=samples.inputs.device)
    if usable.any():
        rows = usable.nonzero()[:, 0]
        layout = _draw_mosaics(samples, pool, rows, side, draws)
        values[rows] = _own_shares(batch, layout, resize).view(-1, draws).mean(1)
    return with_reason(values, NO_SHARE)


@dataclass(frozen=True)
class Pool:
    """Training inputs that may be part of a mosaic, grouped by predicted class.

    images    (M,) int64, their numbers, class by class
    classes   (C,) int64, the predicted classes
    first     (C,) int64, where each class begins in ``images``
    counts    (C,) int64, how many images each class has
    """

    images: Tensor
    classes: Tensor
    first: Tensor
    counts: Tensor


def _check_options(batch: Batch, side: int, confidence: float, grids: int) -> None:
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
    """The training inputs whose predicted class has at least that confidence."""
    predictions = samples.for_block(("training predictions",), lambda: _training_predictions(samples))
    sure = (predictions[:, 1] >= confidence).nonzero()[:, 0]
    own = predictions[sure, 0].long()
    images = sure[own.argsort(stable=True)]
    classes, counts = own.sort().values.unique_consecutive(return_counts=True)
    needed = side**2 - 1
    if len(classes) < needed:
        outputs = output_count(samples)
        remedy = "(give a lower confidence=)" if outputs > needed else f"and the model has {outputs} classes"
        raise NotApplicable(
            f"a mosaic needs training inputs of {needed} other classes, predicted with a probability of at least "
            f"{confidence}; there are {len(classes)} {remedy}"
        )
    return Pool(images, classes, counts.cumsum(0) - counts, counts)


def _training_predictions(samples: Samples) -> Tensor:
    """The predicted class of each training input, and its probability: (R, 2) float64."""
    parts = samples.train.split(max(IMAGES_AT_ONCE, samples.predictor.chunk))
    return torch.cat([_predicted(samples, part.to(samples.inputs)) for part in parts])


def _predicted(samples: Samples, inputs: Tensor) -> Tensor:
    logits = samples.predictor.logits(inputs)
    if logits.dim() == 1 or logits.shape[1] == 1:
        raise NotApplicable("mosaics show images of different classes, but the model has a single output")
    classes = logits.argmax(1)
    return torch.stack([classes, pick(samples.task.track(logits, classes), "probability")], 1).double()


def _draw_mosaics(samples: Samples, pool: Pool, rows: Tensor, side: int, grids: int) -> MosaicLayout:
    """For each of the samples ``rows`` ``grids`` mosaics: classes drawn without replacement, and an image of each."""
    needed, keys = side**2 - 1, lambda use: samples.stream(f"grid pointing {use}")[rows]
    lots = uniform(keys("classes"), grids, len(pool.classes), dtype=torch.float64)
    own = pool.classes == samples.targets[rows, None]
    chosen = lots.masked_fill(own[:, None], 2).argsort(-1)[..., :needed]
    within = (uniform(keys("images"), grids, needed, dtype=torch.float64) * pool.counts[chosen]).long()
    others, place = pool.images[pool.first[chosen] + within], integers(keys("place"), side**2, grids)
    return MosaicLayout(side, rows.repeat_interleave(grids), place.flatten(), others.flatten(0, 1))


def _own_shares(batch: Batch, layout: MosaicLayout, resize: bool) -> Tensor:
    """The share (M,) float64 of the positive attribution that lies in each mosaic's own cell."""
    shares = []
    for part in layout.split():
        mosaics = make_mosaics(batch.samples, part, resize)
        if not resize:
            _check_taken(mosaics)
        maps = mosaics.units.reduce(_explain_mosaics(batch, mosaics), batch.reduction)
        cells = per_cell(maps.double().clamp(min=0), layout.side)
        shares.append(cells.gather(1, part.place[:, None])[:, 0] / cells.sum(1))
    return torch.cat(shares)


def _check_taken(mosaics: Samples) -> None:
    """Raise NotApplicable where the model does not take an input of a mosaic's size."""
    try:
        mosaics.predictor.logits(mosaics.inputs[:1])
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        shape = tuple(mosaics.inputs.shape[1:])
        raise NotApplicable(
            f"the model does not take mosaics of shape {shape} (resize=True scales them down): {first_line(error)}"
        ) from None


def _explain_mosaics(batch: Batch, mosaics: Samples) -> Tensor:
    """The explainer's maps of mosaics; what it prepares is made anew for their size."""
    if not isinstance(batch.explain_again, ExplainsAgain):
        return batch.explain(mosaics)
    size = fewer(batch.explain_again.batch_size, batch.samples, mosaics.inputs)
    return batch.explain_again.afresh(mosaics, size)(mosaics)
