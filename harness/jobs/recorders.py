"""Recorders: they turn the results of a block into rows, one per cell and one per sample."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.batch import Scores
from harness.engine.block import Explained
from harness.engine.selection import Cell, Chosen
from harness.engine.stage import Stage
from harness.errors import NotApplicable, UserError, one_line
from harness.identity import canonical, commit, digest
from harness.jobs.channel import Watched
from harness.jobs.environment import device_name, machine_facts
from harness.jobs.plan import Plan
from harness.places import file_name
from harness.registry import PLAIN
from harness.results.statistics import cell_statistics, limits_in
from harness.results.store import Store, plain

# Columns of a cell's row that have a value even if there are no scores; the store writes null into the others.
WITHOUT_SCORES = {"n": 0, "n_invalid": 0, "stage": "", "error": "", "flags": []}


class RowRecorder:
    """Writes a block's results into a run's store; each cell is saved before the next one is measured.

    ``rows`` are the last rows of the cells, from before; of a shard or round, ``of_whole`` are those of the whole run.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        rows: Mapping[str, Mapping[str, Any]],
        progress: Any,
        watched: Watched | None = None,
        of_whole: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        self.plan, self.store, self.before, self.progress, self.watched = plan, store, rows, progress, watched
        self.of_whole = of_whole
        self.renewable, self.announced = watched is not None, set[str]()
        self.stage: Stage | None = None
        self.about_run: dict[str, Any] = {}
        self.audits: dict[Chosen, dict[str, Any]] = {}

    def on(self, stage: Stage) -> None:
        """Store what every row says about the loaded model, data and machine."""
        self.stage = stage
        self.about_run = {
            "environment": self.store.write_environment(
                {**machine_facts(stage.device), "scoring": stage.predictor.variant}
            ),
            "device": device_name(stage.device),
            "weights": stage.weights,
            "batch_size": stage.predictor.chunk,
        }

    def begins(self, stage: str, cells: Sequence[Cell]) -> None:
        """Announce that these cells are about to be measured; each counts as announced until it has its row."""
        if self.watched is None:
            return
        self.announced = {cell.id for cell in cells}
        names = {"explain": [cell.explainer.label for cell in cells[:1]]}
        names["score"] = names["explain"] + [cell.metric.label for cell in cells[:1]]
        names["load"] = []
        label = " ".join(names[stage]) or self.plan.title
        file = file_name("-".join([self.plan.name, *names[stage], stage]))
        rows = [self._row(cell, {"status": "failed", "stage": stage}) for cell in cells]
        whole = self.plan.run_directory if self.plan.is_part else None
        self.watched.begins(self.store.directory, stage, label, rows, f"output/{file}.txt", whole)

    def rests(self) -> None:
        """Say that no item is at work."""
        if self.watched is not None:
            self.watched.rests()

    def will_measure(self, cells: Sequence[Cell]) -> None:
        """Say which of the announced cells will be measured, now that this is known: the others need no row."""
        if self.watched is not None:
            needless = self.announced - {cell.id for cell in cells}
            self.watched.settles(self.store.directory, dict.fromkeys(needless))
        self.rests()

    def scored(self, cell: Cell, scores: Scores, valid: Tensor, flags: list[str], seconds: float) -> None:
        """Write the samples' scores and then the cell's row, so that no row refers to missing scores."""
        finite = scores.values.isfinite()
        frame = sample_frame(self.stage, scores)
        self.store.write_scores(cell.id, frame, self._provenance(cell))
        limits = limits_in(meaning_of(self.stage, cell))
        found = cell_statistics(scores.values.numpy(), finite.numpy(), kind=cell.metric.entry.kind, limits=limits)
        reason = scores.reason if not finite.all() else ""
        reason = reason or (flags[0] if not valid.all() else "")
        notes = {"error": reason, "flags": flags, "audit": self.audits.get(cell.explainer)}
        self._append(cell, {**found, "status": "ok", **notes, "seconds": round(seconds, 4)})

    def failed(self, cell: Cell, status: str, stage: str, error: BaseException, trace: str) -> None:
        """Write the row of a cell without scores and, for a failure, its trace into a file."""
        if status == "failed":
            self.store.write_error(cell.id, trace)
        audit = self.audits.get(cell.explainer)  # it exists if explaining succeeded and only the metric failed
        self._append(cell, {"status": status, "stage": stage, "error": one_line(error)[:500], "audit": audit})

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Report progress, save the explainer's tables, and store its audit for its cells."""
        self.progress.explained(explainer, explained)
        audit, owner = explained.audit, digest(canonical(self._explainer_identity(explainer)))
        paths = {name: self.store.write_table(owner, name, table) for name, table in audit.tables.items()}
        self.audits[explainer] = audit.found | ({"tables": paths} if paths else {})

    def _explainer_identity(self, explainer: Chosen) -> dict[str, Any]:
        """All settings that an explainer's attributions depend on: a cell's identity without its metric."""
        plan = self.plan
        return {
            "model": plan.model.identity,
            "dataset": plan.dataset.identity,
            "explainer": explainer.identity,
            "protocol": plan.protocol.identity,
        }

    def _append(self, cell: Cell, results: dict[str, Any]) -> None:
        """Write the row of a cell; ``results`` replace the values of a cell without scores."""
        self.store.append(self._row(cell, results))
        if self.watched is not None:
            self.watched.settles(self.store.directory, {cell.id: results["status"]})
        self.announced.discard(cell.id)
        if not self.announced:
            self.rests()
        self.progress.recorded(cell, results)

    def _row(self, cell: Cell, results: dict[str, Any]) -> dict[str, Any]:
        return {**self._description(cell), **WITHOUT_SCORES, **self._provenance(cell), **results}

    def _description(self, cell: Cell) -> dict[str, Any]:
        """What a cell measures: labels, all settings, and the meaning of the metric's numbers."""
        plan = self.plan
        return {
            "run": plan.run,
            "cell": cell.id,
            "model": plan.model.label,
            "dataset": plan.dataset.label,
            "explainer": cell.explainer.label,
            "metric": cell.metric.label,
            **meaning_of(self.stage, cell),
            "task": None if self.stage is None else self.stage.task.name,
            "seed": plan.protocol.seed,
            "config": json.loads(canonical(plan.identity(cell.explainer, cell.metric))),
        }

    def _provenance(self, cell: Cell) -> dict[str, Any]:
        """The code, weights and machine that a cell was measured with, and the number of the attempt."""
        stick, code = self.plan.stick(cell.metric), self.plan.subject_code(cell.explainer)
        head, dirty = commit()
        return {
            "attempt": self._attempt(cell, stick, code),
            "subject": f"{code}-{self.about_run.get('weights', '')}",
            "stick": stick,
            "commit": head,
            "dirty": dirty,
            "environment": self.about_run.get("environment"),
            "device": self.about_run.get("device"),
            "torch": torch.__version__,
            "batch_size": self.about_run.get("batch_size"),
        }

    def _attempt(self, cell: Cell, stick: str, code: str) -> int:
        """1, or one more than the last attempt if that failed on the same code; those of all parts of a run count."""
        failed = [
            _attempt_number(last.get("attempt"))
            for last in (each.get(cell.id) or {} for each in (self.before, self.of_whole))
            if last.get("status") == "failed"
            and last.get("stick") == stick
            and str(last.get("subject") or "").partition("-")[0] == code
        ]
        return 1 + max(failed, default=0)


