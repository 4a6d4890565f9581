"""Attribution maps as colours over a pale photo; the numbers are only averaged to the tile's size and scaled."""

from functools import cache

import numpy as np

CLIPPED_AT = 99.5  # per cent of a tile's |attributions| lie below full colour
PALE = 0.72  # how far a photo is moved towards white: black becomes this grey
NEGATIVE = ((0.57, 0.77, 0.87), (0.26, 0.58, 0.76), (0.13, 0.40, 0.67), (0.02, 0.19, 0.38))  # ColorBrewer RdBu, blue
POSITIVE = ((0.96, 0.65, 0.51), (0.84, 0.38, 0.30), (0.70, 0.09, 0.17), (0.40, 0.00, 0.12))  # and red
UNSIGNED = ((0.99, 0.80, 0.55), (0.98, 0.53, 0.38), (0.83, 0.25, 0.44), (0.55, 0.16, 0.50), (0.25, 0.06, 0.35))


def heat_tile(photo: np.ndarray, heat: np.ndarray, signed: bool) -> np.ndarray:
    """A map (h, w) in colour over a photo (h, w, 3) in 0..1; (h, w, 3) in 0..1.

    Full colour is at the 99.5th percentile of |heat|, or at its maximum where that percentile is zero.
    """
    strength = np.abs(heat)
    scale = np.percentile(strength, CLIPPED_AT) or strength.max() or 1.0
    return coloured(pale(photo), np.clip(heat / scale, -1, 1), signed)


def coloured(ground: np.ndarray, scaled: np.ndarray, signed: bool) -> np.ndarray:
    """Scaled heat (...) in -1..1 over a ground (..., 3): no colour at 0, opaque at 1; unsigned heat by its size."""
    strength = np.abs(scaled)
    colour = _ramp(strength, POSITIVE if signed else UNSIGNED)
    if signed:
        colour = np.where(scaled[..., None] < 0, _ramp(strength, NEGATIVE), colour)
    opacity = np.minimum(1, 1.6 * strength)[..., None] ** 0.8
    return ground * (1 - opacity) + colour * opacity


def pale(photo: np.ndarray) -> np.ndarray:
    """A photo without its colours and moved towards white, so that heat is the darkest and the only colour on it."""
    grey = photo @ np.array([0.299, 0.587, 0.114])
    return np.repeat((grey + (1 - grey) * PALE)[..., None] * 0.97, 3, axis=-1)


def resized(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Values (H, W) at another size: averaged over areas to make it smaller, repeated to make it a multiple larger."""
    return _areas(values.shape[0], height) @ values @ _areas(values.shape[1], width).T


@cache
def _areas(old: int, new: int) -> np.ndarray:
    """How much of each of ``new`` equal parts of a side every one of its ``old`` pixels makes up, (new, old)."""
    edges, pixels = np.arange(new + 1)[:, None] * old / new, np.arange(old)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.clip(overlap, 0, None) * new / old


def _ramp(share: np.ndarray, stops: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(share, places, channel) for channel in zip(*stops, strict=False)], axis=-1)
