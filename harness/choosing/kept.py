"""Keeps what a choice measures in a run directory, so that a killed choice goes on, and a larger budget too.

runs/<run>/choosing/    cells and scores of each part, as in any run (``harness.results.store``)
                        spent.jsonl    seconds and model evaluations of each measurement
                        notes.json     decisions that do not follow from scores
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.choosing.measuring import Measured, Part
from harness.code_version import code_of
from harness.engine.selection import Chosen, Job
from harness.engine.stage import Stage
from harness.identity import cell_id, digest, files_of
from harness.jobs.channel import Watched
from harness.jobs.plan import Plan
from harness.jobs.recorders import RowRecorder
from harness.jobs.runner import finished_rows
from harness.places import file_name
from harness.results.disk import append_line, told_in_one_line, whole_file
from harness.results.store import Store

FOLDER = "choosing"


@dataclass
class PartPlan(Plan):
    """The plan of a choice, for some of its samples: their name is part of what a cell measures."""

    part: str = ""

    def identity(self, explainer: Chosen, metric: Chosen) -> dict[str, Any]:
        """All settings that the numbers of a cell depend on."""
        return {**super().identity(explainer, metric), "part": self.part}

    @property
    def name(self) -> str:
        """The name of the plan and of the part in file names."""
        return f"{super().name}-{file_name(self.part)}"

    def subject_code(self, explainer: Chosen) -> str:
        """As in ``Plan``; explainers that are made on the way, such as variants, are in no list."""
        code = code_of(explainer.entry.function, *self.model.functions)
        return digest(code, files_of(self.model.options), files_of(explainer.options))


class _Silent:
    """Stands in for the progress of a run: a choice tells of rounds, not of cells."""

    def explained(self, explainer: Chosen, explained: Any) -> None:
        """Nothing is said."""

    def cell(self, job: Job, row: dict[str, Any]) -> None:
        """Nothing is said."""


class InRun:
    """Keeps what is measured in the folder ``choosing`` of a run.

    tried   cells that this command has tried, in an earlier process or in this one: failed ones wait for the next
    """

    def __init__(self, plan: Plan, store: Store, stage: Stage, watched: Watched | None) -> None:
        self.plan, self.store, self.watched, self.weights = plan, store, watched, stage.weights
        self.tried = set(watched.tried if watched else ())
        self.rows = finished_rows(store)
        self._plans: dict[str, PartPlan] = {}
        self._values: dict[str, np.ndarray] = {}
        self._notes_path, self._spent_path = (store.directory / name for name in ("notes.json", "spent.jsonl"))
        self._notes = self._read_notes()
        self._spent = self._read_spent()

    def job(self, part: Part, explainer: Chosen, metric: Chosen) -> Job:
        """The cell of an explainer and a metric on a part."""
        return Job(explainer, metric, cell_id(self._plan_of(part).identity(explainer, metric)))

    def pending(self, part: Part, jobs: Sequence[Job]) -> list[Job]:
        """The cells without a usable row that this command has not tried."""
        plan, wanted = self._plan_of(part), ("new", "stale", "retry")
        state = lambda job: plan.state(job, self.rows.get(job.cell), self.weights)
        return [job for job in jobs if job.cell not in self.tried and state(job) in wanted]

    def recorder(self, part: Part, stage: Stage, jobs: Sequence[Job]) -> RowRecorder:
        """Writes rows and scores of the part."""
        self.tried |= {job.cell for job in jobs}
        for job in jobs:
            self._values.pop(job.cell, None)
        recorder = RowRecorder(self._plan_of(part), self.store, self.rows, _Silent(), self.watched)
        recorder.on(stage)
        return recorder

    def read(self, part: Part, jobs: Sequence[Job]) -> Measured:
        """What the rows of these cells say."""
        if any(job.cell in self.tried for job in jobs):
            self.rows = finished_rows(self.store)
        found = Measured()
        for job in jobs:
            key, row = (job.explainer.label, job.metric.label), self.rows.get(job.cell)
            if row is not None and row.get("status") == "ok":
                found.values[key] = self._scores(job.cell)
                found.audits.setdefault(job.explainer.label, row.get("audit") or {})
            else:
                row = row or {"status": "failed", "error": "its process ended"}
                found.problems[key] = f"{row['status'].replace('_', ' ')}: {row.get('error') or ''}"
        return found

    def charge(self, part: Part, seconds: float, evaluations: float) -> None:
        """Add a line to what has been spent."""
        self._spent += (seconds, evaluations)
        line = json.dumps({"part": part.name, "seconds": round(seconds, 3), "evaluations": evaluations}) + "\n"
        with told_in_one_line(self._spent_path, self.store.safe):
            self._spent_path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._spent_path, line.encode())

    def spent(self) -> tuple[float, float]:
        """The sums over all processes of this choice."""
        return float(self._spent[0]), float(self._spent[1])

    def note(self, name: str, value: Any) -> None:
        """Keep a decision on the disk."""
        self._notes[name] = value
        with whole_file(self._notes_path, self.store.safe) as path:
            path.write_text(json.dumps(self._notes, indent=1), encoding="utf-8")

    def noted(self, name: str) -> Any:
        """The decision that was kept, or None."""
        return self._notes.get(name)

    def _plan_of(self, part: Part) -> PartPlan:
        if part.name not in self._plans:
            plan = self.plan
            self._plans[part.name] = PartPlan(
                plan.model,
                plan.dataset,
                plan.explainers,
                plan.metrics,
                plan.protocol,
                replace(plan.runtime, retry=False),
                plan.run,
                part=part.name,
            )
        return self._plans[part.name]

    def _scores(self, cell: str) -> np.ndarray:
        if cell not in self._values:
            table = self.store.run_files.arrow_table(self.store.scores_path(cell))
            self._values[cell] = np.asarray(table["value"].to_numpy(), dtype=np.float64)
        return self._values[cell]

    def _read_notes(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            notes = json.loads(self._notes_path.read_text(encoding="utf-8"))
            return notes if isinstance(notes, dict) else {}
        return {}

    def _read_spent(self) -> np.ndarray:
        """The sums of all whole lines: a killed process leaves at most a torn last one."""
        total = np.zeros(2)
        with suppress(OSError):
            for line in self._spent_path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    total += (float(entry["seconds"]), float(entry["evaluations"]))
        return total
