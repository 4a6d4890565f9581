"""What is known of XAI-TRIS without training: the best linear model, its pattern, and what the class leaves alone.

The images are those of the scenario ``linear``: a tetromino at one of two fixed places in a background without a class
(Clark et al. 2023, 2306.12816). Suppressors are explained by Haufe et al. 2014, doi 10.1016/j.neuroimage.2013.10.067.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from harness.datasets.tetrominoes import BACKGROUNDS, SMOOTHING, WHITE_NOISE, TetrominoOptions
from harness.datasets.xai_tris import family_of

SIDE = 8  # of the images, in pixels
WHITE, CORRELATED = BACKGROUNDS[:2]


def class_difference() -> np.ndarray:
    """The mean image of class 1 minus that of class 0 (8, 8), but for a factor: 1 on the L, -1 on the T, else 0."""
    of_t, of_l = family_of(TetrominoOptions("linear", WHITE), SIDE).signals(np.arange(2))
    return (of_l - of_t).astype(np.float64)


class BackgroundCovariance:
    """The covariance of the pixels of a background, plus that of white noise which the camera would add.

    backdrop  ``white`` or ``correlated``
    floor     standard deviation of the added noise, as a share of the background's: rounding to 16 bits adds about
              1e-4, and rounding to 32 bits about 1e-8
    """

    def __init__(self, backdrop: str, floor: float = 0.0) -> None:
        smooth = np.eye(SIDE) if backdrop == WHITE else gaussian_filter1d(np.eye(SIDE), SMOOTHING[SIDE], axis=0)
        # The covariance is a Kronecker product: of the rows with the columns. So are its eigenvectors.
        values, self._vectors = np.linalg.eigh(smooth)
        variances = WHITE_NOISE**2 * np.outer(values, values) ** 2
        self._variances = variances + floor**2 * variances.mean()

    def times(self, image: np.ndarray) -> np.ndarray:
        """The covariance times an image (8, 8)."""
        return self._in_eigenvectors(image, self._variances)

    def solve(self, image: np.ndarray) -> np.ndarray:
        """The inverse of the covariance times an image (8, 8)."""
        return self._in_eigenvectors(image, 1 / self._variances)

    def _in_eigenvectors(self, image: np.ndarray, factors: np.ndarray) -> np.ndarray:
        vectors = self._vectors
        return vectors @ (vectors.T @ image @ vectors * factors) @ vectors.T


def optimal_weights(backdrop: str, floor: float = 0.0) -> np.ndarray:
    """The weights (8, 8) of the Bayes-optimal linear model, but for a factor: inverse covariance times difference."""
    return BackgroundCovariance(backdrop, floor).solve(class_difference())


def share_off(image: np.ndarray, mask: np.ndarray) -> float:
    """The share of an image's magnitudes that lies off a mask of the same shape."""
    magnitudes = np.abs(image)
    return float(magnitudes[~mask].sum() / magnitudes.sum())


def largest_change_off_mask(scenario: str, seeds: Sequence[int], images: int) -> float:
    """The largest difference of an image from its own background off its mask, over all backgrounds.

    Backgrounds are drawn without regard to the class, and all images of a data set are scaled by the same numbers. So
    a difference of 0 says that the class leaves no trace off the mask.
    """
    largest = 0.0
    for backdrop in BACKGROUNDS:
        for seed in seeds:
            family = family_of(TetrominoOptions(scenario, backdrop), SIDE, count=images, seed=seed)
            numbers = np.concatenate([np.array(part) for part in family.parts.values()])
            mixed, behind = family.mixed(numbers).astype(np.float64), family.backgrounds(numbers).astype(np.float64)
            off = ~family.masks(numbers).numpy()
            factor = (mixed[off] @ behind[off]) / (behind[off] @ behind[off])  # the same for all images
            largest = max(largest, float(np.abs(mixed[off] / factor - behind[off]).max()))
    return largest
