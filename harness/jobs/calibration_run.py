"""A temporary run on few samples of a block, whose pieces are timed and counted."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.engine.cost import synchronize
from harness.engine.selection import Cell, Chosen
from harness.engine.stage import Stage
from harness.engine.sub_stage import part_of_stage
from harness.errors import UserError
from harness.jobs.channel import Watched
from harness.jobs.forecast import Measurement, Piece
from harness.jobs.map_recorder import Sheet
from harness.jobs.pieces import MemoryWatch, PieceRecorder, pass_seconds
from harness.jobs.plan import Plan
from harness.jobs.recorders import RowRecorder
from harness.messages import now_and_then
from harness.results.store import Store

RUN = "calibration"  # its name


class SmallRun:
    """Measures cells of a plan on some samples, again and again, into a run in ``folder``.

    loading     seconds that loading model and data has taken
    uncounted   explainers whose passes cannot all be counted
    """

    def __init__(self, plan: Plan, folder: Path, watched: Watched | None) -> None:
        # A whole run, which writes no outputs of the model into the user's cache.
        own = replace(plan.runtime, runs=str(folder), shard=None, shards=1, outputs=None)
        self.plan, self.watched = replace(plan, runtime=own, run=RUN), watched
        self.store = Store(self.plan.directory)
        self.loading, self.uncounted = 0.0, set[str]()

    def recorder(self, count: int = 0, words: str = "") -> RowRecorder:
        """What writes the rows; now and then it says how many of a ``count`` of cells are done."""
        return RowRecorder(self.plan, self.store, {}, _Steps(count, words), self.watched)

    def measure(self, stage: Stage, size: int, cells: Sequence[Cell], alone: Any) -> Measurement:
        """Measure the cells on so many of a stage's samples. ``alone``: whether no other run uses the device."""
        rows_before = self._bytes()["cells"]
        with MemoryWatch(stage.device) as memory:
            started = time.perf_counter()
            few = _some_samples(stage, size, self.plan.runtime.compile)
            compiling = few.predictor.variant.get("compile_seconds", 0.0)
            outputs = time.perf_counter() - started - compiling
            of_pass = [pass_seconds(stage)]
            recorder = self.recorder(len(cells), f"cells on {size} samples")
            recorder.on(few)
            sheet = Sheet(self.plan, few, recorder)
            pieces = PieceRecorder(sheet, few)
            pieces.measure(cells, alone=alone, warm_up=self.plan.runtime.warm_up)
            of_pass.append(pass_seconds(stage))  # once more: the machine may be busier by now
            started = time.perf_counter()
            _draw_pictures(sheet)
            pictures = time.perf_counter() - started
        self.uncounted |= pieces.uncounted
        own = {"load": (self.loading + compiling, 0, 0), "outputs": (outputs, size, 0), "pictures": (pictures, 0, 0)}
        taken = pieces.taken | {Piece(kind): np.array(each, dtype=np.float64) for kind, each in own.items()}
        sizes = self._bytes()
        others = sum(sizes.values()) - sizes["scores"] - rows_before
        files = sizes["scores"], others
        return Measurement(size, taken, pieces.growth, memory.peak, *files, sum(of_pass) / len(of_pass))

    def unmeasured(self) -> list[tuple[str, int, str]]:
        """Cells without scores: ``failed``, ``not_applicable`` or ``no_score``, their number, the first reason."""
        found: dict[str, list[str]] = {"failed": [], "not_applicable": [], "no_score": []}
        for row in self.store.latest(named=False).values():
            scored = row["status"] == "ok" and (row["n"] or row["kind"] == "cost")
            if not scored:
                reasons = found["no_score" if row["status"] == "ok" else row["status"]]
                reasons.append(f"{row['explainer']} by {row['metric']}: {row['error']}")
        return [(status, len(reasons), reasons[0]) for status, reasons in found.items() if reasons]

    def _bytes(self) -> Counter[str]:
        """Bytes of the files by folder; what is announced in ``working`` is gone after a run."""
        found: Counter[str] = Counter()
        for path in self.store.directory.rglob("*"):
            if path.is_file():
                found[path.relative_to(self.store.directory).parts[0]] += path.stat().st_size
        found.pop("working", None)
        return found


class _Steps:
    """Stands in for the progress of a run: says now and then how many cells are done."""

    def __init__(self, count: int, words: str) -> None:
        self.count, self.words, self.done, self.tell = count, words, 0, now_and_then()

    def explained(self, explainer: Chosen, explained: Any) -> None:
        """Nothing is said."""

    def recorded(self, cell: Cell, row: dict[str, Any]) -> None:
        """A cell has been measured."""
        self.done += 1
        self.tell(f"{'':>9}{self.done} of {self.count} {self.words}")


def _some_samples(stage: Stage, size: int, compiled: bool) -> Stage:
    """Samples that are spread over all: what lies side by side may be alike, as texts of one length."""
    step = stage.count // size
    few = part_of_stage(stage, range(0, step * size, step))
    few.make_ready(compiled=compiled)
    synchronize(stage.device)
    return few


def _draw_pictures(sheet: Sheet) -> None:
    """Write the index of the maps and draw the picture, as a run does at its end."""
    with suppress(UserError, OSError):  # a missing picture is no failure of a run
        sheet.index()
        sheet.draw()
