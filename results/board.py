"""The content of a block's leaderboard: order, means, intervals, ranks, letters, controls, missing scores, remarks.

A block is one model on one data set under one protocol. The terminal (``leaderboard``), the files (``formats``) and the
report render a ``Board`` and compute nothing themselves. Ranks follow from the cells' means. Letters, and the set of
explainers that are not shown to be worse than the best, follow from paired tests of the scores, if these were read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness.results.family import Family, all_pairs
from harness.results.frames import audit_of, configured, controls_of
from harness.results.matrices import Matrix, matrices
from harness.results.place import NO_RANK, Place, place_of_cell
from harness.results.sanity import NO_VERDICTS
from harness.results.standing import standing
from harness.results.statistics import OTHER_SAMPLES

KINDS = ("faithfulness", "truth", "localisation", "sanity", "axiom", "robustness", "complexity", "check", "reference")
COSTS = ("seconds_per_sample", "forward_passes", "backward_passes", "setup_seconds", "peak_memory_mb")
ARROWS = {"higher": "↑", "lower": "↓"}
# Kinds of metrics by which an explainer can be chosen, the first that a run has; the others are conditions.
CHOOSING = ("faithfulness", "truth", "localisation")
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better"}


@dataclass(frozen=True, kw_only=True)
class Board:
    """One model on one data set under one protocol.

    heading   model and data set; if the run has several protocols for these two, also the settings that differ
    cells     a row per cell, with ``label`` (of the explainer), ``rank``, ``unranked`` (why there is none), ``caveat``
    scores    a row per sample and ok cell, in which ``explainer`` is the label; None if they were not read, and then
              there are no tests
    checked   verdicts of the sanity checks (``harness.results.sanity``), by explainer and check
    metrics_shown, explainers_shown    what the reader asked for; all if None. Tests count all explainers, whatever is
              shown, so that asking for fewer makes no difference significant
    """

    model: str
    dataset: str
    protocol: str
    heading: str
    cells: pd.DataFrame
    scores: pd.DataFrame | None = None
    checked: pd.DataFrame = field(default_factory=NO_VERDICTS.copy)
    metrics_shown: frozenset[str] | None = None
    explainers_shown: frozenset[str] | None = None

    @cached_property
    def controls(self) -> frozenset[str]:
        """Labels of the explainers that do not look at the model."""
        return controls_of(self.cells, "label")

    @cached_property
    def with_caveat(self) -> dict[str, str]:
        """Label -> library, for implementations that are known to differ from the publication; they have no rank."""
        rows = self.cells[self.cells["caveat"]]
        sources = (str(audit_of(audit).get("source") or "") for audit in rows["audit"])
        return dict(zip(rows["label"], sources, strict=True))

    def mark(self, label: str) -> str:
        """The word in brackets after an explainer's name: ``control``, the name of a library, or ""."""
        return "control" if label in self.controls else self.with_caveat.get(label, "")

    def named(self, label: str) -> str:
        """An explainer's label with its mark: ``random (control)``."""
        return f"{label} ({self.mark(label)})" if self.mark(label) else label

    @cached_property
    def about(self) -> pd.DataFrame:
        """Per metric: its kind, unit, direction (``better``), and its registered ``name`` (the index holds labels)."""
        known = self.cells.assign(kind=self.cells["kind"].replace("", None), unit=self.cells["unit"].replace("", None))
        first = known.groupby("metric", sort=False).first().fillna({"kind": "", "unit": ""})
        names = [
            configured(config, "metric").get("name", label)
            for label, config in zip(first.index, first["config"], strict=True)
        ]
        return first[["kind", "unit", "better"]].assign(name=names)

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that are shown, ordered by kind: srg first, costs last."""
        shown = [m for m in self.about.index if self.metrics_shown is None or m in self.metrics_shown]
        return sorted(shown, key=lambda metric: _metric_place(metric, self.about.loc[metric, "kind"]))

    def better(self, metric: str) -> str | None:
        """``higher``, ``lower`` or None."""
        direction = self.about.loc[metric, "better"]
        return direction if direction in DIRECTIONS else None

    def unit(self, metric: str) -> str:
        """The metric's unit; "" if it has none."""
        return str(self.about.loc[metric, "unit"] or "")

    def head(self, metric: str) -> str:
        """A metric's name with the arrow of its direction."""
        return f"{metric} {ARROWS.get(self.better(metric), '')}".strip()

    @cached_property
    def headline(self) -> str | None:
        """The metric that orders explainers, and by which one is chosen: the first that has a direction and a score.

        srg comes first, then the other metrics of faithfulness, of known truth and of localisation; of any kind if the
        reader asked for some metrics.
        """
        there = self.cells[(self.cells["status"] == "ok") & ~self.cells["caveat"] & np.isfinite(self.cells["value"])]
        own = there[~there["label"].isin(self.controls)]
        there = own if len(own) else there
        able = [m for m in self.metrics if self.better(m) and m in set(there["metric"])]
        kinds, names = self.about["kind"], self.about["name"]
        asked = self.metrics_shown is not None
        able = [m for m in able if kinds[m] in CHOOSING or (asked and kinds[m] not in ("cost", "check"))]
        place = lambda m: CHOOSING.index(kinds[m]) if kinds[m] in CHOOSING else len(CHOOSING)
        return min(able, key=lambda m: (m != "srg", names[m] != "srg", place(m)), default=None)

    @cached_property
    def explainers(self) -> list[str]:
        """Labels, the best by the headline metric first, then those without a value, then the controls.

        Without a headline metric, the first of ``metrics`` is used.
        """
        metric = self.headline or self.metrics[0]
        first = self.cells[(self.cells["metric"] == metric) & (self.cells["status"] == "ok")]
        sign = {"higher": -1.0, "lower": 1.0}.get(self.better(metric), 0.0)
        values = dict(zip(first["label"], (first["value"] * sign).fillna(float("inf")), strict=True))
        place = lambda label: (label in self.controls, values.get(label, float("inf")), label)
        shown, asked = self.cells, self.explainers_shown
        shown = shown if asked is None else shown[shown["label"].isin(asked) | shown["explainer"].isin(asked)]
        return sorted(shown["label"].unique(), key=place)

    @cached_property
    def visible(self) -> pd.DataFrame:
        """The cells of the metrics and explainers that are shown."""
        return self.cells[self.cells["metric"].isin(self.metrics) & self.cells["label"].isin(self.explainers)]

    @cached_property
    def matrices(self) -> dict[str, Matrix]:
        """Metric -> its scores: samples are rows, explainers are columns; those with a caveat are left out."""
        if self.scores is None:
            return {}
        ranked = self.scores[~self.scores["explainer"].isin(self.with_caveat)]
        by_metric = {each.names["metric"]: each for each in matrices(ranked.drop(columns=["model", "dataset"]))}
        return {metric: each for metric, each in by_metric.items() if not each.values.empty}

    @cached_property
    def families(self) -> dict[str, Family]:
        """For each metric that can be tested: all pairs of explainers as one family of tests."""
        return {m: self._family_of(m) for m in self.metrics if self._testable(m)}

    @cached_property
    def tests(self) -> dict[str, pd.DataFrame]:
        """For each metric that can be tested: how each label stands (``harness.results.standing``)."""
        return {metric: standing(family, self.controls) for metric, family in self.families.items()}

    @property
    def lacking(self) -> dict[str, int]:
        """Explainers with too few headline scores to be compared, and on how many samples they have one."""
        return self.matrices[self.headline].lacking if self.headline in self.matrices else {}

    @cached_property
    def family(self) -> Family | None:
        """All pairs of explainers on the headline metric, also where nothing can be tested; None without scores."""
        return self._family_of(self.headline) if self.headline in self.matrices else None

    def _family_of(self, metric: str) -> Family:
        """The family of one metric; each is computed once, and only if it is asked for."""
        if metric not in self._known_families:
            self._known_families[metric] = all_pairs(self.matrices[metric])
        return self._known_families[metric]

    @cached_property
    def _known_families(self) -> dict[str, Family]:
        return {}

    @cached_property
    def standing(self) -> pd.DataFrame | None:
        """How each label stands against the best explainer and the best control by the headline metric."""
        return None if self.family is None else standing(self.family, self.controls)

    @cached_property
    def sanity(self) -> pd.DataFrame:
        """The overall verdict on sanity by label: ``verdict`` and ``reason``."""
        overall = self.checked[self.checked["check"] == "overall"]
        labels = self.cells.drop_duplicates("label")[["label", "explainer"]]
        return labels.merge(overall, on="explainer", how="left").set_index("label")[["verdict", "reason"]]

    def _testable(self, metric: str) -> bool:
        """Whether the explainers can be compared by tests.

        Costs cannot: samples of one call share its cost. Checks have no better and worse.
        """
        matrix, unranked = self.matrices.get(metric), set(self.cells.loc[self.cells["metric"] == metric, "unranked"])
        if matrix is None or not self.better(metric) or unranked - {"", OTHER_SAMPLES}:
            return False
        if self.about.loc[metric, "kind"] == "cost":
            return False
        return matrix.compared.values.shape[1] > 1 and len(matrix.compared.values) > 1

    @cached_property
    def places(self) -> dict[tuple[str, str], Place]:
        """All places by (metric, label of the explainer)."""
        return {(metric, label): self._place(metric, label) for metric in self.metrics for label in self.explainers}

    def cell(self, metric: str, label: str) -> dict[str, Any] | None:
        """The row of an explainer's cell, or None."""
        return self._rows_by_place.get((metric, label))

    @cached_property
    def _rows_by_place(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(row["metric"], row["label"]): row for row in self.cells.to_dict("records")}

    @cached_property
    def _best_ranks(self) -> dict[str, float]:
        """For each metric, the best rank among the explainers that are no controls; among all if there are only
        controls."""
        ranked = self.cells[self.cells["rank"].notna()]
        own = ranked[~ranked["label"].isin(self.controls)]
        return (own if len(own) else ranked).groupby("metric")["rank"].min().to_dict()

    def _place(self, metric: str, label: str) -> Place:
        row = self.cell(metric, label)
        if row is None or row["status"] != "ok":
            return place_of_cell(row, kind=self.about.loc[metric, "kind"])
        letters, standing = self._test(metric, label, "letters") or "", self._standing(metric, label, row)
        return place_of_cell(row, rank=self._rank(metric, row), letters=letters, standing=standing)

    def _rank(self, metric: str, row: Mapping[str, Any]) -> str:
        if not self.better(metric) or row["caveat"]:
            return ""
        return NO_RANK if pd.isna(row["rank"]) else f"#{row['rank']:.0f}"

    def _standing(self, metric: str, label: str, row: Mapping[str, Any]) -> str:
        if label not in self.controls and row["rank"] == self._best_ranks.get(metric):
            return "best"
        return "near" if self._test(metric, label, "best") else ""

    def _test(self, metric: str, label: str, column: str) -> Any:
        """One column of the tests' result for an explainer; None if it was not tested."""
        tests = self.tests.get(metric)
        return tests.loc[label, column] if tests is not None and label in tests.index else None


def _metric_place(metric: str, kind: str) -> tuple[Any, ...]:
    if kind == "cost":
        return 2, COSTS.index(metric) if metric in COSTS else len(COSTS), metric
    return metric != "srg", KINDS.index(kind) if kind in KINDS else len(KINDS), metric
