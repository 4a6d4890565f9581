"""Curves of a metric, sample by sample: whether a mean comes from many similar samples or from a few."""

import textwrap
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.results.curve_axes import CurveAxes
from harness.results.figures import COLOURS, GREY, figure, panels, save, tidy
from harness.results.fonts import shortened

MOST_LINES = 200
NORMAL = 1.959964  # 97.5 % quantile of the normal distribution


def draw_curves(
    path: Path, scores: pd.DataFrame, *, axes: CurveAxes, reference: np.ndarray | None, title: str
) -> list[Path]:
    """One panel per explainer: a thin line per sample, their mean with its 95 % band, a random order's mean dashed.

    ``scores`` has a row per sample and explainer: explainer, sample, curve (K,); ``reference`` (K,) or None. Points at
    which a sample's curve is undefined are left out there. Writes a PNG and a CSV file with a row per point and sample,
    in which ``place`` is where the point lies on the horizontal axis.
    """
    curves = {
        str(name): np.array(list(rows["curve"]), dtype=float)
        for name, rows in scores.groupby("explainer", sort=False, observed=True)
    }
    across = min(4, len(curves))
    rows = -(-len(curves) // across)
    drawn = max(len(values) for values in curves.values())
    few = f" The first {MOST_LINES} of {drawn} samples are drawn." if drawn > MOST_LINES else ""
    note = "Thin: one sample each. Thick: the mean over samples, with its 95 % interval (normal) at each point."
    note += " Dashed: the mean in random order." if reference is not None else ""
    drawing = figure(1.0 + rows * 1.75, title, note + few)
    panel_axes = panels(drawing, rows, across, len(curves), sharex=True, sharey=True)
    for place, (axis, (name, values)) in enumerate(zip(panel_axes, curves.items(), strict=True)):
        _draw_curve_panel(axis, axes.places, values, reference)
        if not (axes.places % 1).any():
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        bottom, left = place >= len(curves) - across, place % across == 0
        across_name, height = (textwrap.fill(text, 24) for text in (axes.across, axes.height))
        tidy(axis, shortened(name, 26), across_name if bottom else "", height if left else "")
    return save(drawing, path, _curve_rows(scores, axes.places))


def _draw_curve_panel(axis: Axes, places: np.ndarray, values: np.ndarray, reference: np.ndarray | None) -> None:
    order = np.argsort(places, kind="stable")
    points, values = places[order], values[:, order]
    for line in values[:MOST_LINES]:
        axis.plot(points, line, color=GREY, linewidth=0.4, alpha=0.35)
    mean, half = band(values)
    axis.fill_between(points, mean - half, mean + half, color=COLOURS[0], alpha=0.3, linewidth=0)
    axis.plot(points, mean, color=COLOURS[0], linewidth=1.6)
    if reference is not None and len(reference) == len(points):
        axis.plot(points, reference[order], color=COLOURS[1], linewidth=1.2, linestyle="--")


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half the width of its 95 % interval (normal) at each point of curves (S, K); NaN where not known."""
    count = np.isfinite(values).sum(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of points at which no or one sample has a value
        half = NORMAL * np.nanstd(values, 0, ddof=1) / np.sqrt(count)
        return np.nanmean(values, 0), np.where(count > 1, half, np.nan)


def _curve_rows(scores: pd.DataFrame, places: np.ndarray) -> pd.DataFrame:
    frame = scores[["explainer", "sample", "curve"]].explode("curve", ignore_index=True)
    frame["point"] = frame.groupby(["explainer", "sample"], observed=True).cumcount()
    frame["place"] = places[frame["point"]]
    return frame.rename(columns={"curve": "value"})[["explainer", "sample", "point", "place", "value"]]
