"""Turns what a block finds into rows: one per cell and one per sample."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.batch import Scores
from harness.engine.block import Explained
from harness.engine.selection import Chosen, Job
from harness.engine.stage import Stage
from harness.errors import UserError, one_line
from harness.identity import canonical, commit, digest
from harness.jobs.environment import device_name, machine_facts
from harness.jobs.plan import Plan
from harness.results.statistics import summarise
from harness.results.store import Store, plain


class RowRecorder:
    """Writes a block's results into a run's store; each cell is on disk before the next is begun."""

    def __init__(self, plan: Plan, store: Store, rows: Mapping[str, Mapping[str, Any]], progress: Any) -> None:
        self.plan, self.store, self.before, self.progress = plan, store, rows, progress
        self.stage: Stage | None = None
        self.counts = {"ok": 0, "failed": 0, "not_applicable": 0}
        self.about_run: dict[str, Any] = {}
        self.audits: dict[Chosen, dict[str, Any]] = {}

    def on(self, stage: Stage) -> None:
        """The block's model and data are loaded: remember what every row says of them."""
        self.stage = stage
        self.about_run = {
            "environment": self.store.write_environment({**machine_facts(stage.device), "scoring": stage.predictor.variant}),
            "device": device_name(stage.device),
            "weights": stage.weights,
            "batch_size": stage.predictor.chunk,
        }

    def scored(self, job: Job, scores: Scores, valid: Tensor, flags: list[str], seconds: float) -> None:
        """Write the samples' scores, then the cell's row, so that a row never speaks of scores that are not there."""
        finite = scores.values.isfinite()
        frame = sample_frame(self.stage, scores)
        self.store.write_scores(job.cell, frame)
        summary = summarise(scores.values.numpy(), finite.numpy())
        if job.metric.entry.kind == "cost":  # samples of one call share its cost: they are not independent draws
            summary |= {"ci_low": None, "ci_high": None}
        reason = scores.reason if not finite.all() else ""
        reason = reason or (flags[0] if not valid.all() else "")
        found = {"error": reason, "flags": flags, "audit": self.audits.get(job.explainer)}
        self._append(job, {**summary, "status": "ok", **found, "seconds": round(seconds, 4)})

    def failed(self, job: Job, status: str, stage: str, error: BaseException, trace: str) -> None:
        """Write the row of a cell that has no scores, and the trace of a failure beside it."""
        if status == "failed":
            self.store.write_error(job.cell, trace)
        audit = self.audits.get(job.explainer)  # of attributions that are there, though this metric has no score
        self._append(job, {"status": status, "stage": stage, "error": one_line(error)[:500], "audit": audit})

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Tell the progress line, keep the explainer's tables, and remember what its cells say of it."""
        self.progress.explained(explainer, explained)
        audit, owner = explained.audit, digest(canonical(self._asked_of(explainer)))
        paths = {name: self.store.write_table(owner, name, table) for name, table in audit.tables.items()}
        self.audits[explainer] = audit.found | ({"tables": paths} if paths else {})

    def _asked_of(self, explainer: Chosen) -> dict[str, Any]:
        """Everything that decides an explainer's attributions: a cell's identity without its metric."""
        plan = self.plan
        return {
            "model": plan.model.identity,
            "dataset": plan.dataset.identity,
            "explainer": explainer.identity,
            "protocol": vars(plan.protocol),
        }

    def _append(self, job: Job, found: dict[str, Any]) -> None:
        plan, entry, about = self.plan, job.metric.entry, self.about_run
        stick, code = plan.stick(job.metric), plan.subject_code(job.explainer)
        head, dirty = commit()
        self.store.append(
            {
                "run": plan.run,
                "cell": job.cell,
                "model": plan.model.label,
                "dataset": plan.dataset.label,
                "explainer": job.explainer.label,
                "metric": job.metric.label,
                "kind": entry.kind,
                "unit": entry.unit_of(job.metric.options),
                "better": entry.direction(job.metric.options),
                "value": None,
                "std": None,
                "ci_low": None,
                "ci_high": None,
                "n": 0,
                "n_invalid": 0,
                "status": "ok",
                "stage": "",
                "error": "",
                "attempt": self._attempt(job, stick, code),
                "subject": f"{code}-{about.get('weights', '')}",
                "stick": stick,
                "commit": head,
                "dirty": dirty,
                "environment": about.get("environment"),
                "device": about.get("device"),
                "torch": torch.__version__,
                "seed": plan.protocol.seed,
                "batch_size": about.get("batch_size"),
                "seconds": None,
                "flags": [],
                "audit": None,
                **found,
                "finished": datetime.now(UTC).isoformat(timespec="microseconds"),
                "config": json.loads(canonical(plan.identity(job.explainer, job.metric))),
            }
        )
        self.counts[found["status"]] += 1
        self.progress.cell(job, found)

    def _attempt(self, job: Job, stick: str, code: str) -> int:
        """1, or one more than the last attempt if that failed on the same code."""
        last = self.before.get(job.cell) or {}
        same = last.get("stick") == stick and str(last.get("subject") or "").partition("-")[0] == code
        return _attempt_number(last.get("attempt")) + 1 if same and last.get("status") == "failed" else 1


