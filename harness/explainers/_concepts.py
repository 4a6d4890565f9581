"""Images of concepts: textures and colours drawn from a seed, or images from the user's folders.

Values are in 0..1, (n, C, H, W), on the CPU. Every set of images belongs to one concept and one run. Runs share no
image, so that their results are independent.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.errors import UserError, one_line
from harness.photographs import open_upright
from harness.places import user_path
from harness.randomness import element, normal, permutations, stream, uniform

RANDOM = "random"
CONCEPT_COLOURS = ("red", "green", "blue")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LEAST_IMAGES = 2  # images of a folder in each run

# A set's images (n, C, H, W), by the name of a concept or RANDOM, and a number from 0.
ImageSets = Callable[[str, int], Tensor]


def texture_names(channels: int) -> tuple[str, ...]:
    """The concepts that can be drawn: textures, and colours where there are three channels."""
    return (*TEXTURES, *(CONCEPT_COLOURS if channels == 3 else ()))


def drawn_sets(seed: int, images: int, shape: tuple[int, int, int]) -> ImageSets:
    """Sets of ``images`` drawn images of shape (C, H, W), from the seed, the concept and the number of the set."""

    def draw(name: str, number: int) -> Tensor:
        key = stream(torch.zeros(1, dtype=torch.int64), seed, f"concept {name} {number}")
        return concept_images(name, element(key, torch.arange(images)), shape)

    return draw


def concept_images(name: str, keys: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """One image of a drawn concept, or of RANDOM, for each key (n,): (n, C, H, W) in 0..1.

    A texture has two random levels per channel, half the range apart, and a random scale, angle and phase. A colour is
    a tinted random grey image. RANDOM is noise whose amplitudes fall with 1 / frequency, as those of photographs do.
    """
    if name in TEXTURES:
        draws = uniform(keys, 6 + shape[0], dtype=torch.float64)
        pattern = TEXTURES[name](*_coordinates(draws, shape), draws[:, 4:6])[:, None].double()
        level = draws[:, 6:, None, None]
        return (level + ((level + 0.5) % 1 - level) * pattern).float()
    if name in CONCEPT_COLOURS:
        own = torch.zeros(1, 3, 1, 1).index_fill_(1, torch.tensor(CONCEPT_COLOURS.index(name)), 0.6)
        return own + 0.4 * _grey_noise(keys, (1, *shape[1:]))
    return _grey_noise(keys, shape)


def _stripe_pattern(u: Tensor, v: Tensor, offset: Tensor) -> Tensor:
    return _wave(u) > 0


def _checker_pattern(u: Tensor, v: Tensor, offset: Tensor) -> Tensor:
    return _wave(u) * _wave(v) > 0


def _dot_pattern(u: Tensor, v: Tensor, offset: Tensor) -> Tensor:
    return (u % 1 - 0.5).square() + (v % 1 - 0.5).square() < 0.09


def _zigzag_pattern(u: Tensor, v: Tensor, offset: Tensor) -> Tensor:
    return _wave(u + 2 * (v / 2 % 1 - 0.5).abs()) > 0


def _ring_pattern(u: Tensor, v: Tensor, offset: Tensor) -> Tensor:
    centre = offset[:, :, None, None] * torch.stack([_extent(u), _extent(v)], 1)[..., None, None]
    low = torch.stack([u.flatten(1).amin(1), v.flatten(1).amin(1)], 1)[:, :, None, None]
    return _wave((torch.stack([u, v], 1) - low - centre).norm(dim=1)) > 0


TEXTURES = {
    "stripes": _stripe_pattern,
    "checkers": _checker_pattern,
    "dots": _dot_pattern,
    "zigzag": _zigzag_pattern,
    "rings": _ring_pattern,
}


def _wave(cycles: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * cycles)


def _extent(values: Tensor) -> Tensor:
    return values.flatten(1).amax(1) - values.flatten(1).amin(1)


def _coordinates(draws: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Rotated, scaled and shifted coordinates of the pixels, in cycles: two tensors (n, H, W).

    The shorter side has 2 to 12 cycles, each of at least 4 pixels.
    """
    side = min(shape[1:])
    cycles = 2 + draws[:, 0] * max(0.0, min(12, side / 4) - 2)
    angle = 2 * math.pi * draws[:, 1]
    y, x = ((torch.arange(length, dtype=torch.float64) + 0.5) / side for length in shape[1:])
    across, down = ((cycles * part)[:, None, None] for part in (angle.cos(), angle.sin()))
    y, x = y[:, None], x[None, :]
    return x * across + y * down + draws[:, 2, None, None], y * across - x * down + draws[:, 3, None, None]


def _grey_noise(keys: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Noise of amplitudes 1 / frequency in 0..1, mostly the same in all channels, with random mean and contrast."""
    channels, height, width = shape
    white = normal(keys, channels + 1, height, width).double()
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)).double()
    amplitude = torch.where(frequency > 0, 1 / frequency.clamp_min(1e-12), 0)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, (height, width))
    noise = noise / noise.std((2, 3), keepdim=True, correction=0)
    mixed = 0.7**0.5 * noise[:, :1] + 0.3**0.5 * noise[:, 1:]
    mean, contrast = uniform(stream(keys, 0, "mean and contrast"), 2, 1, 1, 1, dtype=torch.float64).unbind(1)
    return (0.3 + 0.4 * mean + (0.1 + 0.15 * contrast) * mixed).clamp(0, 1).float()


def folder_names(folder: str) -> tuple[str, ...]:
    """The concepts of a folder: the names of its sub-folders other than ``random``, which must exist as well."""
    root = user_path(folder)
    if not root.is_dir():
        raise UserError(f"concepts is {folder!r}, expected textures or a folder with one folder of images per concept")
    names = sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    if RANDOM not in names or len(names) < 2:
        raise UserError(f"{folder!r} holds the folders {names}, expected one for each concept, and {RANDOM!r}")
    return tuple(name for name in names if name != RANDOM)


def folder_sets(folder: str, seed: int, counts: dict[str, int], shape: tuple[int, int, int]) -> ImageSets:
    """Disjoint sets of the images of a folder's sub-folders, ``counts[name]`` of each, shuffled by the seed.

    Images are read as grey or RGB, by the number of channels, and stretched to (H, W), bilinearly and antialiased.
    """
    paths = {name: _paths_of_sets(user_path(folder) / name, seed, count) for name, count in counts.items()}
    return lambda name, number: torch.stack([_read_image(path, shape) for path in paths[name][number]])


def _paths_of_sets(folder: Path, seed: int, count: int) -> list[list[Path]]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(paths) < LEAST_IMAGES * count:
        raise UserError(
            f"{folder.name!r} holds {len(paths)} images, expected at least {LEAST_IMAGES * count} for {count} sets"
        )
    key = stream(torch.zeros(1, dtype=torch.int64), seed, f"concept folder {folder.name}")
    order = permutations(key, 1, len(paths))[0, 0].tolist()
    return [[paths[at] for at in order[number::count]] for number in range(count)]


def _read_image(path: Path, shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = shape
    if channels not in (1, 3):
        raise UserError(f"concept images are grey or RGB, the model takes {channels} channels; use concepts=textures")
    try:
        image = open_upright(path).convert("L" if channels == 1 else "RGB")
    except OSError as error:
        raise UserError(f"concept image {path.name!r} cannot be read: {one_line(error)}") from error
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).view(height, width, channels).permute(2, 0, 1)
