"""What metrics on mosaics share: the training inputs that may be part of one, and explanations of mosaics."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from harness.batch import Batch, ExplainsAgain
from harness.checks import first_line
from harness.errors import NotApplicable
from harness.metrics._mosaics import IMAGES_AT_ONCE, MosaicLayout, fewer
from harness.metrics._outputs import output_count, predicted_class
from harness.option_types import Range
from harness.predictor import pick
from harness.randomness import integers, uniform
from harness.samples import Samples

RESIZE_HINT = " (resize=True scales them down)"

# A mosaic of more images shows too little of each.
MosaicSide = Annotated[int, Range(2, 10)]


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


def training_pool(samples: Samples, needed: int, confidence: float) -> Pool:
    """The training inputs whose predicted class has at least that confidence.

    NotApplicable without training inputs, and where they are of fewer than ``needed`` classes.
    """
    if samples.train is None:
        raise NotApplicable("the other images of a mosaic are training inputs; the data has none (give train=)")
    predictions = samples.for_block(("training predictions",), lambda: training_predictions(samples))
    sure = ((predictions[:, 0] >= 0) & (predictions[:, 1] >= confidence)).nonzero()[:, 0]
    own = predictions[sure, 0].long()
    images = sure[own.argsort(stable=True)]
    classes, counts = own.sort().values.unique_consecutive(return_counts=True)
    if len(classes) < needed:
        outputs = output_count(samples)
        remedy = "(give a lower confidence=)" if outputs > needed else f"and the model has {outputs} classes"
        raise NotApplicable(
            f"a mosaic needs training inputs of {needed} other classes, predicted with a probability of at least "
            f"{confidence}; there are {len(classes)} {remedy}"
        )
    return Pool(images, classes, counts.cumsum(0) - counts, counts)


def training_predictions(samples: Samples) -> Tensor:
    """The ``predicted_class`` of each training input, and its probability: (R, 2) float64."""
    parts = samples.train.split(max(IMAGES_AT_ONCE, samples.predictor.chunk))
    return torch.cat([_predicted(samples, part.to(samples.inputs)) for part in parts])


def _predicted(samples: Samples, inputs: Tensor) -> Tensor:
    logits = samples.predictor.logits(inputs)
    if logits.dim() == 1 or logits.shape[1] == 1:
        raise NotApplicable("mosaics show images of different classes, but the model has a single output")
    classes = predicted_class(logits)
    sure = pick(samples.task.track(logits, classes.clamp(min=0)), "probability")
    return torch.stack([classes, sure], 1).double()


def draw_mosaics(samples: Samples, pool: Pool, rows: Tensor, side: int, draws: int) -> MosaicLayout:
    """For each of the samples ``rows`` ``draws`` mosaics: classes drawn without replacement, and an image of each."""
    needed, keys = side**2 - 1, lambda use: samples.stream(f"grid pointing {use}")[rows]
    lots = uniform(keys("classes"), draws, len(pool.classes), dtype=torch.float64)
    own = pool.classes == samples.targets[rows, None]
    chosen = lots.masked_fill(own[:, None], 2).argsort(-1)[..., :needed]
    within = (uniform(keys("images"), draws, needed, dtype=torch.float64) * pool.counts[chosen]).long()
    others, place = pool.images[pool.first[chosen] + within], integers(keys("place"), side**2, draws)
    return MosaicLayout(side, rows.repeat_interleave(draws), place.flatten(), others.flatten(0, 1))


def check_mosaic_options(batch: Batch, side: int, confidence: float, draws: int) -> None:
    """UserError for a wrong option; NotApplicable for inputs that are no images, and without an explainer."""
    batch.samples.need("image")
    batch.need_explainer()


def check_taken(mosaics: Samples, remedy: str = "") -> None:
    """Raise NotApplicable, with the ``remedy`` if there is one, where the model does not take a mosaic."""
    try:
        mosaics.predictor.logits(mosaics.inputs[:1])
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        shape = tuple(mosaics.inputs.shape[1:])
        raise NotApplicable(f"the model does not take mosaics of shape {shape}{remedy}: {first_line(error)}") from None


def explain_mosaics(batch: Batch, mosaics: Samples) -> Tensor:
    """The explainer's maps of mosaics; what it prepares is made anew for their size."""
    if not isinstance(batch.explain_again, ExplainsAgain):
        return batch.explain(mosaics)
    size = fewer(batch.explain_again.batch_size, batch.samples, mosaics.inputs)
    return batch.explain_again.afresh(mosaics, size)(mosaics)
