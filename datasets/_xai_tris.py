"""How the XAI-TRIS images are made: every sample from the seed and its own number, so that none need be kept.

Clark, Wilming and Haufe 2023, "XAI-TRIS", 2306.12816. A signal (a tetromino) is mixed with a background; norms and the
largest value are those of the whole data matrix, which is gone through twice, a few samples at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from harness.datasets._photo_crops import grey_crop
from harness.messages import say

SCENARIOS = ("linear", "multiplicative", "rotation", "xor")
BACKGROUNDS = ("white", "correlated", "natural")
SIZES = (8, 64)
NOISE = 0.5  # standard deviation of the white background
SMOOTHING = {8: 3.0, 64: 10.0}  # sigma, in pixels, that correlates it
SAMPLES = {8: 10_000, 64: 40_000}
HELD_OUT = {8: 0.1, 64: 0.05}  # share of the samples in the validation part, and as many in the test part
MOST = 1_000_000  # samples
# Number of a part's first sample, far from the other parts': what is held out of some samples was trained on in none.
FIRST = {"train": 0, "validation": MOST, "test": 2 * MOST}
SOFTENED, EDGE = 1.5, 0.05  # sigma by which large tetrominoes are smoothed; a pixel of theirs belongs from this value
CHUNK = 512  # samples made together when the whole data matrix is gone through

# Weight of the signal, for white, correlated and natural backgrounds: the authors' settings, save the natural ones
# of 8x8 images, which they do not have and which are ours.
ALPHA = {
    8: {
        "linear": (0.18, 0.0125, 0.1),
        "multiplicative": (0.7, 0.1, 0.5),
        "rotation": (0.65, 0.2, 0.4),
        "xor": (0.35, 0.15, 0.25),
    },
    64: {
        "linear": (0.03, 0.02, 0.06),
        "multiplicative": (0.65, 0.05, 0.2),
        "rotation": (0.575, 0.375, 0.03),
        "xor": (0.075, 0.03, 0.13),
    },
}

T_SHAPE = np.array([[1, 0], [1, 1], [1, 0]], dtype=np.float32)
L_SHAPE = np.array([[1, 0], [1, 0], [1, 1]], dtype=np.float32)
CORNERS = ((1, 1), (4, 5))  # where they begin, row and column, in units of the 8x8 image
SIGNS = ((1, 1), (1, -1), (-1, -1), (-1, 1))  # of T and L in turn under xor; equal ones are class 0


@dataclass(frozen=True)
class Family:
    """One data set of XAI-TRIS: what decides every one of its samples.

    alpha  weight of the signal, in (0, 1)
    count  samples of all parts together
    """

    scenario: str
    background: str
    size: int
    alpha: float
    count: int
    seed: int

    def labels(self, numbers: np.ndarray) -> Tensor:
        """Classes (k,): they alternate."""
        return torch.from_numpy(numbers % 2)

    def inputs(self, numbers: np.ndarray) -> Tensor:
        """Samples (k, 1, size, size), float32 in -1..1."""
        return torch.from_numpy(self.mixed(numbers) / _largest(self)).float()[:, None]

    def masks(self, numbers: np.ndarray) -> Tensor:
        """Where (k, size, size) the pixels lie whose distribution depends on the class, or on class and sample.

        With fixed places, both tetrominoes: that one is absent tells as much as that the other is there.
        """
        signal = self.signals(numbers) if self.scenario == "rotation" else np.abs(_both(self.size, 1, 1))[None]
        mask = torch.from_numpy(np.abs(signal) >= EDGE)
        return mask.expand(len(numbers), -1, -1).clone()

    def truth(self, numbers: np.ndarray) -> Tensor:
        """The masks as numbers, 0 and 1."""
        return self.masks(numbers).float()

    def mixed(self, numbers: np.ndarray) -> np.ndarray:
        """Samples (k, size, size) before they are divided by the largest value of all."""
        signal, background = self.signals(numbers), self.backgrounds(numbers)
        if self.scenario == "multiplicative":  # the norms divide every sample alike, and so does the largest value
            return (1 - self.alpha * signal) * background
        of_signal, of_background = _norms(self)
        return self.alpha * signal / of_signal + (1 - self.alpha) * background / of_background

    def signals(self, numbers: np.ndarray) -> np.ndarray:
        """What carries the class (k, size, size), in -1..1."""
        if self.scenario == "rotation":
            return np.stack([self._turned(int(number)) for number in numbers])
        if self.scenario == "xor":
            kinds = np.stack([_both(self.size, *signs) for signs in SIGNS])
            return kinds[numbers % 4]
        return np.stack([_both(self.size, 1, 0), _both(self.size, 0, 1)])[numbers % 2]

    def _turned(self, number: int) -> np.ndarray:
        """A tetromino, turned by a random right angle, at a random place; of half the size in large images."""
        rng = self._rng(number, 1)
        scale = max(1, self.size // 16)
        shape = np.kron(np.rot90((T_SHAPE, L_SHAPE)[number % 2], rng.integers(4)), np.ones((scale, scale)))
        top, left = (int(rng.integers(self.size - length + 1)) for length in shape.shape)
        return _placed(self.size, shape, top, left)

    def backgrounds(self, numbers: np.ndarray) -> np.ndarray:
        """What does not (k, size, size)."""
        if self.background == "natural":
            return np.stack([grey_crop(self._rng(number, 0), self.size) for number in numbers])
        shape = (self.size, self.size)
        noise = np.stack([self._rng(number, 0).standard_normal(shape, dtype=np.float32) for number in numbers]) * NOISE
        if self.background == "white":
            return noise
        smooth = _smoothing(self.size)
        return smooth @ noise @ smooth.T

    def _rng(self, number: int, use: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, 2 * int(number) + use]))

    @property
    def parts(self) -> dict[str, range]:
        """The numbers of the samples of each part."""
        held = round(HELD_OUT[self.size] * self.count)
        counts = {"train": self.count - 2 * held, "validation": held, "test": held}
        return {part: range(FIRST[part], FIRST[part] + count) for part, count in counts.items()}

    def chunks(self) -> Iterator[np.ndarray]:
        """The numbers of all samples, a few at a time."""
        for numbers in self.parts.values():
            for start in range(0, len(numbers), CHUNK):
                yield np.array(numbers[start : start + CHUNK])


@cache
def _norms(family: Family) -> tuple[float, float]:
    """Frobenius norms of all signals and of all backgrounds."""
    if family.size > min(SIZES):
        say(f"measuring {family.count:,} generated images, once")
    squares = [0.0, 0.0]
    for numbers in family.chunks():
        for place, part in enumerate((family.signals(numbers), family.backgrounds(numbers))):
            squares[place] += float(np.square(part, dtype=np.float64).sum())
    return squares[0] ** 0.5, squares[1] ** 0.5


@cache
def _largest(family: Family) -> float:
    """The largest magnitude among all samples before they are scaled."""
    return max(float(np.abs(family.mixed(numbers)).max()) for numbers in family.chunks())


@cache
def _both(size: int, sign_of_t: int, sign_of_l: int) -> np.ndarray:
    """An image with both tetrominoes at their places, each times a sign or 0."""
    scale, image = size // 8, np.zeros((size, size), dtype=np.float32)
    for shape, (top, left), sign in zip((T_SHAPE, L_SHAPE), CORNERS, (sign_of_t, sign_of_l), strict=True):
        image += sign * _placed(size, np.kron(shape, np.ones((scale, scale))), top * scale, left * scale)
    return image


def _placed(size: int, shape: np.ndarray, top: int, left: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    image = np.zeros((size, size), dtype=np.float32)
    image[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return gaussian_filter(image, SOFTENED) if size > min(SIZES) else image


@cache
def _smoothing(size: int) -> np.ndarray:
    """The matrix (size, size) that smooths a column by a Gaussian, mirrored at the borders as scipy does it."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.eye(size), SMOOTHING[size], axis=0).astype(np.float32)
