"""Series as drawings in black on white, a band for each channel, and their maps stretched to the drawings' size."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from harness.results.heat import resized

WIDTH, HEIGHT = 224, 168
FINER, STROKE, MARGIN = (
    3,
    4,
    0.12,
)  # factor by which it is drawn larger and then averaged; line width at that size; share of a band left free


def drawings(series: Any) -> np.ndarray:
    """Series (N, C, T) as images (N, 1, 168, 224) in 0..1: channels below one another, each from its own lowest to its
    own highest value; a step is as wide as its part of the map."""
    return np.stack([_drawing(np.asarray(each, dtype=np.float64)) for each in series])[:, None]


def stretched(maps: Any) -> np.ndarray:
    """Maps (N, T), one number per step, as (N, 168, 224); averaged where steps are narrower than a pixel."""
    maps = np.asarray(maps, dtype=np.float64)
    return np.repeat(resized(maps, WIDTH, len(maps))[:, None], HEIGHT, axis=1)


def _drawing(channels: np.ndarray) -> np.ndarray:
    wide, high = WIDTH * FINER, HEIGHT * FINER
    picture = Image.new("L", (wide, high), 255)
    pen, band = ImageDraw.Draw(picture), high / len(channels)
    across = (np.arange(channels.shape[1]) + 0.5) * wide / channels.shape[1]
    for number, values in enumerate(channels):
        share = (values - values.min()) / ((values.max() - values.min()) or 1)
        down = band * (number + 1 - MARGIN - (1 - 2 * MARGIN) * share)
        pen.line(list(zip(across.tolist(), down.tolist(), strict=True)), 0, STROKE, joint="curve")
    return resized(np.asarray(picture, dtype=np.float64) / 255, WIDTH, HEIGHT)
