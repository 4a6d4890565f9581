"""The curves of metrics, as data for the page: mean and band over all samples, some samples' own, and the axes' names.

Single samples are kept in 16 bits of the metric's range, as many as fit, so that a large run's page stays small.
"""

import base64
from typing import Any

import numpy as np
import pandas as pd

from harness.results.curve_axes import CurveAxes, curve_axes
from harness.results.report.blocks import ReportBlock
from harness.results.sample_curves import band

MOST_SAMPLES = 40  # whose own curves are kept, the first ones
MOST_CURVE_BYTES = 3 << 20  # of single curves on a page
GAP = 65535
Own = tuple[list[str], np.ndarray, np.ndarray]


def curves_of(block: ReportBlock, budget: int = MOST_CURVE_BYTES) -> list[dict[str, Any]]:
    """One entry per metric with curves; ``budget`` bytes for all single curves of the block.

    Metrics whose numbers per sample are no points of a line, as ``harness.results.curve_axes`` knows, have no entry.
    """
    rows = block.scores[block.scores["curve"].notna()]
    stacks = {metric: _stacked(block, of_metric) for metric, of_metric in rows.groupby("metric", observed=True)}
    stacks = {
        metric: stacks[metric] for metric in block.metrics if stacks.get(metric) and _axes_of_metric(block, metric)
    }
    points = sum(values.shape[1] for stack in stacks.values() for *_, values in stack.values())
    count_kept = min(MOST_SAMPLES, int(budget / max(1, points * 2)))
    return [_curves_of_metric(block, metric, stack, count_kept) for metric, stack in stacks.items()]


def _axes_of_metric(block: ReportBlock, metric: str, count: int = 2) -> CurveAxes | None:
    """What the metric's curves of ``count`` points show."""
    cells = block.cells
    row = cells[(cells["metric"] == metric) & (cells["status"] == "ok")].iloc[0]
    return curve_axes(row.to_dict(), count)


def _stacked(block: ReportBlock, rows: pd.DataFrame) -> dict[str, Own]:
    """Explainer to its samples, their scores and curves (S, K), padded by NaN where some are shorter."""
    stacks_by_name = {}
    for name, own in rows.groupby("explainer", observed=True):
        long = max(map(len, own["curve"]))
        if long > 1:
            values = np.full((len(own), long), np.nan)
            for place, curve in enumerate(own["curve"]):
                values[place, : len(curve)] = curve
            scores = own["value"].to_numpy(dtype=float)
            stacks_by_name[str(name)] = (
                list(own["sample"].astype(str)),
                scores,
                np.where(np.isfinite(values), values, np.nan),
            )
    return {name: stacks_by_name[name] for name in block.explainers if name in stacks_by_name}


def _curves_of_metric(block: ReportBlock, metric: str, stack: dict[str, Own], count_kept: int) -> dict[str, Any]:
    everything = np.concatenate([values.ravel() for *_, values in stack.values()])
    finite = everything[np.isfinite(everything)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    control = next((name for name in stack if name in block.controls), None)
    axes = _axes_of_metric(block, metric)
    return {
        "block": block.key,
        "metric": metric,
        "across": axes.across,
        "height": axes.height,
        "low": low,
        "high": high,
        "control": control,
        "explainers": [
            _curves_of_explainer(block, metric, name, own, low, high, count_kept) for name, own in stack.items()
        ],
    }


def _curves_of_explainer(
    block: ReportBlock, metric: str, name: str, own: Own, low: float, high: float, count_kept: int
) -> dict[str, Any]:
    samples, scores, values = own
    places = _axes_of_metric(block, metric, values.shape[1]).places
    order = np.argsort(places, kind="stable")
    places, values = places[order], values[:, order]
    mean, half = band(values)
    single = values[:count_kept]
    steps = np.where(np.isnan(single), GAP, np.rint((np.nan_to_num(single) - low) / (high - low) * (GAP - 1)))
    return {
        "name": name,
        "control": name in block.controls,
        "n": len(values),
        "places": _four_digits(places),
        "mean": _four_digits(mean),
        "half": _four_digits(half),
        "samples": samples[:count_kept],
        "values": _four_digits(scores[:count_kept]),
        "single": base64.b64encode(steps.astype("<u2").tobytes()).decode(),
    }


def _four_digits(values: np.ndarray) -> list[float | None]:
    """Numbers of four digits, None for what is not finite."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