def _attempt_number(attempt: Any) -> int:
    """The number of an attempt as read from a row; 1 if it is no valid number."""
    return attempt if isinstance(attempt, int) and attempt > 0 else 1


class FrameRecorder:
    """Collects a block's results in memory, one row per sample and metric."""

    renewable = False

    def __init__(self) -> None:
        self.stage: Stage | None = None
        self.frames: list[pd.DataFrame] = []
        self.audits: dict[str, dict[str, Any]] = {}
        self.options: dict[str, dict[str, Any]] = {}

    def begins(self, stage: str, cells: Sequence[Cell]) -> None:
        """Nothing is announced: nobody watches."""

    def scored(self, cell: Cell, scores: Scores, valid: Tensor, flags: list[str], seconds: float) -> None:
        """Store a row per sample with its score."""
        columns = _sample_columns(self.stage, scores)
        self._add(cell, columns, "ok", scores.reason if not columns["valid"].all() else "", "; ".join(flags))

    def failed(self, cell: Cell, status: str, stage: str, error: BaseException, trace: str) -> None:
        """Store a row per sample that says why there is no score."""
        nothing = Scores(torch.full((self.stage.count,), float("nan"), dtype=torch.float64))
        self._add(cell, _sample_columns(self.stage, nothing), status, one_line(error), "")

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Store the explainer's audit and its tables, as columns; attributions are not stored."""
        tables = {name: plain(table.to_dict("list")) for name, table in explained.audit.tables.items()}
        self.audits[explainer.label] = explained.audit.found | ({"tables": tables} if tables else {})

    def frame(self) -> pd.DataFrame:
        """All rows, in the order of the cells; ``attrs["audit"]`` holds the audit of each explainer, and
        ``attrs["options"]`` the options of each metric that are texts and numbers."""
        frame = pd.concat(self.frames, ignore_index=True)
        frame.attrs |= {"audit": self.audits, "options": self.options}
        return frame

    def _add(self, cell: Cell, columns: dict[str, Any], status: str, error: str, flags: str) -> None:
        about = {
            "explainer": cell.explainer.label,
            "metric": cell.metric.label,
            **meaning_of(self.stage, cell),
        }
        options = measured_options(self.stage, cell).items()
        self.options[cell.metric.label] = {name: value for name, value in options if isinstance(value, PLAIN)}
        self.frames.append(pd.DataFrame({**about, **columns, "status": status, "error": error, "flags": flags}))


