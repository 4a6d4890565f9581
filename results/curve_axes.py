"""What a metric's curves show: the names of both axes and where the points lie, as the metric declares them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.registry import METRICS, Metric
from harness.results.frames import configured

# The model's score in words, by the option ``score``.
SCORE_WORDS = {"probability": "class probability", "logit": "class logit", "log_odds": "class log-odds"}
NUMBERS = "regression"  # the task of a model that predicts numbers
UNKNOWN = "point of the curve"


@dataclass(frozen=True)
class CurveAxes:
    """The axes of a metric's curves of K points.

    across   the name of the horizontal axis
    places   (K,) where the points lie on it
    height   the name of the vertical axis, with its unit
    """

    across: str
    places: np.ndarray
    height: str


def curve_axes(row: Mapping[str, Any], count: int) -> CurveAxes | None:
    """The axes of the curves, of ``count`` points each, of a cell's row; None if its numbers are no points of a line.

    A metric that is not registered here, or declares nothing, has numbered points, and its unit upwards.
    """
    unit = str(row.get("unit") or "") or str(row["metric"])
    found = _metric_of_row(row)
    if found is None or found[0].curve_across == "":
        return CurveAxes(UNKNOWN, np.arange(1.0, count + 1), unit)
    entry, options = found
    if entry.curve_across is None:
        return None
    said = lambda text: text(options) if callable(text) else text
    numbers = row.get("task") == NUMBERS
    words = {"score": _score_in_words(options, numbers), "line": " above the straight line" if numbers else ""}
    height = said(entry.curve_height).format(**words) or unit
    return CurveAxes(said(entry.curve_across), _places(entry, options, count), height)


def _metric_of_row(row: Mapping[str, Any]) -> tuple[Metric, Mapping[str, Any]] | None:
    """The registered metric of a row and its options; None if it is not registered here or has other options now."""
    given = configured(row.get("config"), "metric")
    try:
        entry = METRICS[given.pop("name", row["metric"])]
        return entry, entry.complete(given)
    except UserError:
        return None


def _score_in_words(options: Mapping[str, Any], numbers: bool) -> str:
    return "model output" if numbers else SCORE_WORDS.get(options.get("score"), str(options.get("score", "score")))


def _places(entry: Metric, options: Mapping[str, Any], count: int) -> np.ndarray:
    """Where the points lie (K,); 1, 2, 3, ... where what is declared has another number of places."""
    declared = entry.curve_places
    if isinstance(declared, tuple):
        return np.linspace(*declared, count)
    places = options[declared] if isinstance(declared, str) else declared(options, count) if declared else ()
    return np.array(places, dtype=float) if np.size(places) == count else np.arange(1.0, count + 1)
