"""What a report is made of: the blocks of one or more runs, each a model on a data set under one protocol."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.frames import configured, controls_of, protocols, read_cells, read_scores
from harness.results.leaderboard import differing, metric_order, named_apart
from harness.results.matrices import Matrix, matrices
from harness.results.pairs import standing
from harness.results.sanity import verdicts_of_run
from harness.results.statistics import not_comparable, ranks, with_caveat

DIRECTIONS = {"higher": "higher is better", "lower": "lower is better"}
ARROWS = {"higher": "↑", "lower": "↓"}
MOST_LACKING = 0.1  # of the samples, above which an explainer is not compared


@dataclass(frozen=True)
class Block:
    """One model on one data set under one protocol, of one run.

    key        what its parts of the page are called
    heading    what a reader sees, with what sets it apart from the others of the page
    cells      one row per cell, with ``label`` (of the explainer), ``rank``, ``unranked`` (why not) and ``caveat``
    scores     one row per sample and ok cell, ``explainer`` being the label
    verdicts   of the sanity checks, by explainer
    """

    key: str
    run: str
    directory: Path
    model: str
    dataset: str
    protocol: str
    heading: str
    cells: pd.DataFrame
    scores: pd.DataFrame
    verdicts: pd.DataFrame

    @cached_property
    def controls(self) -> frozenset[str]:
        """Labels of the explainers that do not look at the model."""
        return controls_of(self.cells, "label")

    @cached_property
    def with_caveat(self) -> frozenset[str]:
        """Labels of a library's rows that are known to give something else; they are not ranked."""
        return frozenset(self.cells.loc[self.cells["caveat"], "label"])

    @cached_property
    def metrics(self) -> list[str]:
        """Metrics by kind, srg first, costs last."""
        return metric_order(self.cells)

    @cached_property
    def about(self) -> pd.DataFrame:
        """Per metric its kind, unit, direction (``better``) and the name that its options give it."""
        first = self.cells.drop_duplicates("metric").set_index("metric")
        names = [
            configured(c, "metric").get("name", label) for label, c in zip(first.index, first["config"], strict=True)
        ]
        return first[["kind", "unit", "better"]].assign(name=names)

    @cached_property
    def headline(self) -> str | None:
        """What the verdict is about: srg, else the first faithfulness metric with a direction and a score."""
        able = [m for m in self.metrics if m in self.matrices and self.better(m)]
        faithful = [m for m in able if self.about.loc[m, "kind"] == "faithfulness"]
        srg = [m for m in able if self.about.loc[m, "name"] == "srg"]
        return next(iter([*(m for m in srg if m == "srg"), *srg, *faithful]), None)

    def better(self, metric: str) -> str | None:
        """``higher``, ``lower`` or None."""
        found = self.about.loc[metric, "better"]
        return found if found in DIRECTIONS else None

    def unit(self, metric: str) -> str:
        """The metric's unit, "" where it has none."""
        return str(self.about.loc[metric, "unit"] or "")

    def axis(self, metric: str) -> str:
        """An axis title: name, unit and direction."""
        unit = f" ({self.unit(metric)})" if self.unit(metric) not in ("", metric) else ""
        arrow = ARROWS.get(self.better(metric), "")
        return f"{metric}{unit} {arrow} {DIRECTIONS.get(self.better(metric), '')}".strip()

    @cached_property
    def matrices(self) -> dict[str, Matrix]:
        """Metric to its scores, samples down and explainers across; without rows that have a caveat."""
        kept = self.scores[~self.scores["explainer"].isin(self.with_caveat)]
        found = {each.names["metric"]: each for each in matrices(kept.drop(columns=["model", "dataset"]))}
        return {metric: each for metric, each in found.items() if not each.values.empty}

    @cached_property
    def lacking(self) -> dict[str, int]:
        """Explainers that lack a headline score on more than a tenth of the samples, and on how many they have one."""
        counts = self.matrices[self.headline].values.notna().sum()
        return {name: int(n) for name, n in counts.items() if n < (1 - MOST_LACKING) * counts.max()}

    @cached_property
    def compared(self) -> Matrix:
        """The headline scores of the others, on the samples that all of them have."""
        matrix = self.matrices[self.headline]
        return replace(matrix, values=matrix.values.drop(columns=list(self.lacking)).dropna())

    @cached_property
    def standing(self) -> pd.DataFrame:
        """How explainers stand to the best and to the best control by the headline metric, by label.

        All on the same samples: means over unequal sets of them do not say who is the best.
        """
        return standing(self.compared, self.controls).set_index("explainer")

    @cached_property
    def explainers(self) -> list[str]:
        """Labels, the best by the headline metric first, those without a value after them, controls last."""
        cells = self.cells
        first = cells[(cells["metric"] == self.headline) & (cells["status"] == "ok")]
        sign = -1.0 if self.headline and self.better(self.headline) == "higher" else 1.0
        values = dict(zip(first["label"], (first["value"] * sign).fillna(float("inf")), strict=True))
        place = lambda name: (name in self.controls, values.get(name, float("inf")), name)
        return sorted(cells["label"].unique(), key=place)

    @cached_property
    def sanity(self) -> pd.DataFrame:
        """The overall verdict on sanity by label: ``verdict`` and ``reason``."""
        overall = self.verdicts[self.verdicts["check"] == "overall"]
        labels = self.cells.drop_duplicates("label")[["label", "explainer"]]
        return labels.merge(overall, on="explainer", how="left").set_index("label")[["verdict", "reason"]]

    def cell(self, metric: str, explainer: str) -> dict[str, Any] | None:
        """The row of an explainer's cell; None where there is none."""
        return self._by_place.get((metric, explainer))

    @cached_property
    def _by_place(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(row["metric"], row["label"]): row for row in self.cells.to_dict("records")}

    @property
    def samples(self) -> int:
        """The number of samples that were measured."""
        return int(self.scores["sample"].nunique())


