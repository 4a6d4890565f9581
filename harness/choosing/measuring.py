"""Measures explainers on some of the samples, and keeps account of what that takes.

A *part* is a set of samples with a name, such as ``race 9-16``. What has been measured of a part is kept: in memory, or
as cells of a run directory (``harness.choosing.kept``), from which the same command goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from harness.choosing.settings import Budget
from harness.engine.block import Recorder, measure_block
from harness.engine.cost import PassCounter
from harness.engine.selection import Cell, Chosen
from harness.engine.stage import Stage
from harness.engine.sub_stage import stage_of_samples
from harness.jobs.charging import MAPS, ChargingRecorder, Meter, of_explainer
from harness.jobs.recorders import FrameRecorder
from harness.messages import metered_by


@dataclass(frozen=True)
class Part:
    """Samples, by their places among all, that are measured together."""

    name: str
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class Measured:
    """What is known of one part.

    values     (explainer, metric) -> the scores (n,) of its samples; NaN where there is none
    problems   (explainer, metric) -> why there are no scores, ``failed: ...`` or ``not applicable: ...``
    audits     explainer -> what its self-checks found
    """

    values: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    problems: dict[tuple[str, str], str] = field(default_factory=dict)
    audits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def defined(self, metric: str) -> np.ndarray | None:
        """The samples (n,) bool of which any explainer has a score by a metric; None if none was scored by it."""
        known = [np.isfinite(values) for (_, name), values in self.values.items() if name == metric]
        return np.any(known, axis=0) if known else None

    def problem_of(self, explainer: str) -> str:
        """Why an explainer lacks scores; "" if it lacks none."""
        return next((reason for (name, _), reason in self.problems.items() if name == explainer), "")


class Keeper(Protocol):
    """Where measured cells are kept."""

    def cell(self, part: Part, explainer: Chosen, metric: Chosen) -> Cell:
        """The cell of an explainer and a metric on a part."""

    def pending(self, part: Part, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that have to be measured."""

    def recorder(self, part: Part, stage: Stage, cells: Sequence[Cell]) -> Recorder:
        """What records these cells of a part, measured on ``stage``."""

    def read(self, part: Part, cells: Sequence[Cell]) -> Measured:
        """What is known of these cells."""

    def charge(self, part: Part, cell: Cell | None, seconds: float, evaluations: float) -> None:
        """Note what measuring a cell has taken, before the cell is recorded; None: work that belongs to no cell."""

    def charge_for_all(self, cells: Sequence[Cell], key: str, seconds: float, evaluations: float) -> None:
        """Note what something has taken that is computed once for all of these cells, which are measured together."""

    def spent(self) -> tuple[float, float]:
        """The seconds and the model evaluations of all cells that have been read so far, whenever they were measured.

        A choice that goes on takes its steps again. So it decides at each of them as it did before, whatever was
        measured after that.
        """

    def note(self, name: str, value: Any) -> None:
        """Keep what does not follow from scores: the time of a pass, and which answers have been given."""

    def noted(self, name: str) -> Any:
        """The decision that was kept under a name; None if there is none."""


