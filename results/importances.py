"""Bars and boxes for columns of a table: all repeats of an importance, and the attributions of single samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.results.figures import COLOURS, GREY, NEGATIVE, POSITIVE, RULE, figure, panels, save, tidy
from harness.results.fonts import shortened

MOST_COLUMNS = 30


def draw_importances(path: Path, repeats: pd.DataFrame, *, title: str) -> list[Path]:
    """One box per column over all repeats of its importance, the largest median first.

    ``repeats`` has the columns unit, repeat and value. The thirty largest are drawn, the file of data has all.
    """
    by_unit = {str(unit): rows["value"].to_numpy() for unit, rows in repeats.groupby("unit", sort=False)}
    order = sorted(by_unit, key=lambda unit: -np.median(by_unit[unit]))
    shown = order[:MOST_COLUMNS]
    count = len(next(iter(by_unit.values())))
    more = f" The {len(shown)} largest of {len(order)} columns." if len(shown) < len(order) else ""
    drawing = figure(
        1.3 + 0.2 * len(shown),
        title,
        f"Box: quartiles and median of {count} repeats; whiskers: 1.5 times the box at most; "
        f"dots: repeats beyond.{more}",
    )
    axis = drawing.subplots()
    axis.boxplot(
        [by_unit[unit] for unit in shown],
        orientation="horizontal",
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": COLOURS[5], "edgecolor": COLOURS[0]},
        medianprops={"color": "#1d1d1f", "linewidth": 1.4},
        whiskerprops={"color": COLOURS[0]},
        capprops={"color": COLOURS[0]},
        flierprops={"marker": ".", "markersize": 4, "markeredgecolor": GREY},
    )
    axis.axvline(0, color=RULE, linewidth=0.8)
    tidy(axis, x="importance (right: the column matters more)")
    axis.set_yticks(np.arange(len(shown)) + 1, [shortened(unit, 28) for unit in shown], fontsize=7)
    axis.invert_yaxis()
    return save(drawing, path, repeats)


def draw_columns(
    path: Path, attributions: Mapping[str, np.ndarray], names: Sequence[str], *, title: str, note: str
) -> list[Path]:
    """Attributions (D,) of one sample by column name, one panel per explainer, all in the first one's order."""
    labels = list(attributions)
    order = np.argsort(-np.abs(attributions[labels[0]]), kind="stable")[:MOST_COLUMNS]
    more = f" The {len(order)} of {len(names)} columns that {labels[0]} gives most." if len(order) < len(names) else ""
    across = min(3, len(labels))
    rows = -(-len(labels) // across)
    drawing = figure(1.0 + rows * (0.5 + 0.15 * len(order)), title, note + more)
    for axis, label in zip(panels(drawing, rows, across, len(labels), sharey=True), labels, strict=True):
        values = attributions[label][order]
        axis.barh(np.arange(len(order)), values, color=np.where(values < 0, NEGATIVE, POSITIVE))
        axis.axvline(0, color=RULE, linewidth=0.8)
        tidy(axis, shortened(label, 34))
        axis.set_yticks(np.arange(len(order)), [shortened(names[i], 26) for i in order], fontsize=6.5)
        axis.set_ylim(len(order) - 0.5, -0.5)
    frame = pd.DataFrame({"column": list(names), **attributions})
    return save(drawing, path, frame)
