"""Drawings of what a model does inside: maps of a layer's channels, and inputs that maximise an output."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.results.figures import DIVERGING, SEQUENTIAL, bars, figure, lines, save, show_input, tidy
from harness.results.fonts import shortened

MOST_CHANNELS = 10
TILE = 0.68  # inches


def draw_activations(
    path: Path,
    layer: str,
    maps: np.ndarray,
    inputs: np.ndarray,
    captions: Sequence[str],
    *,
    value_range: tuple[Any, Any],
    title: str,
) -> list[Path]:
    """A layer's output for a few samples (rows): the ten channels that vary most over them, the same in each row.

    ``maps`` (n, C, H, W) or (n, C, T), or (n, F) of a layer without places, whose units are all shown as bars.
    ``inputs`` (n, ...) come first in the row. Writes a PNG and a JSON file; both paths.
    """
    channels = _most_varying_channels(maps) if maps.ndim > 2 else None
    shown = maps if channels is None else maps[:, channels]
    low, high = float(shown.min()), float(shown.max())
    drawing = figure(
        _figure_height(len(maps)),
        f"{title}: activations of layer {shortened(layer, 50)}",
        _activations_note(maps, channels, low, high),
    )
    widths = [1, *([1] * len(channels) if channels is not None else [MOST_CHANNELS])]
    axes = drawing.subplots(len(maps), len(widths), squeeze=False, width_ratios=widths)
    for row, (sample, caption) in enumerate(zip(inputs, captions, strict=True)):
        show_input(axes[row, 0], sample, *value_range)
        axes[row, 0].set_title("\n".join(shortened(part, 15) for part in caption.split(" → ")), fontsize=6, loc="left")
        if channels is None:
            bars(axes[row, 1], shown[row])
            axes[row, 1].set_ylim(min(low, 0), max(high, 1e-12) * 1.05)
            continue
        for axis, channel, values in zip(axes[row, 1:], channels, shown[row], strict=True):
            _draw_channel(axis, values, low, high)
            axis.set_title(f"{channel}" if row == 0 else "", fontsize=7)
    data = {
        "layer": layer,
        "samples": list(captions),
        "shape": list(maps.shape[1:]),
        "low": low,
        "high": high,
        "channels": None if channels is None else channels,
        "activations": np.round(_thinned(shown), 5),
    }
    return save(drawing, path, data)


def _figure_height(rows: int) -> float:
    return 1.0 + rows * (TILE + 0.25)


def _most_varying_channels(maps: np.ndarray) -> list[int]:
    """The channels whose values over samples and places have the largest standard deviation, the largest first."""
    spread = maps.transpose(1, 0, *range(2, maps.ndim)).reshape(maps.shape[1], -1).std(1)
    return [int(channel) for channel in np.argsort(-spread, kind="stable")[:MOST_CHANNELS]]


def _activations_note(maps: np.ndarray, channels: list[int] | None, low: float, high: float) -> str:
    if channels is None:
        return f"All {maps.shape[1]} units of the layer, in their order; blue: below 0, red: above."
    what = f"{len(channels)} of {maps.shape[1]} channels, by number: those that vary most over these samples."
    if maps.ndim == 3:
        return f"{what} Each over its {maps.shape[2]} places, on one scale from {low:.3g} to {high:.3g}."
    scale = "white is 0, blue below, red above" if low < 0 else "from dark to light"
    return f"{what} One scale for all, {low:.3g} to {high:.3g}, {scale}."


def _draw_channel(axis: Any, values: np.ndarray, low: float, high: float) -> None:
    if values.ndim == 1:
        lines(axis, values[:, None])
        axis.set_ylim(low, high if high > low else low + 1)
        axis.set_xticks([])
        axis.set_yticks([])
        return
    largest = max(-low, high)
    limits = (
        {"cmap": DIVERGING, "vmin": -largest, "vmax": largest}
        if low < 0
        else {"cmap": SEQUENTIAL, "vmin": 0, "vmax": high}
    )
    axis.imshow(values, interpolation="nearest", **limits)
    axis.set_axis_off()


def _thinned(shown: np.ndarray) -> np.ndarray:
    """Maps for the data file, thinned to at most 28 places a side."""
    steps = tuple(slice(None, None, -(-side // 28)) for side in shown.shape[2:])
    return shown[(slice(None), slice(None), *steps)]


def draw_maximised(
    path: Path,
    inputs: np.ndarray,
    names: Sequence[str],
    reached: Sequence[float],
    *,
    value_range: tuple[Any, Any],
    columns: Sequence[str] | None,
    title: str,
    note: str,
) -> list[Path]:
    """Inputs (K, ...) that maximise an output or a channel, each with its name and the activation reached."""
    across = min(5 if inputs.ndim == 4 else 2, len(inputs))
    rows = -(-len(inputs) // across)
    tall = {4: 1.75, 3: 1.5}.get(inputs.ndim, 0.13 * inputs.shape[-1] + 0.6)
    drawing = figure(0.9 + rows * tall, title, note)
    axes = list(drawing.subplots(rows, across, squeeze=False).flat)
    for axis in axes[len(inputs) :]:
        axis.set_axis_off()
    for axis, values, name, height in zip(axes, inputs, names, reached, strict=False):
        if values.ndim == 1:
            _by_column(axis, values, columns)
        else:
            show_input(axis, values, *value_range)
        axis.set_title(f"{shortened(name, 22)}  {height:.3g}", fontsize=8)
    data = {
        "names": list(names),
        "reached": [float(height) for height in reached],
        "shape": list(inputs.shape[1:]),
        "note": note,
        "inputs": np.round(inputs, 5) if inputs[0].size <= 4096 else None,
    }
    return save(drawing, path, data)


def _by_column(axis: Any, values: np.ndarray, columns: Sequence[str] | None) -> None:
    names = columns or [str(number) for number in range(len(values))]
    axis.barh(np.arange(len(values)), values, color=np.where(values < 0, "#2166AC", "#B2182B"))
    tidy(axis)
    axis.set_yticks(np.arange(len(values)), [shortened(name, 24) for name in names], fontsize=6)
    axis.invert_yaxis()
    axis.axvline(0, color="#c7c7cc", linewidth=0.6)
