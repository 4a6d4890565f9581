"""Keeps what a choice measures in a run directory, so that a killed choice goes on, and a larger budget too.

The files are described in ``harness.results.choice_files``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.choosing.account import Account, group_of
from harness.choosing.measuring import Measured, Part
from harness.choosing.signatures import SAMPLES, SIGNATURE, signature_of, with_twins
from harness.code_version import code_of
from harness.engine.block import Explained
from harness.engine.selection import Cell, Chosen
from harness.engine.stage import Stage
from harness.identity import cell_id, digest, files_of
from harness.jobs.channel import Watched
from harness.jobs.finished import finished_rows
from harness.jobs.plan import PENDING, Plan
from harness.jobs.recorders import RowRecorder
from harness.places import file_name
from harness.results.announcements import taken_by_force
from harness.results.choice_files import NOTES, SPENT
from harness.results.disk import told_in_one_line
from harness.results.run_files import name_damage, set_aside
from harness.results.store import Store
from harness.seals import Damaged


@dataclass
class PartPlan(Plan):
    """The plan of a choice, for some of its samples: their name is part of what a cell measures.

    codes   fingerprints of code by what they are of; all parts share them
    """

    part: str = ""
    codes: dict[Chosen, str] = field(default_factory=dict)

    def identity(self, explainer: Chosen, metric: Chosen) -> dict[str, Any]:
        """All settings that the numbers of a cell depend on."""
        return {**super().identity(explainer, metric), "part": self.part}

    @property
    def name(self) -> str:
        """The name of the plan and of the part in file names."""
        return f"{super().name}-{file_name(self.part)}"

    def stick(self, metric: Chosen) -> str:
        """As in ``Plan``; a choice has thousands of cells, and each needs it."""
        if metric not in self.codes:
            self.codes[metric] = super().stick(metric)
        return self.codes[metric]

    def subject_code(self, explainer: Chosen) -> str:
        """As in ``Plan``; explainers that are made on the way, such as variants, are in no list."""
        if explainer not in self.codes:
            code = code_of(explainer.entry.function, *self.model.functions)
            self.codes[explainer] = digest(code, files_of(self.model.options), files_of(explainer.options))
        return self.codes[explainer]


class _Silent:
    """Stands in for the progress of a run: a choice tells of rounds, not of cells."""

    def explained(self, explainer: Chosen, explained: Any) -> None:
        """Nothing is said."""

    def recorded(self, cell: Cell, row: dict[str, Any]) -> None:
        """Nothing is said."""


class CellRecorder(RowRecorder):
    """Writes the rows of a choice; those of an audit tell by some numbers which maps they are of."""

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Store what the self-checks have found, for the rows."""
        super().explained(explainer, explained)
        if explained.audit.found and not self.stage.ragged:
            maps = self.stage.units.reduce(explained.parts[0][:SAMPLES], self.stage.protocol.reduction)
            self.audits[explainer] |= {SIGNATURE: signature_of(maps)}