def blocks_of(directories: Sequence[Path]) -> list[Block]:
    """The blocks of runs, in their order; runs without cells have none."""
    found = [block for directory in directories for block in _of_run(Path(directory), len(directories) > 1)]
    return [Block(f"b{place}", **block) for place, block in enumerate(found)]


def _of_run(directory: Path, several: bool) -> Iterator[dict[str, Any]]:
    cells, of_run = read_cells(directory), f", run {directory.name}" if several else ""
    if cells.empty:
        return
    scores = read_scores(directory, cells)
    sanity = _sanity(directory, cells)
    cells = cells.assign(
        rank=ranks(cells),
        unranked=not_comparable(cells),
        caveat=with_caveat(cells),
        protocol=protocols(cells),
        n_invalid=cells["n_invalid"].fillna(0),
    )
    cells = cells.fillna({name: "?" for name in ("model", "dataset", "explainer", "metric")} | {"unit": "", "kind": ""})
    for (model, dataset), of_pair in cells.groupby(["model", "dataset"]):
        apart = differing(of_pair["protocol"].unique())
        for protocol, block in of_pair.groupby("protocol"):
            block = named_apart(block)
            yield {
                "run": directory.name,
                "directory": directory,
                "model": model,
                "dataset": dataset,
                "protocol": protocol,
                "cells": block,
                "scores": _scores(scores, block),
                "heading": f"{model} on {dataset}{apart[protocol]}{of_run}",
                "verdicts": _own(sanity, model, dataset, protocol),
            }


def _scores(scores: pd.DataFrame, block: pd.DataFrame) -> pd.DataFrame:
    labels = dict(zip(block["cell"], block["label"], strict=True))
    mine = scores[scores["cell"].isin(set(labels))]
    again = mine.duplicated(["cell", "sample"], keep=False)
    if again.any():  # samples of one name are told apart by their place, which is the same in every cell
        place = mine.groupby("cell", observed=True).cumcount()
        mine = mine.assign(sample=mine["sample"].where(~again, mine["sample"] + " (" + place.astype(str) + ")"))
    return mine.assign(explainer=mine["cell"].astype(object).map(labels), metric=mine["metric"].astype(object))


def _sanity(directory: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of a run; none are made where no check was measured, for that is told in one line."""
    if not (cells["kind"] == "sanity").any():
        return pd.DataFrame(
            columns=[
                "model",
                "dataset",
                "protocol",
                "explainer",
                "check",
                "verdict",
                "value",
                "ci_low",
                "ci_high",
                "chance",
                "bound",
                "n",
                "n_invalid",
                "reason",
            ]
        )
    return verdicts_of_run(directory)


def _own(sanity: pd.DataFrame, model: str, dataset: str, protocol: str) -> pd.DataFrame:
    mine = (sanity["model"] == model) & (sanity["dataset"] == dataset) & (sanity["protocol"] == protocol)
    return sanity[mine]


def protocol_text(block: Block) -> str:
    """A block's protocol in a line: ``samples=30 seed=0 target=predicted``."""
    return " ".join(f"{name}={value}" for name, value in json.loads(block.protocol).items())
