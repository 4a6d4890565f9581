"""Random square crops of photographs that come with scikit-image and scikit-learn, as backgrounds."""

from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

# All lie in the two libraries' wheels. scikit-image documents its own as public domain or CC0, china and flower are
# CC BY 2.0 (danielbuechele and vultilion).
PHOTOGRAPHS = {
    "skimage.data": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "moon.png",
        "motorcycle_left.png",
        "rocket.jpg",
    ),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}
LUMA = (0.299, 0.587, 0.114)
WIDEST = 4  # the side of a crop is at most this many times the side of what it becomes


def crop(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random crop (size, size, 3) of a random photograph, RGB in 0..1.

    Its side before it is scaled down, by area, is drawn between ``size`` and four times that or the photograph's
    shorter side; half of all crops are mirrored.
    """
    photographs = _photographs()
    photograph = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(size, min(WIDEST * size, *photograph.size) + 1))
    left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
    part = photograph.resize((size, size), Image.Resampling.BOX, box=(left, top, left + side, top + side))
    pixels = np.asarray(part, dtype=np.float32) / 255
    return pixels[:, ::-1] if rng.integers(2) else pixels


def grey_crop(rng: np.random.Generator, size: int) -> np.ndarray:
    """The luminance (size, size) of a random crop, less its mean."""
    grey = crop(rng, size) @ np.array(LUMA, dtype=np.float32)
    return grey - grey.mean()


@cache
def _photographs() -> tuple[Image.Image, ...]:
    places = [files(package) / name for package, names in PHOTOGRAPHS.items() for name in names]
    return tuple(Image.open(place.open("rb")).convert("RGB") for place in places)
