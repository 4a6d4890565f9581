"""Pixel flipping as the code of Blücher et al. 2024 (2401.06654) does it: the probability while supervoxels are hidden.

Their superpixels are those of scikit-image's SLIC on the array (channels, height, width) taken as a volume of grey
values, so that a superpixel may cover a channel alone; this is why they are called supervoxels here.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._curve import RemovalOrder
from harness.option_types import Repeats, Several
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.randomness import uniform
from harness.samples import Samples
from harness.units import segment_sizes

COMPACTNESS = 1.0
COLOUR_EDGES = 8  # along each channel, of the bins of the colour histogram
# The darkest and the brightest value of a standardised image, over its channels: the edges lie between these.
DARKEST, BRIGHTEST = -0.485 / 0.229, (1 - 0.406) / 0.225

Imputer = Literal["zero", "colours"]


def supervoxel_occlusion(
    batch: Batch,
    *,
    supervoxels: Several = 25,
    measurements: Several = 15,
    order: RemovalOrder = "morf",
    imputer: Imputer = "zero",
    imputations: Repeats = 5,
) -> Scores:
    """Area under the probability of the explained class over the share of numbers that is hidden.

    Supervoxels are hidden in the order of their mean attribution, most relevant first (``morf``, MIF) or last
    (``lerf``, LIF). ``measurements`` points lie at logarithmic distances from 1 to ``supervoxels``. SLIC makes as many
    as it sees fit: where it makes more, the curve ends before all is hidden, and the area is not scaled up. ``imputer``
    puts ``zero``, the mean colour, in their place, or one colour of the image (``colours``), drawn from a histogram in
    ``imputations`` draws, over which the probability is averaged. Curves (N, 2 K) are the K shares that are hidden and
    then the K probabilities.
    """
    samples = batch.samples
    labels, totals = samples.shared(
        ("supervoxels", supervoxels), lambda: supervoxel_labels(samples.inputs, supervoxels)
    )
    counts = occluded_counts(supervoxels, measurements).to(totals.device)
    means = _mean_attributions(batch.raw.expand_as(samples.inputs), labels)
    places = ranks(means, samples.stream("supervoxel ties"))
    if order == "lerf":
        places = totals[:, None] - 1 - places
    place = places.gather(1, labels.flatten(1)).view(labels.shape)
    shares = torch.stack([(place < count).double().flatten(1).mean(1) for count in counts.tolist()], 1)
    fills = _histogram_colours(samples, imputations) if imputer == "colours" else None
    heights = _occluded_probabilities(samples, place, counts, totals, fills)
    areas = torch.trapezoid(heights, shares, dim=1)
    return Scores(areas, torch.cat([shares, heights], 1), tied_share(means, totals))


def supervoxel_labels(inputs: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The supervoxel of each number of each input, (N, C, H, W) from 0, and how many each input has, (N,)."""
    from skimage.segmentation import slic  # imported here: it takes a second

    volumes = inputs.detach().cpu().double().numpy()
    cut = [slic(each, n_segments=number, compactness=COMPACTNESS, channel_axis=None, start_label=0) for each in volumes]
    labels = torch.from_numpy(np.stack(cut).astype(np.int64)).to(inputs.device)
    return labels, labels.flatten(1).amax(1) + 1


def occluded_counts(supervoxels: int, measurements: int) -> Tensor:
    """How many supervoxels are hidden at each point, from none: (K,) int64, at most ``measurements`` + 1 of them."""
    points = np.geomspace(1, supervoxels, measurements, dtype=int)
    return torch.from_numpy(np.unique([0, *points.tolist(), supervoxels]))


def _mean_attributions(maps: Tensor, labels: Tensor) -> Tensor:
    """The mean attribution of each supervoxel, (N, most) float64; lowest of all for numbers that an input lacks."""
    most = int(labels.max()) + 1
    sizes = segment_sizes(labels, most).double()
    sums = torch.zeros_like(sizes).scatter_add_(1, labels.flatten(1), maps.flatten(1).double())
    return (sums / sizes).masked_fill(sizes == 0, -torch.inf)


def _occluded_probabilities(
    samples: Samples, place: Tensor, counts: Tensor, totals: Tensor, fills: Tensor | None
) -> Tensor:
    """The probability (N, K) float64 with the first ``counts`` (K,) places hidden.

    ``fills`` (N, draws, C) are the colours that are put in, over which the mean is taken; None for zero.
    """
    heights = pick(samples.intact(), "probability").double()[:, None].repeat(1, len(counts))
    hidden = (counts > 0).expand(len(samples), -1)
    if fills is None:  # everything hidden is the same input for all explainers
        every = counts >= totals[:, None]
        empty = pick(samples.emptied("zero"), "probability").double()[:, None].expand_as(heights)
        heights, hidden = heights.where(~every, empty), hidden & ~every
    draws = 1 if fills is None else fills.shape[1]
    sample_of, point_of = hidden.nonzero(as_tuple=True)

    def build(rows: Tensor) -> Tensor:
        sample, draw = sample_of[rows // draws], rows % draws
        kept = place[sample] >= counts[point_of[rows // draws]].view(-1, 1, 1, 1)
        fill = samples.inputs.new_zeros(()) if fills is None else fills[sample, draw, :, None, None]
        return torch.where(kept, samples.inputs[sample], fill)

    tracked = samples.track_rows(sample_of.repeat_interleave(draws), build)
    heights[sample_of, point_of] = pick(tracked, "probability").double().view(-1, draws).mean(1)
    return heights


def _histogram_colours(samples: Samples, draws: int) -> Tensor:
    """Colours (N, draws, C) of each image: the means of its pixels in bins that are drawn from its colour histogram."""
    lots = uniform(samples.stream("colours of a histogram"), draws).cpu().double().numpy()
    pixels = samples.inputs.flatten(2).mT.cpu().double().numpy()
    colours = [drawn_colours(each, lot) for each, lot in zip(pixels, lots, strict=True)]
    return torch.from_numpy(np.stack(colours)).to(samples.inputs)


def drawn_colours(pixels: np.ndarray, lots: np.ndarray) -> np.ndarray:
    """The mean colour (draws, C) of the pixels (P, C) in the bin of the histogram that each lot in 0 .. 1 falls on.

    A bin is as likely as it has pixels. There are COLOUR_EDGES - 1 bins along each channel.
    """
    edges = np.linspace(DARKEST, BRIGHTEST, COLOUR_EDGES)
    along = np.clip(np.searchsorted(edges, pixels, side="right") - 1, 0, COLOUR_EDGES - 2)
    bins, members = np.unique(along, axis=0, return_inverse=True)
    members = members.reshape(-1)
    shares = np.bincount(members, minlength=len(bins)).cumsum() / len(pixels)
    chosen = np.minimum(np.searchsorted(shares, lots, side="right"), len(bins) - 1)
    return np.stack([pixels[members == each].mean(0) for each in chosen])
