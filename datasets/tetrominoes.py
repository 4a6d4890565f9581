"""Generation of the XAI-TRIS images: each sample follows from the seed and its number, so that none is stored.

Clark, Wilming and Haufe 2023, "XAI-TRIS", 2306.12816. A signal (a tetromino) is mixed with a background. The norms and
the largest value that scale a sample are those of the whole data set; two passes over it, a few samples at a time,
compute them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.datasets.photo_crops import grey_crop
from harness.messages import say

SCENARIOS = ("linear", "multiplicative", "rotation", "xor")
BACKGROUNDS = ("white", "correlated", "natural")
SIZES = (8, 64)
WHITE_NOISE = 0.5  # standard deviation of the white background
SMOOTHING = {8: 3.0, 64: 10.0}  # sigma in pixels of the Gaussian that makes the correlated background of white noise
PUBLISHED_SAMPLES = {8: 10_000, 64: 40_000}
HELD_OUT_SHARE = {8: 0.1, 64: 0.05}  # share of the samples in the validation part, and again in the test part
MOST_IMAGES = 1_000_000
# Number of the first sample of each part: so far apart that no number is in two parts, however many samples there are.
FIRST_NUMBER = {"train": 0, "validation": MOST_IMAGES, "test": 2 * MOST_IMAGES}
SOFTENED, EDGE = 1.5, 0.05  # sigma that smooths large tetrominoes; least magnitude of a pixel in their mask
IMAGES_AT_A_TIME = 512  # made together in a pass over the whole data set

# Weight of the signal for white, correlated and natural backgrounds: the authors' settings. They have none for natural
# backgrounds of 8x8 images; those are ours.
SIGNAL_WEIGHT = {
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
CORNERS = ((1, 1), (4, 5))  # their top left corners (row, column) in the 8x8 image
XOR_SIGNS = ((1, 1), (1, -1), (-1, -1), (-1, 1))  # of T and L in the scenario xor; equal signs are class 0

# Former names of the options of ``TetrominoOptions``.
RENAMED = {"background": "backdrop"}


@dataclass(frozen=True)
class TetrominoOptions:
    """The options that the data set ``xai_tris`` and its models share; a model must have those of its data.

    scenario    how the tetromino enters the image and what the class is:
                ``linear``: a T or an L, each at its own fixed place, is added to the background;
                ``multiplicative``: it darkens the background instead;
                ``rotation``: it is turned by a multiple of 90 degrees and added at a random place, in 64x64 images at
                half the size;
                ``xor``: both shapes are added or subtracted, and the class is whether their signs are equal
    backdrop    ``white`` noise; ``correlated``, the same noise smoothed by a Gaussian; or ``natural``, grey crops of 13
                photographs that come with scikit-image and scikit-learn, in place of the paper's ImageNet
    """

    scenario: Literal["linear", "multiplicative", "rotation", "xor"] = "linear"
    backdrop: Literal["white", "correlated", "natural"] = "white"

    @property
    def function_name(self) -> str:
        """What the truth of data is about; a model that learnt other images has another one."""
        return f"{self.scenario} tetrominoes in {self.backdrop} noise"

    @property
    def classes(self) -> tuple[str, str]:
        """The names of the two classes."""
        return ("equal signs", "opposite signs") if self.scenario == "xor" else ("T", "L")


TETROMINO_OPTIONS = TetrominoOptions()


@dataclass(frozen=True)
class TetrominoFamily:
    """One data set of XAI-TRIS: the settings that determine all of its samples.

    scenario, background, size  as in the data set ``xai_tris``
    alpha                       weight of the signal, in (0, 1)
    count                       number of samples in all parts together
    seed                        of all random numbers
    """

    scenario: str
    background: str
    size: int
    alpha: float
    count: int
    seed: int

    def labels(self, numbers: np.ndarray) -> Tensor:
        """Classes (k,): they alternate between 0 and 1."""
        return torch.from_numpy(numbers % 2)

    def inputs(self, numbers: np.ndarray) -> Tensor:
        """Samples (k, 1, size, size), float32 in -1..1."""
        return torch.from_numpy(self.mixed(numbers) / _largest_magnitude(self)).float()[:, None]

    def masks(self, numbers: np.ndarray) -> Tensor:
        """Masks (k, size, size), True at the pixels whose distribution depends on the class.

        Where the places are fixed, these are the pixels of both tetrominoes: that one is absent tells the class as
        well as that the other is present.
        """
        signal = self.signals(numbers) if self.scenario == "rotation" else np.abs(_both(self.size, 1, 1))[None]
        mask = torch.from_numpy(np.abs(signal) >= EDGE)
        return mask.expand(len(numbers), -1, -1).clone()

    def truth(self, numbers: np.ndarray) -> Tensor:
        """The masks as the numbers 0 and 1."""
        return self.masks(numbers).float()

    def mixed(self, numbers: np.ndarray) -> np.ndarray:
        """Samples (k, size, size) before they are divided by the largest magnitude of the data set."""
        signal, background = self.signals(numbers), self.backgrounds(numbers)
        if self.scenario == "multiplicative":  # a common factor would cancel when the largest magnitude divides
            return (1 - self.alpha * signal) * background
        of_signal, of_background = _norms_of_parts(self)
        return self.alpha * signal / of_signal + (1 - self.alpha) * background / of_background

    def signals(self, numbers: np.ndarray) -> np.ndarray:
        """The signals (k, size, size) in -1..1, which carry the class."""
        if self.scenario == "rotation":
            return np.stack([self._turned(int(number)) for number in numbers])
        if self.scenario == "xor":
            kinds = np.stack([_both(self.size, *signs) for signs in XOR_SIGNS])
            return kinds[numbers % 4]
        return np.stack([_both(self.size, 1, 0), _both(self.size, 0, 1)])[numbers % 2]

    def _turned(self, number: int) -> np.ndarray:
        """A tetromino turned by a random multiple of 90 degrees, at a random place; half as large in large images."""
        rng = self._rng(number, 1)
        scale = max(1, self.size // 16)
        shape = np.kron(np.rot90((T_SHAPE, L_SHAPE)[number % 2], rng.integers(4)), np.ones((scale, scale)))
        top, left = (int(rng.integers(self.size - length + 1)) for length in shape.shape)
        return _placed(self.size, shape, top, left)

    def backgrounds(self, numbers: np.ndarray) -> np.ndarray:
        """The backgrounds (k, size, size), which do not depend on the class."""
        if self.background == "natural":
            return np.stack([grey_crop(self._rng(number, 0), self.size) for number in numbers])
        shape = (self.size, self.size)
        noise = [self._rng(number, 0).standard_normal(shape, dtype=np.float32) for number in numbers]
        white = np.stack(noise) * WHITE_NOISE
        if self.background == "white":
            return white
        smooth = _smoothing(self.size)
        return smooth @ white @ smooth.T

    def _rng(self, number: int, use: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, 2 * int(number) + use]))

    @property
    def parts(self) -> dict[str, range]:
        """Part -> the numbers of its samples."""
        held = round(HELD_OUT_SHARE[self.size] * self.count)
        counts = {"train": self.count - 2 * held, "validation": held, "test": held}
        return {part: range(FIRST_NUMBER[part], FIRST_NUMBER[part] + count) for part, count in counts.items()}

    def chunks(self) -> Iterator[np.ndarray]:
        """The numbers of all samples, in chunks."""
        for numbers in self.parts.values():
            for start in range(0, len(numbers), IMAGES_AT_A_TIME):
                yield np.array(numbers[start : start + IMAGES_AT_A_TIME])


@cache
def _norms_of_parts(family: TetrominoFamily) -> tuple[float, float]:
    """The Frobenius norms of all signals and of all backgrounds."""
    if family.size > min(SIZES):
        say(f"computing norms over {family.count:,} generated images, once")
    squares = [0.0, 0.0]
    for numbers in family.chunks():
        for place, part in enumerate((family.signals(numbers), family.backgrounds(numbers))):
            squares[place] += float(np.square(part, dtype=np.float64).sum())
    return squares[0] ** 0.5, squares[1] ** 0.5


@cache
def _largest_magnitude(family: TetrominoFamily) -> float:
    """The largest magnitude among all samples before scaling."""
    return max(float(np.abs(family.mixed(numbers)).max()) for numbers in family.chunks())


@cache
def _both(size: int, sign_of_t: int, sign_of_l: int) -> np.ndarray:
    """An image (size, size) with both tetrominoes at their places, each multiplied by its sign, 1, -1 or 0."""
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
    """The matrix (size, size) that smooths a column by a Gaussian, mirrored at the borders as in scipy."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.eye(size), SMOOTHING[size], axis=0).astype(np.float32)