def meaning_of(stage: Stage | None, cell: Cell) -> dict[str, Any]:
    """What a cell's numbers mean: their kind, unit, direction, and the least and the largest score that is possible,
    NaN where there is no limit or none is declared."""
    entry, options = cell.metric.entry, measured_options(stage, cell)
    span = entry.span_of(options) or (None, None)
    least, most = (float("nan") if end is None else float(end) for end in span)
    return {
        "kind": entry.kind,
        "unit": entry.unit_of(options),
        "better": entry.direction(options),
        "least": least,
        "most": most,
    }


def measured_options(stage: Stage | None, cell: Cell) -> Mapping[str, Any]:
    """The options that a metric is measured with: its score follows the model's task where its own does not exist."""
    entry, options = cell.metric.entry, cell.metric.options
    try:
        return options if stage is None else stage.task.with_score(entry.options, options)
    except NotApplicable:  # there are no scores, and the row says why
        return options


def sample_frame(stage: Stage, scores: Scores) -> pd.DataFrame:
    """One row per sample: sample, target, prediction, label, groups, value, valid, tied, standard_error, curve."""
    return pd.DataFrame(_sample_columns(stage, scores))


def _sample_columns(stage: Stage, scores: Scores) -> dict[str, Any]:
    ids = list(stage.data.ids[: stage.count])
    if not len(ids) == len(scores.values) == stage.count:
        raise UserError(f"{len(ids)} ids and {len(scores.values)} scores came, expected one per sample ({stage.count})")
    curves = [None] * stage.count if scores.curves is None else scores.curves.tolist()
    nothing = torch.full((stage.count,), float("nan"))
    tied, standard_error = (nothing if each is None else each for each in (scores.tied, scores.standard_error))
    return {
        "sample": ids,
        "target": stage.targets.numpy(),
        "prediction": _predicted_classes(stage),
        "label": _label_classes(stage),
        "groups": _groups(stage),
        "value": scores.values.numpy(),
        "valid": scores.values.isfinite().numpy(),
        "tied": tied.numpy(),
        "standard_error": standard_error.numpy(),
        "curve": curves,
    }


def _predicted_classes(stage: Stage) -> list[int | None]:
    """The predicted class of each sample; None if the model has a single output and so no classes."""
    return stage.predictions.tolist() if stage.task.classed and stage.output_count > 1 else [None] * stage.count


def _label_classes(stage: Stage) -> list[int | None]:
    """The class index that labels each sample; None without labels, or if the model or the labels have no classes."""
    labels = stage.labels
    unclassed = labels is None or labels.is_floating_point() or not stage.task.classed or stage.output_count == 1
    return [None] * stage.count if unclassed else labels[: stage.count].tolist()


def _groups(stage: Stage) -> list[str | None]:
    """The groups of each sample as JSON text: name of the grouping -> group; None without groupings."""
    groupings = stage.data.groups
    if not groupings:
        return [None] * stage.count
    return [json.dumps({name: of_sample[i] for name, of_sample in groupings.items()}) for i in range(stage.count)]


def config_text(plan: Plan) -> str:
    """The configuration of a block with all options, as JSON; of a shard, that of the whole block."""
    by_label = lambda items: {each.label: each.identity for each in items}
    with_label = lambda each: {"label": each.label, **each.identity}
    return json.dumps(
        {
            "run": plan.run,
            "model": with_label(plan.model),
            "dataset": with_label(plan.dataset),
            "explainer": by_label(plan.explainers),
            "metric": by_label(plan.metrics),
            "protocol": plan.protocol.identity,
            "runtime": {**vars(plan.runtime), "shard": None},
        },
        indent=2,
        default=str,
    )
