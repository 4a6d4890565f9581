"""Performance information curves: how fast a blurred image regains its class when its most important pixels return,
measured against how much information they bring (XRAI: Kapishnikov et al. 2019, 1906.02825).

The definition is that of the authors' released code (``saliency.metrics.pic``). The image starts from a random
``known_share`` share of its pixels, and its corners; between them it is interpolated linearly over the triangles of
their Delaunay triangulation. Then the ``percents`` of pixels with the highest attributions are known too. Information
is the size of the image in bytes as lossless WebP of 8 bits, with the declared value range as 0 .. 255; it is 0 for the
blurred and 1 for the whole image. So is performance: the probability of the explained class (``sic``), or whether the
prediction is right (``aic``). The curve goes from (0, 0) through these points, as a running maximum, to (1, 1).

All this takes seconds per image of 224 pixels and explainer, most of them for triangulation and compression, which run
on all cores.

A sample's score is the area under its own curve. The paper's figure for a data set is the area under the median of the
curves over samples, which is not the mean of these areas.

In the examples the upper left of an image of noise decides the class.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._outputs import NO_CLASS, is_predicted, output_count, predicted_class
from harness.metrics._similarity import with_reason
from harness.option_types import InnerPercent, Share, ShareBelowOne
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.randomness import subsets
from harness.registry import metric
from harness.samples import Samples

POINTS, KEPT = 1000, 10  # steps along the axis of information, and which of them are kept as the sample's curve
UNDEFINED = (
    "the blurred image is no smaller, or performs no worse, than the image, or this is below the least probability"
)


@dataclass(frozen=True)
class Information:
    """Options of performance information curves.

    percents           shares of the pixels that return, the most important first, in percent, in any order
    known_share        share of the pixels that the blurred image is interpolated from, drawn at random, at least 0
    least_probability  images whose explained class is less probable have no score; the released code's default is 0.8
    """

    percents: tuple[InnerPercent, ...] = (0.5, 1, 2, 3, 4, 5, 7, 10, 13, 21, 34, 50, 75)
    known_share: ShareBelowOne = 0.01
    least_probability: Share = 0.0


@metric(
    better="higher",
    unit="auc",
    span=(0, 1),
    curve_across="share of the information",
    curve_places=(0, 1),
    curve_height="share of the class probability regained",
)
def sic(batch: Batch, *, information: Information = Information()) -> Scores:
    """Softmax information curve: area under the probability, over the information in the image, while the most
    important pixels return to a blurred image (XRAI: Kapishnikov et al. 2019, 1906.02825).

    In [0, 1], higher is better; 0.5 where probability and information return together. Curves (N, 101) are the curve at
    evenly spaced amounts of information. Pixels of equal attribution return in random order, and not together as in the
    released code. NaN where the blurred image has as many bytes or as high a probability as the image, so that there is
    nothing to regain, and below ``least_probability``. NotApplicable for inputs that are no grey or colour images of at
    least 2 x 2 pixels, and for models without probabilities.

    >>> noise = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> score = lambda maps: harness.score("sic", image_model, noise, targets[:1], maps).item()
    >>> score(corner.float()) > score(1 - corner.float())
    True
    """
    runs = _runs(batch, information)
    performance = pick(runs.tracked, "probability").double()
    return _areas_of_information(batch, information, runs, performance)


@metric(
    better="higher",
    unit="auc",
    span=(0, 1),
    curve_across="share of the information",
    curve_places=(0, 1),
    curve_height="whether the prediction is right",
)
def aic(batch: Batch, *, information: Information = Information()) -> Scores:
    """Accuracy information curve: area under the accuracy, over the information in the image, while the most important
    pixels return to a blurred image (XRAI: Kapishnikov et al. 2019, 1906.02825).

    Right is a prediction of the label or, where the data has none, of the explained class; the curve of one sample
    rises from 0 to 1 where its prediction turns right. In [0, 1], higher is better; curves (N, 101) and the order of
    equal pixels as for ``sic``. NaN where the image itself is not classified rightly or the blurred one is, where an
    output is not a number, and as for ``sic``. NotApplicable to models that do not choose one of several classes, and
    as for ``sic``.

    >>> noise = 2 * torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 1
    >>> noise[..., 0, 0], noise[..., 1, 1], noise[..., 0, 3], noise[..., 3, 0], noise[..., 3, 3] = -1, 9, -9, -9, -9
    >>> score = lambda maps: harness.score("aic", image_model, noise, targets[:1], maps).item()
    >>> score(corner.float()) > score(1 - corner.float())
    True
    """
    samples = batch.samples
    if not samples.task.exclusive or output_count(samples) < 2:
        raise NotApplicable("accuracy needs a model that chooses one of several classes")
    runs = _runs(batch, information)
    right = samples.targets if samples.labels is None else samples.labels
    return _areas_of_information(batch, information, runs, is_predicted(runs.predicted, right[:, None]))


@dataclass(frozen=True)
class _Runs:
    """Sizes and outputs of the images with 0, then ``percents``, then all of their pixels: P + 2 of each sample.

    sizes      (N, P + 2) float64, bytes
    tracked    (N, P + 2, 3)
    predicted  (N, P + 2) the class that the model predicts, or ``NO_CLASS``
    """

    sizes: Tensor
    tracked: Tensor
    predicted: Tensor


def _areas_of_information(batch: Batch, information: Information, runs: _Runs, performance: Tensor) -> Scores:
    """The areas under the curves of a performance (N, P + 2)."""
    sizes, outputs = (_between_ends(values).cpu().numpy() for values in (runs.sizes, performance))
    axis = np.linspace(0, 1, POINTS + 1)
    curves = torch.from_numpy(np.stack([_curve(*each, axis) for each in zip(sizes, outputs, strict=True)]))
    sure = pick(runs.tracked[:, -1], "probability") >= information.least_probability
    curves = curves.to(performance.device).masked_fill(~sure[:, None], float("nan"))
    tied = tied_share(batch.attributions.flatten(1))
    return with_reason(torch.trapezoid(curves, dx=1 / POINTS, dim=1), UNDEFINED, curves=curves[:, ::KEPT], tied=tied)


def _between_ends(values: Tensor) -> Tensor:
    """Values (N, P + 2) as shares of the way from the first to the last, in [0, 1]; NaN where the last is no larger."""
    first, last = values[:, :1], values[:, -1:]
    return ((values - first) / (last - first)).clamp(0, 1).masked_fill(last <= first, float("nan"))


def _curve(sizes: np.ndarray, outputs: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The best performance so far at the amounts of information ``axis``; NaN where either is undefined."""
    if np.isnan(sizes).any() or np.isnan(outputs).any():
        return np.full_like(axis, np.nan)
    # The two ends come last, so that they hold where a point between them has the information of an end.
    x = np.concatenate([sizes[1:-1], [0.0, 1.0]])
    y = np.concatenate([np.maximum.accumulate(outputs[1:-1]), [0.0, 1.0]])
    order = x.argsort(kind="stable")
    curve = np.interp(axis, x[order], y[order])
    curve[-1] = 1.0
    return curve


