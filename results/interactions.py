"""A matrix of the interactions of pairs of units, with the effects of single units beside it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.results.figures import DIVERGING, GREY, INK, RULE, figure, save, tidy
from harness.results.fonts import shortened

MOST_UNITS, MOST_WRITTEN = 30, 12  # units in a matrix, and up to which its cells hold numbers
BLANK = 0.005  # of the largest entry, up to which a cell holds no number
NAME_LENGTH = 24  # of a unit's name
NOTE = (
    "Cells: half of what two units change together beyond what each changes alone; red: up, blue: down. Bars: what a "
    "unit\nchanges by itself (dark), and with its cells (light), which is its attribution."
)


def draw_interactions(
    path: Path, matrix: np.ndarray, names: Sequence[str], strongest: Sequence[str], *, title: str
) -> list[Path]:
    """The matrix (K, K) of one sample without its diagonal, and bars of the diagonal and of the sums of the rows.

    The thirty units with the largest entries are drawn, in their order; the CSV has all, one row for each entry.
    ``strongest`` are lines that name the strongest pairs.
    """
    count = len(names)
    matrix = matrix[:count, :count]
    shown = _shown_units(matrix)
    note = NOTE if len(shown) == count else f"{NOTE} The {len(shown)} of {count} units with the largest entries."
    drawing = figure(1.9 + 0.24 * len(shown) + 0.13 * len(strongest), title, note)
    cells, bars = drawing.subplots(1, 2, width_ratios=[3, 1], sharey=True)
    labels = [shortened(names[i], NAME_LENGTH) for i in shown]
    _draw_cells(cells, matrix[np.ix_(shown, shown)], labels)
    _draw_bars(bars, np.diag(matrix)[shown], matrix.sum(1)[shown])
    cells.set_title("Strongest pairs\n" + "\n".join(strongest), fontsize=7.5, loc="left", color=INK)
    frame = pd.DataFrame({"unit": np.repeat(names, count), "other": np.tile(names, count), "value": matrix.reshape(-1)})
    return save(drawing, path, frame)


def _shown_units(matrix: np.ndarray) -> np.ndarray:
    """The units with the largest entries anywhere in their rows, in their order."""
    return np.sort(np.argsort(-np.abs(matrix).max(1, initial=0), kind="stable")[:MOST_UNITS])


def _draw_cells(axis: Axes, matrix: np.ndarray, labels: list[str]) -> None:
    count = len(labels)
    apart = np.where(np.eye(count, dtype=bool), np.nan, matrix)
    largest = np.nanmax(np.abs(apart), initial=0) or 1.0
    axis.set_facecolor(RULE)  # the diagonal
    axis.imshow(apart, cmap=DIVERGING, vmin=-largest, vmax=largest, interpolation="nearest", aspect="auto")
    for row, column in np.argwhere(np.abs(apart) > BLANK * largest) if count <= MOST_WRITTEN else ():
        value = apart[row, column]
        colour = "white" if abs(value) > 0.6 * largest else GREY
        axis.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=6, color=colour)
    tidy(axis)
    axis.set_xticks(np.arange(count), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=6.5)
    axis.set_yticks(np.arange(count), labels, fontsize=6.5)


def _draw_bars(axis: Axes, main: np.ndarray, total: np.ndarray) -> None:
    places = np.arange(len(main))
    axis.barh(places, total, height=0.7, color=RULE)
    axis.barh(places, main, height=0.3, color=INK)
    axis.axvline(0, color=GREY, linewidth=0.6)
    tidy(axis, x="main effect and attribution")
    axis.tick_params(labelleft=False)
