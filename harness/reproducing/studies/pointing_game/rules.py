"""The rules of the pointing game: what a hit is, how often a random point hits, and the mean over classes."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import special

from harness.metrics._masks import grown

PUBLISHED_MARGIN = 15.0  # pixels of the image
MOST_EXACT = 1000  # pairs whose number of hits has its exact distribution; that takes a time that grows by the square
Point = tuple[float, float]  # x and y, in pixels from the centre of the first one


def points_at(region: np.ndarray, point: Point, margin: float) -> bool:
    """Whether a pixel of the region (H, W) bool is nearer to the point than ``margin``: what TorchRay calls a hit.

    Only the disc around the point is looked at.
    """
    (height, width), (x, y) = region.shape, point
    rows = np.arange(max(0, math.ceil(y - margin)), min(height, math.floor(y + margin) + 1))
    columns = np.arange(max(0, math.ceil(x - margin)), min(width, math.floor(x + margin) + 1))
    if not (len(rows) and len(columns)):
        return False
    disc = (rows[:, None] - y) ** 2 + (columns - x) ** 2 < margin**2
    return bool((disc & region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]).any())


def distance_to(region: np.ndarray, point: Point) -> float:
    """The distance of the point to the nearest pixel of the region, from those to all its pixels; infinite if it is
    empty."""
    rows, columns = np.nonzero(region)
    squares = (columns - point[0]) ** 2 + (rows - point[1]) ** 2
    return float(np.sqrt(squares.min())) if len(squares) else math.inf


def near_region(region: np.ndarray, margin: float) -> np.ndarray:
    """All pixels (H, W) bool from which a point hits, by the metric ``pointing_game``."""
    near = np.zeros_like(region)
    if region.any():
        # Only pixels near the region can be near it, and the metric takes a time for each pixel.
        around = tuple(_span(region.any(axis), math.ceil(margin)) for axis in (1, 0))
        near[around] = grown(torch.from_numpy(region[around].copy())[None], margin)[0].numpy()
    return near


def _span(there: np.ndarray, more: int) -> slice:
    """From the first True to the last one, and ``more`` places on both sides."""
    places = np.flatnonzero(there)
    return slice(max(0, int(places[0]) - more), int(places[-1]) + 1 + more)


@dataclass(frozen=True)
class ClassMean:
    """A mean over classes of the share of hits.

    value   from 0 to 1
    error   its standard error, by the jackknife over images
    n       the number of pairs of image and class
    """

    value: float
    error: float
    n: int


def class_mean(hits: ArrayLike, classes: ArrayLike, images: ArrayLike) -> ClassMean:
    """The mean over the classes that occur of hits / (hits + misses), from pairs of image and class.

    The jackknife leaves out one image at a time with all its pairs, so that classes in the same image may depend on one
    another. A class that only this image has is left out with it.
    """
    pairs = pd.DataFrame({"hit": np.asarray(hits, dtype=float), "class": classes, "image": images})
    by_class = pairs.groupby("class")["hit"].agg(["sum", "count"])
    value = float((by_class["sum"] / by_class["count"]).mean())
    own = pairs.groupby(["image", "class"])["hit"].agg(["sum", "count"]).reset_index()
    rest = by_class.loc[own["class"]].reset_index(drop=True) - own[["sum", "count"]]
    own["with"] = (by_class["sum"] / by_class["count"]).loc[own["class"]].to_numpy()
    own["without"] = (rest["sum"] / rest["count"].where(rest["count"] > 0)).fillna(0.0)
    own["gone"] = rest["count"] == 0
    changes = own.groupby("image")[["with", "without", "gone"]].sum()
    total, number = value * len(by_class), len(by_class)
    left = (total - changes["with"] + changes["without"]) / (number - changes["gone"]).where(lambda n: n > 0)
    n = int(left.notna().sum())
    error = math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum())) if n > 1 else math.nan
    return ClassMean(value, error, len(pairs))


@dataclass(frozen=True)
class AgainstChance:
    """The number of hits against that of random points, each in its own image.

    expected  the expected number for random points
    z         (hits - expected) / standard deviation for random points
    above     the probability of as many hits or more for random points; ``below`` of as many or fewer
    """

    hits: int
    expected: float
    z: float
    above: float
    below: float


def against_chance(
    hits: ArrayLike, shares: ArrayLike, draws: int = 1, images: ArrayLike | None = None
) -> AgainstChance:
    """Hits, from 0 to ``draws`` for each pair, against points that hit with probability ``shares``.

    Points are independent, but those of one of the ``images`` may depend on one another, as an explainer that looks at
    no class points at the same place for all: then the deviation is the largest that is possible. One draw each for at
    most MOST_EXACT independent pairs has its exact distribution. Others have the normal approximation; where no draw
    can differ, z is 0 for the expected number and infinite for any other.
    """
    hits, shares = np.asarray(hits, dtype=float), np.asarray(shares, dtype=float)
    own = np.sqrt(draws * shares * (1 - shares))
    by_image = own if images is None else pd.Series(own).groupby(np.asarray(images)).sum().to_numpy()
    expected, deviation = draws * shares.sum(), float(np.sqrt((by_image**2).sum()))
    difference = float(hits.sum() - expected)
    if deviation > 0:
        z = difference / deviation
    else:
        z = 0.0 if abs(difference) < 1e-9 else math.copysign(math.inf, difference)
    above, below = float(special.ndtr(-z)), float(special.ndtr(z))
    if draws == 1 and len(by_image) == len(hits) <= MOST_EXACT:
        chances, number = chances_of_hits(shares), int(hits.sum())
        above, below = float(chances[number:].sum()), float(chances[: number + 1].sum())
    return AgainstChance(int(hits.sum()), float(expected), z, above, below)


def chances_of_hits(shares: np.ndarray) -> np.ndarray:
    """The probability (n + 1,) of each number of hits of n independent points that hit with probability ``shares``."""
    chances = np.ones(1)
    for share in shares:
        chances = np.convolve(chances, (1 - share, share))
    return chances