def _runs(batch: Batch, information: Information) -> _Runs:
    samples, shares = batch.samples, tuple(sorted(map(float, information.percents)))
    samples.need("image")
    if len(batch.units.shape) != 2 or min(batch.units.shape) < 2 or batch.inputs.shape[1] not in (1, 3):
        raise NotApplicable(f"needs grey or colour images of at least 2 x 2 pixels, these are {batch.inputs.shape[1:]}")
    ends = samples.shared(
        ("information ends", information.known_share), lambda: _of_ends(samples, information.known_share)
    )
    between = batch.remember(
        ("information", information.known_share, shares), lambda: _of_shares(batch, shares, information)
    )
    return _Runs(*(torch.cat(parts, 1) for parts in zip(ends[0], between, ends[1], strict=True)))


def _of_ends(samples: Samples, known: float) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Sizes, tracked outputs and predictions (N, 1, ...) of the blurred images, and of the images themselves."""
    masks = _known_pixels(samples, known)[:, None]
    return _measured(samples, masks), _measured(samples, torch.ones_like(masks))


def _of_shares(batch: Batch, shares: tuple[float, ...], information: Information) -> tuple[Tensor, ...]:
    """The same (N, P, ...) of the images with the most important pixels known."""
    samples, count = batch.samples, batch.units.count
    # As many as are not below the quantile of that share, which the released code takes.
    top = [1 + int(share / 100 * (count - 1) + 1e-9) for share in shares]
    place = ranks(batch.attributions.flatten(1), samples.stream("ties 0"))
    returned = place[:, None] < torch.tensor(top, device=place.device)[:, None]
    return _measured(
        samples,
        returned.view(len(samples), -1, *batch.units.shape) | _known_pixels(samples, information.known_share)[:, None],
    )


def _known_pixels(samples: Samples, share: float) -> Tensor:
    """The pixels (N, H, W) bool that the blurred image is interpolated from, the same for every explainer."""
    count, shape = samples.units.count, samples.units.shape
    known = subsets(samples.stream("known pixels"), 1, int(count * share), count)[:, 0].view(-1, *shape)
    corner = torch.zeros(shape, dtype=torch.bool, device=known.device)
    corner[0, 0] = corner[0, -1] = corner[-1, 0] = corner[-1, -1] = True
    return known | corner


def _measured(samples: Samples, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sizes (N, P), tracked outputs (N, P, 3) and predictions (N, P) of images with ``known`` (N, P, H, W) pixels."""
    parts = [_of_images(samples, rows, known[rows]) for rows in _row_blocks(samples, known.shape[1])]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _row_blocks(samples: Samples, images: int) -> tuple[Tensor, ...]:
    """Samples in blocks that make about one chunk of the model's inputs."""
    rows = torch.arange(len(samples), device=samples.inputs.device)
    return rows.split(max(1, samples.predictor.chunk // images))


def _of_images(samples: Samples, rows: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = (bound.expand_as(samples.inputs)[rows] for bound in samples.input_range())
    scale = (high - low).where(high > low, 1.0)
    levels = ((samples.inputs[rows] - low) / scale * 255).round().clamp(0, 255).cpu().numpy()
    shape, masks = known.shape[:2], known.flatten(0, 1).cpu().numpy()
    with ThreadPoolExecutor() as pool:  # triangulation and compression take nearly all the time, outside of Python
        filled = list(pool.map(_interpolated, levels.repeat(shape[1], 0), masks))
        sizes = torch.tensor(list(pool.map(_webp_size, filled)), dtype=torch.float64).view(shape)
    between = torch.from_numpy(np.stack(filled)).view(*shape, *samples.inputs.shape[1:]).to(samples.inputs)
    pixels = between / 255 * scale[:, None] + low[:, None]
    inputs = torch.where(known[:, :, None], samples.inputs[rows][:, None], pixels)
    sample = rows.repeat_interleave(known.shape[1])
    outputs = samples.model_outputs(inputs.flatten(0, 1), sample)
    tracked = samples.task.track(outputs, samples.targets[sample])
    several = outputs.dim() == 2 and outputs.shape[1] > 1 and samples.task.exclusive
    predicted = predicted_class(outputs) if several else torch.full_like(sample, NO_CLASS)
    return sizes.to(inputs.device), tracked.view(*shape, -1), predicted.view(shape)


def _interpolated(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """An image (C, H, W) of bytes, its pixels that are not ``known`` (H, W) interpolated linearly and rounded."""
    if known.all():
        return image
    from scipy.interpolate import LinearNDInterpolator  # here and not above: it takes a second to import

    values = image.copy()
    points, missing = np.argwhere(known), np.argwhere(~known)
    found = LinearNDInterpolator(points, image[:, known].T)(missing)
    outside = np.isnan(found)  # by rounding, on an edge between two corners
    values[:, ~known] = np.round(np.where(outside, image.mean((1, 2)), found)).T
    return values


def _webp_size(image: np.ndarray) -> int:
    """The size in bytes of an image (C, H, W) of bytes as lossless WebP."""
    pixels, buffer = image.astype(np.uint8).transpose(1, 2, 0), io.BytesIO()
    Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels).save(buffer, "webp", lossless=True, quality=100)
    return buffer.tell()
