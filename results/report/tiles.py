"""Pictures of inputs and of maps for the gallery: images, coloured tokens, series and bars."""

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from harness.results.fonts import shortened
from harness.results.heat import heat_tile, resized
from harness.results.report.drawing import number
from harness.results.report.markup import Raw, joined, tag

TILE_SIDE = 112  # pixels of a tile's longer side, at most
BARS = 8  # columns that a tile of a table shows
STRIPES = 80  # steps that a tile of a series shows


def photo(pixels: np.ndarray, words: str) -> Raw:
    """An input (H, W, 3) of 0..255 as an image."""
    return _inlined_image(pixels.astype(np.uint8), words)


def heat(pixels: np.ndarray | None, values: np.ndarray, signed: bool, words: str) -> Raw:
    """A map (h, w) over its input, or over white where there is none."""
    ground = np.ones((*values.shape, 3)) if pixels is None else pixels.astype(np.float64) / 255
    height, width = ground.shape[:2]
    drawn = heat_tile(ground, resized(values.astype(np.float64), width, height), signed)
    return _inlined_image(np.rint(drawn.clip(0, 1) * 255).astype(np.uint8), words)


def _inlined_image(pixels: np.ndarray, words: str) -> Raw:
    image = Image.fromarray(pixels)
    if max(image.size) > TILE_SIDE:
        image.thumbnail((TILE_SIDE, TILE_SIDE))
    file, small = BytesIO(), max(image.size) <= 32
    image.save(file, "PNG" if small else "WEBP", **({"optimize": True} if small else {"quality": 80, "method": 4}))
    kind = "png" if small else "webp"
    source = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return tag("img", src=Raw(source), alt=words, width=image.width, height=image.height)


def passage(tokens: Sequence[str], values: np.ndarray, signed: bool) -> Raw:
    """Tokens with the colour of their attribution behind them."""
    spans = [_coloured_token(token, float(value), signed) for token, value in zip(tokens, values, strict=False)]
    return tag("span", joined(spans, " "), class_="tokens")


def _coloured_token(token: str, value: float, signed: bool) -> Raw:
    if not np.isfinite(value):
        return tag("span", token)
    opacity, colour = round(min(1.0, abs(value)) * 0.6, 2), colour_of(value, signed)
    return tag("span", token, style=f"background:rgba(var({colour}),{opacity})", data_tip=f"{token}: {number(value)}")


def series(values: np.ndarray, heat_values: np.ndarray | None, signed: bool, words: str) -> Raw:
    """Channels (C, T) over time, before a background coloured by the attribution of each step (T,)."""
    wide, high = 96, 60
    drawn = [] if heat_values is None else _attribution_stripes(heat_values, signed, wide, high)
    for channel in values.astype(np.float64):
        known = channel[np.isfinite(channel)]
        low, high_value = (known.min(), known.max()) if len(known) else (0.0, 1.0)
        scaled = (channel - low) / ((high_value - low) or 1.0)
        step = wide / max(1, len(channel) - 1)
        points = [
            f"{place * step:.1f},{(1 - share) * (high - 8) + 4:.1f}"
            for place, share in enumerate(scaled)
            if np.isfinite(share)
        ]
        drawn.append(tag("polyline", points=" ".join(points), fill="none", stroke="var(--ink)", stroke_width=0.8))
    return tag("svg", *drawn, viewBox=f"0 0 {wide} {high}", class_="units", role="img", aria_label=words)


def _attribution_stripes(values: np.ndarray, signed: bool, wide: float, high: float) -> list[Raw]:
    """The attribution over time, averaged to a number of stripes."""
    values = np.nan_to_num(values.astype(np.float64))
    if len(values) > STRIPES:
        values = resized(values[None], STRIPES, 1)[0]
    scale, part = np.abs(values).max() or 1.0, wide / len(values)
    return [
        tag(
            "rect",
            x=f"{place * part:.2f}",
            y=0,
            width=f"{part + 0.05:.2f}",
            height=high,
            fill=f"rgba(var({colour_of(value, signed)}),{abs(value) / scale * 0.6:.2f})",
        )
        for place, value in enumerate(values)
        if abs(value) / scale > 0.02
    ]


def bar_tile(names: Sequence[str], values: np.ndarray, signed: bool, words: str) -> Raw:
    """The columns with the largest attributions as bars; those that speak against the class go to the left."""
    values = np.nan_to_num(values.astype(np.float64))
    order = np.argsort(-np.abs(values), kind="stable")[:BARS]
    wide, left = 168, 92
    room = (wide - left) / 2 if signed else wide - left
    middle, drawn = wide - room, []
    for row, place in enumerate(order):
        long = abs(values[place]) * room / (np.abs(values).max() or 1.0)
        x = middle - long if signed and values[place] < 0 else middle
        drawn.append(tag("text", shortened(str(names[place]), 18), x=0, y=row * 13 + 10, font_size=10))
        drawn.append(
            tag(
                "rect",
                x=round(x, 1),
                y=row * 13 + 2,
                width=round(long, 1),
                height=9,
                fill=f"rgba(var({colour_of(values[place], signed)}),.8)",
            )
        )
    return tag("svg", *drawn, viewBox=f"0 0 {wide} {len(order) * 13 + 2}", class_="units", role="img", aria_label=words)


def colour_of(value: float, signed: bool) -> str:
    """The page's name for the colour of an attribution: for, against, or strength without sign."""
    return "--strength" if not signed else "--against" if value < 0 else "--for"
