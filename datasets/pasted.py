"""Shapes pasted on photographs: the object's pixels are known exactly, and nothing else carries the class."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.datasets.generated_rows import GeneratedRows
from harness.datasets.photo_crops import LUMA, PHOTOGRAPH_LICENCES, crop
from harness.option_types import Seed
from harness.registry import dataset
from harness.sources import Data

PASTED_SIDE = 32  # of an image in pixels
SMALLEST, LARGEST = 12, 20  # diameters of objects in pixels
CONTRAST = 0.35  # least difference in luminance between an object and the mean of what it covers
GRAIN = 0.03  # standard deviation of the noise on an object
PART_SIZES = {"train": 6_000, "test": 500}
FIRST_OF_PART = {"train": 0, "test": 1_000_000}  # number of the first sample: no number is in both parts
TRAINING_SAMPLES = 500  # that are held in memory, for baselines
PASTED_RANGE = (0.0, 1.0)

# Shape -> whether a point (x, y) belongs to it, in coordinates -1..1 before the shape is turned.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda x, y: np.hypot(x, y) <= 1,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.75) <= 0.25,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.7,
    "cross": lambda x, y: (np.minimum(np.abs(x), np.abs(y)) <= 0.25) & (np.maximum(np.abs(x), np.abs(y)) <= 0.95),
    "triangle": lambda x, y: (y >= -0.5) & (np.abs(x) * np.sqrt(3) + y <= 1),
}
CLASSES = tuple(SHAPES)


@dataset(
    modality="image",
    source="generated; its backgrounds are photographs that come with scikit-image and scikit-learn",
    licence=f"none needed; backgrounds are crops of {PHOTOGRAPH_LICENCES}",
    samples="6,000 to train, 500 to test",
    classes="disc, ring, square, cross, triangle",
)
def pasted(*, split: Literal["test", "train"] = "test", objects: bool = True, seed: Seed = 0) -> Data:
    """Random crops of photographs onto which one of five shapes is pasted, with the exact mask of its pixels.

    Items (3, 32, 32) in 0..1, RGB, made when they are accessed from ``seed`` and their own number; the classes follow
    one another in turn. The shape is 12 to 20 pixels wide, lies within the image at a random place and is turned by a
    random angle. Its colour is random, with a luminance that differs from that of the covered pixels, and has a fine
    noise. Crop, place, size, angle and colour do not depend on the class: only the shape carries it, and ``masks`` and
    ``truth`` hold its pixels. A model may also use the pixels just outside the edge, which show the contrast.

    ``split`` is ``test`` (500) or ``train`` (6,000); the crops of both come from the same 13 photographs. With
    ``objects=False`` items are the same crops without shapes, for interventions.
    """
    numbers, shown = sample_numbers(split), sample_numbers("train")[:TRAINING_SAMPLES]
    images = _generator_of(seed, _image_with_shape if objects else _image_without_shape)
    return Data(
        ids=[f"pasted_{split}_{place:04}" for place in range(len(numbers))],
        inputs=GeneratedRows(images, numbers),
        labels=GeneratedRows(pasted_labels, numbers)[:],
        modality="image",
        value_range=PASTED_RANGE,
        classes=CLASSES,
        train=GeneratedRows(images, shown)[:],
        train_labels=GeneratedRows(pasted_labels, shown)[:],
        masks=GeneratedRows(_generator_of(seed, _shape_mask), numbers),
        truth=GeneratedRows(
            _generator_of(seed, lambda rng, label: _shape_mask(rng, label).astype(np.float32)), numbers
        ),
    )


def load_split() -> dict[str, tuple[Tensor, Tensor]]:
    """``train`` and ``test`` of seed 0 -> inputs (k, 3, 32, 32), labels (k,)."""
    images, numbers = _generator_of(0, _image_with_shape), {part: sample_numbers(part) for part in PART_SIZES}
    return {
        part: (GeneratedRows(images, own)[:], GeneratedRows(pasted_labels, own)[:]) for part, own in numbers.items()
    }


def sample_numbers(part: str) -> range:
    """The numbers of a part's samples."""
    return range(FIRST_OF_PART[part], FIRST_OF_PART[part] + PART_SIZES[part])


def pasted_labels(numbers: np.ndarray) -> Tensor:
    """Classes (k,): they follow one another in turn."""
    return torch.from_numpy(numbers % len(CLASSES))


def _generator_of(seed: int, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Callable[[np.ndarray], Tensor]:
    """A function from sample numbers (k,) to what ``draw`` gives for each, from its own random numbers and its
    class."""

    def make(numbers: np.ndarray) -> Tensor:
        drawn = [draw(np.random.Generator(np.random.Philox(key=[seed, n])), n % len(CLASSES)) for n in numbers.tolist()]
        return torch.from_numpy(np.stack(drawn))

    return make


def _shape_mask(rng: np.random.Generator, label: int) -> np.ndarray:
    """The mask (32, 32) of the shape. Its random numbers are drawn first, so that mask and image agree."""
    radius, angle = rng.uniform(SMALLEST, LARGEST) / 2, rng.uniform(0, 2 * np.pi)
    left, top = rng.uniform(radius, PASTED_SIDE - radius, 2)
    down, across = np.mgrid[:PASTED_SIDE, :PASTED_SIDE] + 0.5
    x, y = (across - left) / radius, (down - top) / radius
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return SHAPES[CLASSES[label]](*turned)


def _image_without_shape(rng: np.random.Generator, label: int) -> np.ndarray:
    """The crop (3, 32, 32) without a shape."""
    _shape_mask(rng, label)  # only for its random numbers, so that the crop is the same as with the shape
    return np.ascontiguousarray(crop(rng, PASTED_SIDE).transpose(2, 0, 1))


def _image_with_shape(rng: np.random.Generator, label: int) -> np.ndarray:
    """The crop (3, 32, 32) with the shape on it."""
    mask = _shape_mask(rng, label)
    image = crop(rng, PASTED_SIDE).transpose(2, 0, 1)
    covered = np.dot(LUMA, image[:, mask].mean(1))
    grain = GRAIN * rng.standard_normal((PASTED_SIDE, PASTED_SIDE))
    painted = np.clip(_colour(rng, covered)[:, None, None] + grain, 0, 1)
    return np.where(mask, painted, image).astype(np.float32)


def _colour(rng: np.random.Generator, covered: float) -> np.ndarray:
    """A random colour (3,) whose luminance differs by at least CONTRAST from ``covered``, a luminance."""
    while True:
        colour = rng.uniform(0, 1, 3)
        if abs(np.dot(LUMA, colour) - covered) >= CONTRAST:
            return colour
