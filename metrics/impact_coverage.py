"""Impact coverage: overlap of the most important units with a pasted patch that changed the decision."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError
from harness.metrics._outputs import NO_CLASS, decisions_of, is_predicted, same_class
from harness.metrics._similarity import with_reason
from harness.option_types import Count, InnerShare
from harness.ordering import ranks, tied_share
from harness.predictor import UNDECIDED
from harness.randomness import integers
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.samples import Samples

FROM_TRAINING = "train"
NOT_CHANGED = "no patch changes the decision by what it shows, or the explanation of the patched image is not finite"


@metric(better="higher", unit="iou", span=(0, 1), kind="localisation", needs=("explainer", "train"))
def impact_coverage(
    batch: Batch,
    *,
    pasted: Literal["train"] | Tensor = FROM_TRAINING,
    share: InnerShare = 0.25,
    draws: Count = 16,
    baseline: BaselineName | Tensor = "typical",
) -> Scores:
    """Intersection over union of a patch that has changed the decision and the most important units of the patched
    image (impact coverage: Lin et al. 2019, 1910.07387).

    A patch is pasted into the image, and the class that the model then predicts is explained. The most important units
    are as many as the patch has; the score is the number of those in the patch over the number in either. In [0, 1],
    higher is better; a random map scores about q / (2 - q) for a patch of a share q of the image, 0.14 for a quarter.

    The measure is the paper's (its percentage coverage of adversarially impacted factors), with the size of the most
    important region as in the code of Gevaert et al. (2202.12270). Both train adversarial patches. Here patches
    are not trained: ``pasted`` is such a patch (C, h, w), in the numbers of the inputs, or ``train``, a rectangle of
    about a ``share`` of a random training input. That is pasted at its own place, a given patch at a random one. Of
    ``draws`` draws the first counts in which the decision is another than for the image, and also another than for the
    image with the ``baseline`` in the place of the patch: what changes the decision is what the patch shows, and not
    what it covers.

    NaN where no draw changes the decision, where an output is not a number in a draw before the first that does, and
    where the explanation is not finite. NotApplicable for inputs that are no images, without training inputs where
    these are pasted, for attributions given without their explainer, and for models that do not choose one of several
    classes; ValueError unless 0 < share < 1.

    The class is the colour of the brightest pixel, and the training inputs are brighter. A map of the pixels of the
    predicted colour shows the patch, which is all of these, and its negative shows the rest:

    >>> brightest = torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()).eval()
    >>> shown = 2 * torch.eye(4)[:, :, None, None].expand(4, 4, 6, 6)  # one image of each of four colours
    >>> colour = lambda model, inputs, targets: inputs[torch.arange(len(inputs)), targets][:, None]
    >>> others = lambda model, inputs, targets: -colour(model, inputs, targets)
    >>> given = brightest, shown, torch.arange(4), shown
    >>> harness.score("impact_coverage", *given, explainer=colour, train=2 * shown).tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> harness.score("impact_coverage", *given, explainer=others, train=2 * shown).tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    samples = batch.samples
    samples.need("image")
    batch.need_explainer()
    patches = _patches(samples.joint(), pasted, share, draws)
    key = ("changed by a patch", pasted, share, draws, baseline)
    rows, draw, classes = samples.shared(key, lambda: _first_changing_draw(samples, patches, draws, baseline))
    values = torch.full((len(batch),), float("nan"), dtype=torch.float64, device=rows.device)
    tied = torch.zeros_like(values)
    known = ~is_predicted(classes, classes).isnan()
    rows, draw, classes = rows[known], draw[known], classes[known]
    if len(rows):
        shown = replace(samples.with_inputs(patches.paste(rows, draw), rows), targets=classes)
        maps = batch.reduced(batch.explain(replace(shown, facts=None, output_cache=None)))
        area = samples.joint().units.expand(patches.area(rows, draw)) if maps.dim() > 3 else patches.area(rows, draw)
        values[rows] = _coverage(maps, area.expand_as(maps), shown)
        tied[rows] = tied_share(maps.flatten(1))
    return with_reason(values, NOT_CHANGED, tied=tied)


@dataclass(frozen=True)
class Patches:
    """Patches of one size for every sample and draw.

    size      (h, w)
    corner    (N, draws, 2) int64, row and column of the upper left pixel in the image
    image_of  a function of samples and draws (rows,): images (rows, C, H, W) that show the patch at its place
    inputs    the images (N, C, H, W)
    """

    size: tuple[int, int]
    corner: Tensor
    image_of: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor

    def area(self, sample: Tensor, draw: Tensor) -> Tensor:
        """The pixels (rows, H, W) of the patch, bool."""
        first = self.corner[sample, draw]
        within = [
            (place >= first[:, axis, None]) & (place < first[:, axis, None] + length)
            for axis, length in enumerate(self.size)
            for place in [torch.arange(self.inputs.shape[2 + axis], device=first.device)]
        ]
        return within[0][:, :, None] & within[1][:, None]

    def paste(self, sample: Tensor, draw: Tensor) -> Tensor:
        """The images (rows, C, H, W) with the patch."""
        return torch.where(self.area(sample, draw)[:, None], self.image_of(sample, draw), self.inputs[sample])


