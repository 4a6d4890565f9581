"""Backgrounds: random square crops of photographs that come with scikit-image and scikit-learn."""

from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from harness.photographs import open_upright

# All lie in the two libraries' wheels. Licences as the libraries state them: in the docstrings of skimage.data, CC0 for
# brick, camera, chelsea, coffee, grass and gravel, public domain for astronaut and rocket, no known copyright
# restrictions for coins, and nothing for moon and motorcycle_left; in scikit-learn's images/README.txt, CC BY 2.0 for
# china (danielbuechele) and flower (vultilion). scikit-image's LICENSE.txt puts all its files under BSD-3-Clause.
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
PHOTOGRAPH_LICENCES = (
    "photographs: CC0, public domain, no known restrictions or CC BY 2.0; not stated for moon and motorcycle_left"
)
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in the luminance
WIDEST = 4  # a crop is scaled down by at most this factor


def crop(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random crop (size, size, 3) of a random photograph, RGB in 0..1.

    The side of the crop in the photograph is drawn between ``size`` and four times ``size``, but at most the
    photograph's shorter side. The crop is then scaled down by averaging areas. Half of all crops are mirrored.
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
    return tuple(open_upright(place.read_bytes()).convert("RGB") for place in places)
