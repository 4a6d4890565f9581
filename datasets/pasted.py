"""Shapes pasted on photographs: where the object is, and that nothing else tells the class, is exact."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.datasets._photo_crops import LUMA, crop
from harness.datasets._rows import Rows
from harness.errors import UserError, unknown
from harness.registry import dataset
from harness.sources import Data

SIZE = 32
SMALLEST, LARGEST = 12, 20  # diameter of an object in pixels
CONTRAST = 0.35  # least difference in luminance between an object and the mean of what it covers
GRAIN = 0.03  # standard deviation of the noise on an object
COUNTS = {"train": 6_000, "test": 500}
FIRST = {"train": 0, "test": 1_000_000}  # number of a part's first sample, far from the other part's
TRAIN_SHOWN = 500  # training samples that are held in memory, for baselines
VALUE_RANGE = (0.0, 1.0)

# Whether the point (x, y), in a square of -1..1 before it is turned, belongs to the shape.
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
    licence="none needed; photographs: public domain, CC0 and CC BY 2.0",
    samples="6,000 to train, 500 to test",
    classes="disc, ring, square, cross, triangle",
)
def pasted(*, split: str = "test", objects: bool = True, seed: int = 0) -> Data:
    """Random crops of photographs onto which one of five shapes is pasted, with the exact mask of its pixels.

    Items (3, 32, 32) in 0..1, RGB, made when they are asked for, from ``seed`` and their own number; classes take
    turns. A shape of 12 to 20 pixels lies whole at any place, turned by any angle; its colour is random but not of
    the luminance of what it covers, and it has a fine grain. Crop, place, size, angle and colour do not depend on the
    class, so that nothing but the shape tells it: ``masks`` and ``truth`` hold its pixels. A model may look at the
    pixels just outside its edge as well, which show the contrast.

    ``split`` is ``test`` (500) or ``train`` (6,000), whose crops come from the same 13 photographs. With
    ``objects=False`` the same crops have nothing on them: what was there before, for interventions.
    """
    if split not in COUNTS:
        raise unknown("split of pasted", split, COUNTS)
    if seed < 0:
        raise UserError(f"seed of pasted is {seed}, expected a whole number from 0")
    numbers, shown = numbers_of(split), numbers_of("train")[:TRAIN_SHOWN]
    images = _made(seed, _pasted if objects else _empty)
    return Data(
        ids=[f"pasted_{split}_{place:04}" for place in range(len(numbers))],
        items=Rows(images, numbers),
        labels=Rows(labels_of, numbers)[:],
        modality="image",
        value_range=VALUE_RANGE,
        classes=CLASSES,
        train=Rows(images, shown)[:],
        train_labels=Rows(labels_of, shown)[:],
        masks=Rows(_made(seed, _mask), numbers),
        truth=Rows(_made(seed, lambda rng, label: _mask(rng, label).astype(np.float32)), numbers),
    )


def load_split() -> dict[str, tuple[Tensor, Tensor]]:
    """``train`` and ``test`` of seed 0 -> inputs (k, 3, 32, 32), labels (k,)."""
    made = _made(0, _pasted)
    return {part: (Rows(made, numbers_of(part))[:], Rows(labels_of, numbers_of(part))[:]) for part in COUNTS}


def numbers_of(part: str) -> range:
    """The numbers of a part's samples."""
    return range(FIRST[part], FIRST[part] + COUNTS[part])


def labels_of(numbers: np.ndarray) -> Tensor:
    """Classes (k,): they take turns."""
    return torch.from_numpy(numbers % len(CLASSES))


def _made(seed: int, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Callable[[np.ndarray], Tensor]:
    """What ``draw`` makes of each sample's own random numbers and class, for several samples."""

    def make(numbers: np.ndarray) -> Tensor:
        made = [draw(np.random.Generator(np.random.Philox(key=[seed, n])), n % len(CLASSES)) for n in numbers.tolist()]
        return torch.from_numpy(np.stack(made))

    return make


def _mask(rng: np.random.Generator, label: int) -> np.ndarray:
    """Where (32, 32) the shape is; what is drawn here is drawn first, so that mask and image agree."""
    radius, angle = rng.uniform(SMALLEST, LARGEST) / 2, rng.uniform(0, 2 * np.pi)
    left, top = rng.uniform(radius, SIZE - radius, 2)
    down, across = np.mgrid[:SIZE, :SIZE] + 0.5
    x, y = (across - left) / radius, (down - top) / radius
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return SHAPES[CLASSES[label]](*turned)


def _empty(rng: np.random.Generator, label: int) -> np.ndarray:
    """The crop (3, 32, 32) as it was."""
    _mask(rng, label)
    return np.ascontiguousarray(crop(rng, SIZE).transpose(2, 0, 1))


def _pasted(rng: np.random.Generator, label: int) -> np.ndarray:
    """The crop with the shape on it."""
    mask = _mask(rng, label)
    image = crop(rng, SIZE).transpose(2, 0, 1)
    covered = np.dot(LUMA, image[:, mask].mean(1))
    grain = GRAIN * rng.standard_normal((SIZE, SIZE))
    painted = np.clip(_colour(rng, covered)[:, None, None] + grain, 0, 1)
    return np.where(mask, painted, image).astype(np.float32)


def _colour(rng: np.random.Generator, covered: float) -> np.ndarray:
    """A random colour (3,) whose luminance is not that of what it covers."""
    while True:
        colour = rng.uniform(0, 1, 3)
        if abs(np.dot(LUMA, colour) - covered) >= CONTRAST:
            return colour
