"""XRAI: regions of an image in the order in which they bring the most attribution per pixel."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.explainers._gradients import summed_gradients
from harness.option_types import Count
from harness.registry import explainer
from harness.removal.segments import Segmentation
from harness.samples import Samples

FELZENSZWALB = "felzenszwalb"
# Of the released code, whose images have a side of 224 pixels.
SCALES = (50, 100, 150, 250, 500, 1200)
SMOOTHED, LEAST_SEGMENT = 0.8, 150
SIDE, RADIUS, LEAST_GAIN = 224, 5, 50


@explainer(
    modalities=("image",), cost="2 steps F 2 steps B", tunable={"steps": (200,), "segments": ("slic:50", "slic:100")}
)
def xrai(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    steps: Count = 50,
    segments: Segmentation | Literal["felzenszwalb"] | Tensor = FELZENSZWALB,
) -> Tensor:
    """XRAI: integrated gradients from black and from white, averaged over regions that are added one after the other,
    the one with the largest mean attribution of its new pixels first (Kapishnikov et al. 2019, 1906.02825).

    Shape (N, 1, H, W); logit. Black and white are the lowest and the highest number of the image, and the attribution
    of a pixel is the largest of its channels, as in the released code. The regions are those of six segmentations by
    Felzenszwalb's method, from fine to coarse, of the image brought to 224 x 224 pixels and to -1..1. Each is widened
    by 5 pixels, and left out once it brings less than 50 new ones; at another size of the image both numbers are scaled
    with its side and its area. Pixels of no region get the mean attribution of them all. Gradients are taken at the
    midpoints of ``steps`` equal parts of each path (the released code has 100). ``segments`` other than
    ``felzenszwalb`` are those of ``harness.removal.segments``, as they are. Not applicable as ``gradient``.

    Example: one image of a single colour is one region, whose pixels have the same number.

    >>> harness.explain("xrai", redness, torch.full((1, 3, 2, 2), 0.4), target).unique().numel()
    1
    """
    numbers = _from_black_and_white(model, inputs, targets, context, steps).amax(1)
    maps = [
        by_regions(each, regions)
        for each, regions in zip(numbers.double().cpu().numpy(), _regions(context, segments), strict=True)
    ]
    return torch.from_numpy(np.stack(maps)).to(numbers)[:, None]


def _regions(context: Samples, segments: str | Tensor) -> Iterator[np.ndarray]:
    """The regions (M, H * W) bool of each sample."""
    if isinstance(segments, str) and segments == FELZENSZWALB:
        yield from map(regions_of, context.inputs.movedim(1, -1).double().cpu().numpy())
        return
    for labels in context.segments(segments).labels.flatten(1).cpu().numpy():
        yield labels == np.unique(labels)[:, None]


def _from_black_and_white(model: nn.Module, inputs: Tensor, targets: Tensor, context: Samples, steps: int) -> Tensor:
    """The mean of the integrated gradients (N, C, H, W) from an image's lowest and from its highest number."""
    ends = torch.stack([inputs.flatten(1).amin(1), inputs.flatten(1).amax(1)], 1)

    def baseline(sample: Tensor, draw: Tensor) -> Tensor:
        return ends[sample, draw // steps].view(-1, *[1] * (inputs.dim() - 1)).expand_as(inputs[sample])

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        share = ((draw % steps + 0.5) / steps).to(inputs).view(-1, *[1] * (inputs.dim() - 1))
        return torch.lerp(baseline(sample, draw), inputs[sample], share)

    def weigh(sample: Tensor, draw: Tensor, gradients: Tensor) -> Tensor:
        rows, draws = sample.repeat_interleave(len(draw)), draw.repeat(len(sample))
        way = inputs[rows] - baseline(rows, draws)
        return gradients * way.to(gradients).view(gradients.shape) / (2 * steps)

    return summed_gradients(model, context, targets, 2 * steps, build, weigh)


def regions_of(image: np.ndarray) -> np.ndarray:
    """The regions (M, H * W) bool of an image (H, W, C), coarse and fine ones, which overlap."""
    from skimage.morphology import dilation, disk  # imported here: scikit-image takes a second to import
    from skimage.segmentation import felzenszwalb
    from skimage.transform import resize

    size = image.shape[:2]
    span = image.max() - image.min()
    scaled = 2 * (image - image.min()) / (span or 1) - 1
    options = {"mode": "constant", "preserve_range": True}
    large = resize(scaled, (SIDE, SIDE), order=3, anti_aliasing=True, **options)
    around = disk(max(0, round(RADIUS * min(size) / SIDE)))
    regions = []
    for scale in SCALES:
        labels = felzenszwalb(large, scale=scale, sigma=SMOOTHED, min_size=LEAST_SEGMENT, channel_axis=-1)
        labels = resize(labels, size, order=0, anti_aliasing=False, **options).astype(int)
        regions += [dilation(labels == each, around) for each in range(labels.min(), labels.max() + 1)]
    return np.stack(regions).reshape(len(regions), -1).astype(bool)


def by_regions(numbers: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """A map (H, W): of each pixel the mean of ``numbers`` (H, W) over the new pixels of the region that it came with.

    Regions (M, H * W) come in the order of that mean. It is kept up to date for every region, so that each pixel is
    looked at once for each.
    """
    values = numbers.reshape(-1)
    least = max(1, round(LEAST_GAIN * values.size / SIDE**2))
    sizes, sums = regions.sum(1), regions @ values
    answer, new = np.zeros_like(values), np.ones(values.size, dtype=bool)
    while (sizes >= least).any():
        means = np.where(sizes >= least, sums / np.maximum(sizes, 1), -np.inf)
        best = int(means.argmax())
        added = regions[best] & new
        answer[added], new = values[added].mean(), new & ~added
        within = regions[:, added]
        sizes, sums = sizes - within.sum(1), sums - within @ values[added]
    if new.any():
        answer[new] = values[new].mean()
    return answer.reshape(numbers.shape)
