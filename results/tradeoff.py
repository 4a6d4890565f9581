"""The trade-off between accuracy and explainability: a run's models by accuracy and by the scores of their maps."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.errors import NotApplicable
from harness.results.board import ARROWS, DIRECTIONS
from harness.results.figures import figure, looks, panels, save, tidy
from harness.results.fonts import shortened
from harness.results.frames import protocols


def tradeoff(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row per ok cell with scores: accuracy of its model beside the cell's mean and interval.

    Columns: dataset, protocol, model, accuracy, samples, explainer, metric, unit, better, value, ci_low, ci_high, n.
    ``accuracy`` is the share of all samples whose prediction is the label; NaN where a label is missing, or
    the model has a single output, which is no class.
    """
    right = _accuracies(scores)
    ok = cells[(cells["status"] == "ok") & (cells["kind"] != "cost")].assign(protocol=protocols(cells))
    rows = ok.join(right, on="cell")
    return rows[
        [
            "dataset",
            "protocol",
            "model",
            "accuracy",
            "samples",
            "explainer",
            "metric",
            "unit",
            "better",
            "value",
            "ci_low",
            "ci_high",
            "n",
        ]
    ].reset_index(drop=True)


def _accuracies(scores: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and number of samples of each cell's model, by cell."""
    label, prediction = (scores[name].astype("Float64") for name in ("label", "prediction"))
    right = (label == prediction).astype("boolean").fillna(False).astype("float64")
    by_cell = right.where(label.notna() & prediction.notna()).groupby(scores["cell"].astype(object))
    return pd.DataFrame({"accuracy": by_cell.agg(lambda values: values.mean(skipna=False)), "samples": by_cell.size()})


def draw_tradeoff(path: Path, points: pd.DataFrame, controls: Collection[str], *, title: str) -> list[Path]:
    """Accuracy across, each metric's mean upwards with its 95 % interval: a panel per metric, a dot per model and
    explainer, controls as grey crosses; ``points`` is what ``tradeoff`` gives, of one data set and protocol.

    NotApplicable where there are fewer than two models whose accuracy is known. Writes a PNG and a CSV file.
    """
    known = points[np.isfinite(points["accuracy"]) & np.isfinite(points["value"])]
    if known["model"].nunique() < 2:
        raise NotApplicable(
            f"the trade-off needs two models or more whose accuracy is known, there are {known['model'].nunique()}; "
            f"accuracy needs labels and a model with a class to predict"
        )
    metrics = list(dict.fromkeys(known["metric"]))
    explainers = sorted(dict.fromkeys(known["explainer"]), key=lambda name: name in controls)
    across = min(3, len(metrics) + 1)
    rows = -(-(len(metrics) + 1) // across)  # one panel more, for the legend
    drawing = figure(1.6 + rows * 2.3, title, _models_note(known))
    styles = dict(zip(explainers, looks(len(explainers)), strict=True))
    *axes, legend = panels(drawing, rows, across, len(metrics) + 1)
    for place, (axis, metric) in enumerate(zip(axes, metrics, strict=True)):
        mine = known[known["metric"] == metric]
        for name in explainers:
            _draw_dots(axis, mine[mine["explainer"] == name], name, styles[name], name in controls)
        direction = mine["better"].iloc[0]
        better = f"{DIRECTIONS[direction]} {ARROWS[direction]}" if direction in ARROWS else "no direction"
        low = place >= len(metrics) - across
        tidy(axis, f"{shortened(metric, 34)}\n{better}", "accuracy of the model" if low else "", mine["unit"].iloc[0])
    handles = {label: dot for axis in axes for dot, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    legend.set_axis_off()
    legend.legend(handles.values(), handles.keys(), loc="center", fontsize=8, frameon=False)
    return save(drawing, path, points)


def _draw_dots(axis: Axes, rows: pd.DataFrame, name: str, style: tuple[str, str], control: bool) -> None:
    colour, marker = ("#6e6e73", "x") if control else style
    value = rows["value"].to_numpy()
    low = np.clip(np.nan_to_num(value - rows["ci_low"]), 0, None)
    high = np.clip(np.nan_to_num(rows["ci_high"] - value), 0, None)
    axis.errorbar(
        rows["accuracy"],
        value,
        yerr=[low, high],
        fmt=marker,
        color=colour,
        markersize=4.5,
        elinewidth=0.7,
        alpha=0.85,
        linewidth=0,
        label=f"{name} (control)" if control else name,
    )


def _models_note(known: pd.DataFrame) -> str:
    """The models by accuracy, a few per line: the legend of the axis."""
    models = known.drop_duplicates("model").sort_values("accuracy")
    data = [f"{name} {share:.3f}" for name, share in zip(models["model"], models["accuracy"], strict=True)]
    lines = [" · ".join(data[start : start + 5]) for start in range(0, len(data), 5)]
    count = int(known["samples"].max())
    return "\n".join([f"Bars: 95 % interval of the mean. Accuracy over the same {count} samples, by model:", *lines])