def _patches(samples: Samples, pasted: str | Tensor, share: float, draws: int) -> Patches:
    """The patches of all draws, and where they are pasted."""
    size = _size(samples, pasted, share)
    keys = lambda use: samples.stream(f"impact coverage {use}")
    free = [whole - length + 1 for whole, length in zip(samples.units.shape, size, strict=True)]
    corner = torch.stack([integers(keys(f"axis {axis}"), room, draws) for axis, room in enumerate(free)], 2)
    if isinstance(pasted, Tensor):
        return Patches(size, corner, _at_corners(pasted.to(samples.inputs), samples, corner), samples.inputs)
    number, train = integers(keys("image"), len(samples.train), draws), samples.train
    shown = lambda sample, draw: train[number[sample, draw].to(train.device)].to(samples.inputs)
    return Patches(size, corner, shown, samples.inputs)


def _size(samples: Samples, pasted: str | Tensor, share: float) -> tuple[int, int]:
    """The height and width of the patches.

    UserError for what is no patch of these images; NotApplicable without training inputs where these are pasted, and
    for a patch that covers the whole image.
    """
    channels, height, width = samples.inputs.shape[1:]
    if not isinstance(pasted, Tensor):
        if samples.train is None:
            raise NotApplicable("no patch is given, and there are no training inputs to cut one from (give train=)")
        part = math.sqrt(share)
        size = max(1, round(part * height)), max(1, round(part * width))
    elif pasted.dim() != 3 or len(pasted) != channels or pasted.shape[1] > height or pasted.shape[2] > width:
        expected = f"({channels}, h, w) of at most {height} x {width}"
        raise UserError(f"pasted has shape {tuple(pasted.shape)}, expected {expected}")
    else:
        size = pasted.shape[1], pasted.shape[2]
    if size == (height, width):
        raise NotApplicable(f"a patch of {height} x {width} pixels covers the whole image")
    return size


def _at_corners(patch: Tensor, samples: Samples, corner: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of sample and draw that shows a patch (C, h, w) from its corner on; other pixels are of no meaning."""

    def shown(sample: Tensor, draw: Tensor) -> Tensor:
        first, size = corner[sample, draw], samples.units.shape
        row, column = (
            (torch.arange(size[axis], device=first.device) - first[:, axis, None]).clamp(0, patch.shape[1 + axis] - 1)
            for axis in (0, 1)
        )
        return patch[:, row[:, :, None], column[:, None]].movedim(1, 0)

    return shown


def _first_changing_draw(
    samples: Samples, patches: Patches, draws: int, baseline: str | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The samples (M,) whose decision a patch changes by what it shows, the first draw that does and the new class.

    Where it is not known for an earlier draw, because an output is not a number, that draw comes with ``NO_CLASS``.
    """
    every = torch.arange(len(samples), device=samples.inputs.device)
    sample, draw = every.repeat_interleave(draws), torch.arange(draws, device=every.device).repeat(len(samples))
    clean = samples.shared("predicted", lambda: decisions_of(samples, every, lambda rows: samples.inputs[rows]))
    patched = decisions_of(samples, sample, lambda rows: patches.paste(sample[rows], draw[rows]))
    # A patch that leaves the model without a decision gives no class to explain.
    kept_class = same_class(patched, clean[sample]).masked_fill(patched == UNDECIDED, 1)
    remove = samples.joint().remover(baseline)
    kept = lambda rows: remove(sample[rows], ~patches.area(sample[rows], draw[rows]))
    rest = (kept_class == 0).nonzero()[:, 0]
    if len(rest):
        covered = decisions_of(samples, sample[rest], lambda rows: kept(rest[rows]))
        kept_class[rest] = same_class(patched[rest], covered)
    classes = patched.masked_fill(kept_class.isnan(), NO_CLASS).view(-1, draws)
    stops = kept_class.view(-1, draws) != 1  # also where it is not known
    rows, first = stops.any(1).nonzero()[:, 0], stops.long().argmax(1)
    return rows, first[rows], classes[rows, first[rows]]


def _coverage(maps: Tensor, area: Tensor, samples: Samples) -> Tensor:
    """Intersection over union (M,) of the area and as many units of highest attribution; NaN where not finite."""
    values, inside = maps.flatten(1), area.flatten(1)
    top = ranks(values, samples.stream("ties 0")) < inside.sum(1, keepdim=True)
    coverage = (top & inside).sum(1) / (top | inside).sum(1).double()
    return coverage.masked_fill(~values.isfinite().all(1), float("nan"))
