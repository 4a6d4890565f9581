"""The views of ``harness view`` that are drawn from a run's files, without a model: curves, importances, tradeoff."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import NotApplicable
from harness.messages import say
from harness.places import file_name
from harness.results.frames import audit_of, configured, controls_of, protocols, read
from harness.results.run_files import RunFiles, name_damage
from harness.results.store import Store
from harness.seals import Damaged

DIRECTION_WORDS = {"higher": " (its score: higher is better)", "lower": " (its score: lower is better)"}


@dataclass
class ViewedRun:
    """A run of which views are drawn: its folder, cells and scores."""

    directory: Path

    @cached_property
    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Cells, with their ``protocol``, and scores; NotApplicable where there are none."""
        if not (self.directory / "cells").is_dir():
            raise NotApplicable(f"{self.directory} has no scores yet; harness run with the same arguments makes them")
        cells, scores = read(self.directory)
        if scores.empty:
            raise NotApplicable(f"{self.directory} has no scores: no cell is ok")
        return cells.assign(protocol=protocols(cells)), scores

    def path(self, *words: str) -> Path:
        """The file of a picture, in the folder ``views``."""
        return self.directory / "views" / (file_name("-".join(words)) + ".png")


def draw_curves_of(run: ViewedRun) -> list[Path]:
    """One picture for each metric with curves, of each model and data set."""
    from harness.results.curve_axes import curve_axes
    from harness.results.sample_curves import draw_curves

    cells, scores = run.frames
    scores = scores[scores["curve"].notna()].assign(protocol=scores["cell"].map(cells.set_index("cell")["protocol"]))
    by_cell = cells.set_index("cell")
    paths = []
    for (model, data, protocol, metric), rows in scores.groupby(
        ["model", "dataset", "protocol", "metric"], observed=True, sort=False
    ):
        row = by_cell.loc[rows["cell"].iloc[0]]
        axes = curve_axes({**row, "metric": metric}, len(rows["curve"].iloc[0]))
        if row["kind"] == "reference" or axes is None:
            continue
        if rows["curve"].map(len).nunique() > 1:
            say(f"curves of {metric} on {model} and {data} are left out: they differ in their number of points")
            continue
        better = DIRECTION_WORDS.get(rows["better"].iloc[0], "")
        beside = scores[(scores["model"] == model) & (scores["dataset"] == data) & (scores["protocol"] == protocol)]
        paths += draw_curves(
            run.path("curves", model, data, metric, *_protocol_number(cells, model, data, protocol)),
            rows,
            axes=axes,
            reference=_random_order(cells, beside, metric),
            title=f"{model} on {data}: {metric}{better}",
        )
    if not paths:
        raise NotApplicable("no metric of the run has curves, as deletion and insertion have")
    return paths


def _random_order(cells: pd.DataFrame, scores: pd.DataFrame, metric: str) -> Any:
    """The mean curve of a random order along the same path, if the run has it."""
    settings = {
        label: configured(config, "metric") for label, config in zip(cells["metric"], cells["config"], strict=True)
    }
    own = settings[metric]
    if own.get("name") not in ("deletion", "selectivity"):
        return None
    path = ("steps", "baseline", "score", "granularity", "patch", "segments")
    same = [
        label
        for label, other in settings.items()
        if other.get("name") == "random_order" and all(other.get(n) == own.get(n) for n in path)
    ]
    curves = scores[scores["metric"].isin(same[:1])].drop_duplicates("sample")["curve"]
    return None if curves.empty else pd.DataFrame(curves.tolist()).mean().to_numpy()


def draw_importances_of(run: ViewedRun) -> list[Path]:
    """One picture for each explainer of which all repeats of its importances are stored."""
    from harness.results.importances import draw_importances

    cells, _ = run.frames
    tables: dict[Path, Any] = {}
    for row in cells.itertuples():
        path = Store(run.directory).tables_of({"audit": audit_of(row.audit)}).get("repeats")
        if path is not None:
            tables.setdefault(path, row)
    if not tables:
        raise NotApplicable(
            "no explainer of the run stores repeats of its importances, as permutation_importance and random_forest do"
        )
    paths = []
    for path, row in tables.items():
        try:
            repeats = _repeats_in(run, path)
        except Damaged as error:
            name_damage(path, error, "it is left out")
            continue
        paths += draw_importances(
            run.path(
                "importances",
                row.model,
                row.dataset,
                row.explainer,
                *_protocol_number(cells, row.model, row.dataset, row.protocol),
            ),
            repeats,
            title=f"{row.model} on {row.dataset}: {row.explainer}",
        )
    return paths


def _repeats_in(run: ViewedRun, path: Path) -> pd.DataFrame:
    """All repeats of an explainer's importances; Damaged for another table."""
    repeats = RunFiles(run.directory).table(path)
    if not {"unit", "value"} <= set(repeats) or repeats["value"].dtype.kind not in "fiu" or repeats.empty:
        raise Damaged("it is no table of repeats of importances")
    return repeats


def draw_tradeoff_of(run: ViewedRun) -> list[Path]:
    """One picture for each data set and protocol."""
    from harness.results.tradeoff import draw_tradeoff, tradeoff

    cells, scores = run.frames
    points, controls, paths = tradeoff(cells, scores), controls_of(cells), []
    groups = list(points.groupby(["dataset", "protocol"], sort=False))
    for number, ((data, _), mine) in enumerate(groups):
        words = [] if len(groups) == 1 else [str(data), str(number)]
        title = f"{data}: accuracy and explanations of {mine['model'].nunique()} models"
        paths += draw_tradeoff(run.path("tradeoff", *words), mine, controls, title=title)
    return paths


def _protocol_number(cells: pd.DataFrame, model: str, data: str, protocol: str) -> list[str]:
    """The number of the protocol, as a part of a file name, where a model and data set have several."""
    own = list(dict.fromkeys(cells["protocol"][(cells["model"] == model) & (cells["dataset"] == data)]))
    return [str(own.index(protocol))] if len(own) > 1 else []


RUN_VIEWS: dict[str, Callable[[ViewedRun], list[Path]]] = {
    "curves": draw_curves_of,
    "importances": draw_importances_of,
    "tradeoff": draw_tradeoff_of,
}