class InRun:
    """Keeps what is measured in the folder ``choosing`` of a run.

    question  tells choices apart that take different decisions: of another model, other candidates, another alpha
    alone     whether no other run uses the device: costs that another run has disturbed are then measured again
    tried     cells that this command has tried, in an earlier process or in this one: failed ones wait for the next
    suspects  explainers that were at work when an earlier command was killed: they come last, so that should it happen
              again, the others are measured
    """

    def __init__(
        self, plan: Plan, store: Store, stage: Stage, watched: Watched | None, *, question: str = "", alone: Any = True
    ) -> None:
        self.plan, self.store, self.watched, self.weights = plan, store, watched, stage.weights
        self.question, self.alone = question, alone
        self.tried = set(watched.tried_in(store.directory) if watched else ())
        self.suspects = {str(row.get("explainer")) for row in taken_by_force(store.directory)}
        self.rows = finished_rows(store)
        self.account = Account(store.directory / SPENT, store.safe)
        self._plans: dict[str, PartPlan] = {}
        self._codes: dict[Chosen, str] = {}
        self._values: dict[str, np.ndarray] = {}
        self._notes = self._read_notes()
        self._charge_lost_time()

    def cell(self, part: Part, explainer: Chosen, metric: Chosen) -> Cell:
        """The cell of an explainer and a metric on a part."""
        return Cell(explainer, metric, cell_id(self._plan_of(part).identity(explainer, metric)))

    def pending(self, part: Part, cells: Sequence[Cell]) -> list[Cell]:
        """The cells without a usable row that this command has not tried."""
        plan = self._plan_of(part)
        found = [cell for cell in cells if cell.id not in self.tried and self._is_wanted(plan, cell)]
        return sorted(found, key=lambda cell: cell.explainer.label in self.suspects)

    def _is_wanted(self, plan: PartPlan, cell: Cell) -> bool:
        """Whether a cell has to be measured: it has no row that can be used, or one of a disturbed cost."""
        row = self.rows.get(cell.id)
        state = plan.state(cell, row, self.weights)
        disturbed = state == "retry" and row.get("status") == "ok"
        return bool(self.alone) if disturbed else state in PENDING

    def recorder(self, part: Part, stage: Stage, cells: Sequence[Cell]) -> CellRecorder:
        """Writes rows and scores of the part."""
        self.tried |= {cell.id for cell in cells}
        for cell in cells:
            self._values.pop(cell.id, None)
        recorder = CellRecorder(self._plan_of(part), self.store, self.rows, _Silent(), self.watched)
        recorder.on(stage)
        return recorder

    def read(self, part: Part, cells: Sequence[Cell]) -> Measured:
        """What the rows of these cells say."""
        if any(cell.id in self.tried for cell in cells):
            self.rows = finished_rows(self.store)
        found = Measured()
        self.account.come_to_all(cells)
        for cell in cells:
            key, row = cell.labels, self.rows.get(cell.id)
            if row is not None and row.get("status") == "ok":
                found.values[key] = self._scores(cell)
                found.audits.setdefault(cell.explainer.label, row.get("audit") or {})
            else:
                row = row or {"status": "failed", "error": "its process ended"}
                found.problems[key] = f"{row['status'].replace('_', ' ')}: {row.get('error') or ''}"
        found.audits = with_twins(found.audits)
        return found

    def charge(self, part: Part, cell: Cell | None, seconds: float, evaluations: float) -> None:
        """Note what a cell has taken."""
        self.account.charge(part.name, cell.id if cell else None, seconds, evaluations)

    def charge_for_all(self, cells: Sequence[Cell], key: str, seconds: float, evaluations: float) -> None:
        """Note what something has taken that all of these cells share."""
        self.account.charge_for_all(group_of(cells), digest(key), seconds, evaluations)

    def spent(self) -> tuple[float, float]:
        """What the cells have taken that have been read so far."""
        return self.account.spent()

    def note(self, name: str, value: Any) -> None:
        """Keep a decision about this question on the disk."""
        self._notes.setdefault(self.question, {})[name] = value
        self.store.run_files.write_json(self.store.directory / NOTES, self._notes)

    def noted(self, name: str) -> Any:
        """The decision about this question that was kept, or None."""
        return self._notes.get(self.question, {}).get(name)

    def _charge_lost_time(self) -> None:
        """Charge the cells whose process was ended with the time that they took, which their rows tell."""
        for measured_id, row in self.rows.items():
            if row.get("status") == "failed" and row.get("seconds") and not self.account.knows(measured_id):
                self.account.charge("", measured_id, float(row["seconds"]), 0.0)

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
                codes=self._codes,
            )
        return self._plans[part.name]

    def _scores(self, cell: Cell) -> np.ndarray:
        if cell.id not in self._values:
            table = self.store.run_files.arrow_table(self.store.scores_path(cell.id))
            self._values[cell.id] = np.asarray(table["value"].to_numpy(), dtype=np.float64)
        return self._values[cell.id]

    def _read_notes(self) -> dict[str, dict[str, Any]]:
        path = self.store.directory / NOTES
        if not path.exists():
            return {}
        try:
            return self.store.run_files.json(path)
        except Damaged as error:
            name_damage(path, error, "its decisions are taken again")
            with told_in_one_line(path, self.store.safe):
                set_aside(path)
            return {}