@dataclass
class Measuring:
    """Measures explainers on parts of a stage's samples.

    alone   whether no other run uses the device, so that timings are valid
    """

    stage: Stage
    keeper: Keeper
    budget: Budget
    alone: Any = True

    def measure(
        self, part: Part, explainers: Sequence[Chosen], metrics: Sequence[Chosen], *, audited: bool = False
    ) -> Measured:
        """Scores of explainers on a part, measured now where they are not known; ``audited`` also checks the maps."""
        cells = [self.keeper.cell(part, explainer, metric) for explainer in explainers for metric in metrics]
        pending = self.keeper.pending(part, cells)
        if pending:
            stage = stage_of_samples(self.stage, part.rows)
            with self._charged(part, cells) as charge:
                measure_block(
                    stage,
                    pending,
                    ChargingRecorder(self.keeper.recorder(part, stage, pending), *charge),
                    alone=self.alone,
                    warm_up=audited,
                    audited=audited,
                    more_to_come=True,
                )
        return self.keeper.read(part, cells)

    @contextmanager
    def _charged(self, part: Part, cells: Sequence[Cell]) -> Iterator[tuple[Callable[..., None], Callable[..., None]]]:
        """Gives functions that charge a cell, or none, and an explainer's maps, with what was done since the last."""
        counter = PassCounter(self.stage.module, self.stage.predictor)
        together = lambda key, taken: self.keeper.charge_for_all(cells, key, *_price(taken))
        # The time that is taken for nobody is in the reading of whoever is at work.
        for_none = lambda taken: self.keeper.charge(part, None, 0.0, _price(taken)[1])
        meter = Meter(counter, together, for_none)
        charge = lambda cell: self.keeper.charge(part, cell, *_price(meter.reading()))
        of_maps = lambda explainer: self.keeper.charge_for_all(
            of_explainer(explainer, cells), MAPS, *_price(meter.reading())
        )
        with counter.counting(), metered_by(meter.apart):
            try:
                yield charge, of_maps
            finally:
                charge(None)

    @property
    def left(self) -> float:
        """The share of the budget that is left; 1 without a budget."""
        return 1 - self.share_of_budget(*self.keeper.spent())

    def share_of_budget(self, seconds: float, evaluations: float) -> float:
        """What some work takes, as a share of the budget."""
        return max(seconds / self.budget.seconds, evaluations / self.budget.evaluations)


class InMemory:
    """Keeps what is measured in memory."""

    def __init__(self) -> None:
        self._recorders: dict[str, list[FrameRecorder]] = {}
        self._known: dict[str, Measured] = {}
        self._notes: dict[str, Any] = {}
        self._spent = np.zeros(2)

    def cell(self, part: Part, explainer: Chosen, metric: Chosen) -> Cell:
        """The cell, which has no id."""
        return Cell(explainer, metric)

    def pending(self, part: Part, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that have neither scores nor a reason for having none."""
        known = self._all(part)
        return [cell for cell in cells if cell.labels not in known.values and cell.labels not in known.problems]

    def recorder(self, part: Part, stage: Stage, cells: Sequence[Cell]) -> FrameRecorder:
        """A recorder that collects rows."""
        recorder = FrameRecorder()
        recorder.stage = stage
        self._recorders.setdefault(part.name, []).append(recorder)
        return recorder

    def read(self, part: Part, cells: Sequence[Cell]) -> Measured:
        """All that is known of the part: these cells are among it."""
        return self._all(part)

    def charge(self, part: Part, cell: Cell | None, seconds: float, evaluations: float) -> None:
        """Add to what has been spent."""
        self._spent += (seconds, evaluations)

    def charge_for_all(self, cells: Sequence[Cell], key: str, seconds: float, evaluations: float) -> None:
        """Add to what has been spent."""
        self._spent += (seconds, evaluations)

    def spent(self) -> tuple[float, float]:
        """The sums so far."""
        return float(self._spent[0]), float(self._spent[1])

    def note(self, name: str, value: Any) -> None:
        """Keep a decision."""
        self._notes[name] = value

    def noted(self, name: str) -> Any:
        """The decision that was kept, or None."""
        return self._notes.get(name)

    def _all(self, part: Part) -> Measured:
        known = self._known.setdefault(part.name, Measured())
        for recorder in self._recorders.pop(part.name, []):
            known.audits |= recorder.audits
            for frame in recorder.frames:
                first = frame.iloc[0]
                key = first["explainer"], first["metric"]
                if first["status"] == "ok":
                    known.values[key] = frame["value"].to_numpy(dtype=np.float64)
                else:
                    known.problems[key] = f"{first['status'].replace('_', ' ')}: {first['error']}"
        return known


def _price(taken: np.ndarray) -> tuple[float, float]:
    """Seconds and model evaluations: passes forward and backward together."""
    seconds, forwards, backwards = map(float, taken)
    return seconds, forwards + backwards