def _attempt_number(attempt: Any) -> int:
    """The number of an attempt as read from a row; 1 where it is none."""
    return attempt if isinstance(attempt, int) and attempt > 0 else 1


class FrameRecorder:
    """Collects a block's results in memory, one row per sample and metric."""

    def __init__(self) -> None:
        self.stage: Stage | None = None
        self.frames: list[pd.DataFrame] = []
        self.audits: dict[str, dict[str, Any]] = {}

    def scored(self, job: Job, scores: Scores, valid: Tensor, flags: list[str], seconds: float) -> None:
        """Keep the samples' scores."""
        frame = sample_frame(self.stage, scores)
        self._keep(job, frame, "ok", scores.reason if not frame["valid"].all() else "", "; ".join(flags))

    def failed(self, job: Job, status: str, stage: str, error: BaseException, trace: str) -> None:
        """Keep a row per sample that says why there is no score."""
        nothing = Scores(torch.full((self.stage.count,), float("nan"), dtype=torch.float64))
        self._keep(job, sample_frame(self.stage, nothing), status, one_line(error), "")

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Keep what is to be known of the explainer, its tables as columns; attributions are not kept."""
        tables = {name: plain(table.to_dict("list")) for name, table in explained.audit.tables.items()}
        self.audits[explainer.label] = explained.audit.found | ({"tables": tables} if tables else {})

    def frame(self) -> pd.DataFrame:
        """All rows, in the order of the jobs; ``attrs["audit"]`` holds what is to be known of each explainer."""
        frame = pd.concat(self.frames, ignore_index=True)
        frame.attrs["audit"] = self.audits
        return frame

    def _keep(self, job: Job, frame: pd.DataFrame, status: str, error: str, flags: str) -> None:
        entry, options = job.metric.entry, job.metric.options
        about = {
            "explainer": job.explainer.label,
            "metric": job.metric.label,
            "kind": entry.kind,
            "unit": entry.unit_of(options),
            "better": entry.direction(options),
        }
        self.frames.append(pd.DataFrame({**about, **frame, "status": status, "error": error, "flags": flags}))


def sample_frame(stage: Stage, scores: Scores) -> pd.DataFrame:
    """One row per sample: sample, target, prediction, label, groups, value, valid, tied, curve."""
    ids = list(stage.data.ids[: stage.count])
    if not len(ids) == len(scores.values) == stage.count:
        raise UserError(f"{len(ids)} ids and {len(scores.values)} scores came, expected one per sample ({stage.count})")
    curves = [None] * stage.count if scores.curves is None else scores.curves.tolist()
    tied = scores.tied if scores.tied is not None else torch.full((stage.count,), float("nan"))
    return pd.DataFrame(
        {
            "sample": ids,
            "target": stage.targets.numpy(),
            "prediction": _predicted_classes(stage),
            "label": _label_classes(stage),
            "groups": _groups(stage),
            "value": scores.values.numpy(),
            "valid": scores.values.isfinite().numpy(),
            "tied": tied.numpy(),
            "curve": curves,
        }
    )


def _predicted_classes(stage: Stage) -> list[int | None]:
    """The class that the model gives each sample; None where it has a single output, which is no class."""
    return stage.predictions.tolist() if stage.outputs.shape[1] > 1 else [None] * stage.count


def _label_classes(stage: Stage) -> list[int | None]:
    """The class the data says each sample is; None where it says none, or the model has a single output and no
    class."""
    labels = stage.labels
    unclassed = labels is None or labels.is_floating_point() or stage.outputs.shape[1] == 1
    return [None] * stage.count if unclassed else labels[: stage.count].tolist()


def _groups(stage: Stage) -> list[str | None]:
    """The groups that each sample is in, as JSON text: name of the division -> group."""
    divisions = stage.data.groups
    if not divisions:
        return [None] * stage.count
    return [json.dumps({name: of_sample[i] for name, of_sample in divisions.items()}) for i in range(stage.count)]


def config_text(plan: Plan) -> str:
    """The whole configuration of a block, options written out, as JSON."""
    named = lambda chosen: {each.label: each.identity for each in chosen}
    called = lambda each: {"label": each.label, **each.identity}
    return json.dumps(
        {
            "run": plan.run,
            "model": called(plan.model),
            "dataset": called(plan.dataset),
            "explainer": named(plan.explainers),
            "metric": named(plan.metrics),
            "protocol": vars(plan.protocol),
            "runtime": vars(plan.runtime),
        },
        indent=2,
        default=str,
    )
