"""What all figures share: size, colours that colour-blind readers can distinguish, and a data file beside each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from harness.results.disk import whole_file
from harness.results.plain_text import csv_cells, drawable_lines
from harness.results.store import plain

WIDTH, DPI = 8.0, 150  # inches and dots per inch: 1,200 pixels across
INK, GREY, RULE = "#1d1d1f", "#6e6e73", "#c7c7cc"
# Okabe and Ito 2008; yellow is left out, which is hard to see on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
POSITIVE, NEGATIVE = "#B2182B", "#2166AC"  # the ends of the maps' colours (harness.results.heat)
SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"


def figure(height: float, title: str, note: str = "") -> Figure:
    """An empty figure of 1,200 pixels across with a title on top and a note of one to three lines below."""
    drawing = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    drawing.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold", color=INK)
    if note:
        drawing.supxlabel(note, x=0.012, ha="left", fontsize=7.5, color=GREY)
    return drawing


def panels(drawing: Figure, rows: int, columns: int, count: int, **options: Any) -> list[Axes]:
    """The first ``count`` axes of a grid of panels; the others stay empty."""
    axes = list(drawing.subplots(rows, columns, squeeze=False, **options).flat)
    for blank in axes[count:]:
        blank.set_axis_off()
    return axes[:count]


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Plain axes with their labels."""
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7, color=RULE)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(RULE)
    return axes


def looks(count: int) -> list[tuple[str, str]]:
    """``count`` pairs of colour and marker, the first 7 x 8 of which are different."""
    return [
        (COLOURS[i % len(COLOURS)], MARKERS[(i % len(COLOURS) + i // len(COLOURS)) % len(MARKERS)])
        for i in range(count)
    ]


def save(drawing: Figure, path: Path, shown: pd.DataFrame | dict[str, Any]) -> list[Path]:
    """Write a figure as PNG and what it shows beside it: a frame as CSV, anything else as JSON; both paths."""
    _take_texts_as_they_are(drawing)
    with whole_file(path) as temporary:
        drawing.savefig(temporary, format="png")
    beside = path.with_suffix(".csv" if isinstance(shown, pd.DataFrame) else ".json")
    with whole_file(beside) as temporary:
        if isinstance(shown, pd.DataFrame):
            csv_cells(shown).to_csv(temporary, index=False)
        else:
            temporary.write_text(json.dumps(plain(shown), allow_nan=False) + "\n", encoding="utf-8")
    return [path, beside]


def _take_texts_as_they_are(drawing: Figure) -> None:
    """No text of a figure is a formula, whatever dollar signs a name has, or has letters that no font can lay out."""
    numbers = {text for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis) for text in _numbers_of(axis)}
    for text in drawing.findobj(Text):
        if text not in numbers:
            text.set_parse_math(False)
            text.set_text(drawable_lines(text.get_text()))


def _numbers_of(axis: Axis) -> list[Text]:
    """The labels of an axis that matplotlib writes, powers of ten as formulas; names on it are made drawable."""
    if not isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
        return [*axis.get_majorticklabels(), *axis.get_minorticklabels(), axis.get_offset_text()]
    names = [label.get_text() for label in axis.get_majorticklabels()]
    if names != list(map(drawable_lines, names)):
        axis.set_ticks(axis.get_majorticklocs(), list(map(drawable_lines, names)))
    return []


def to_photo(pixels: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """An input (C, H, W) as (H, W) or (H, W, 3) in 0..1: by its value range, or by its own where that is not known."""
    low, high = (pixels.min(), pixels.max()) if low is None else (np.asarray(low), np.asarray(high))
    scaled = np.clip((pixels - low) / np.maximum(high - low, 1e-12), 0, 1)
    return scaled.transpose(1, 2, 0) if len(pixels) == 3 else scaled.mean(0)


def show_input(axes: Axes, sample: np.ndarray, low: Any, high: Any) -> None:
    """One input without axes: an image (C, H, W), a series (T, C) or (C, T), or columns (D,) as bars."""
    if sample.ndim == 3:
        axes.imshow(to_photo(sample, low, high), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
    elif sample.ndim == 2:
        lines(axes, sample if sample.shape[0] >= sample.shape[1] else sample.T)
    else:
        bars(axes, sample)


def lines(axes: Axes, series: np.ndarray) -> None:
    """Channels (T, C) over time."""
    for channel, colour in zip(series.T, np.resize(COLOURS, series.shape[1]), strict=True):
        axes.plot(channel, color=colour, linewidth=0.8)
    tidy(axes)


def bars(axes: Axes, values: np.ndarray) -> None:
    """Values (D,) as upright bars."""
    axes.bar(np.arange(len(values)), values, width=1.0, color=np.where(values < 0, NEGATIVE, POSITIVE))
    axes.axhline(0, color=RULE, linewidth=0.6)
    tidy(axes)
