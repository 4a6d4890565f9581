"""Reads what each piece of the work on a block takes: time, passes of the model, and memory."""

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from harness.engine.block import Explained, Recorder, measure_block
from harness.engine.cost import PassCounter, synchronize
from harness.engine.selection import Cell, Chosen
from harness.engine.stage import Stage
from harness.jobs.charging import ChargingRecorder, Meter
from harness.jobs.forecast import Piece
from harness.messages import metered_by

EVERY_SECONDS = 0.05  # between two looks at the memory


class PieceRecorder:
    """A recorder that passes all results on and notes what each piece has taken.

    taken      piece -> array (3,): seconds, and inputs that passed forward and backward
    growth     explainer -> MiB by which the memory in use grew while it explained a batch; NaN if it is not known
    uncounted  explainers whose passes cannot all be counted
    """

    def __init__(self, recorder: Recorder, stage: Stage) -> None:
        self.recorder, self.stage = recorder, stage
        self.renewable = False  # a thread that is left at work is told, and does not end the calibration
        self.begins, self.scored, self.failed = recorder.begins, recorder.scored, recorder.failed
        self.taken: dict[Piece, np.ndarray] = {}
        self.growth: dict[str, float] = {}
        self.uncounted: set[str] = set()
        self._shared = self._warm_up = self._maps = np.zeros(3)

    def measure(self, cells: Sequence[Cell], *, alone: Any, warm_up: bool) -> None:
        """Measure the cells as a run does; ``alone`` and ``warm_up`` are those of ``measure_block``."""
        counter = PassCounter(self.stage.module, self.stage.predictor)
        self.meter = Meter(counter, self._note_shared, self._note_warm_up)
        with counter.counting(), metered_by(self.meter.apart):
            recorder = ChargingRecorder(self, self._charge, self._charge_maps)
            measure_block(self.stage, cells, recorder, alone=alone, warm_up=warm_up)
            self._charge(None)

    def explained(self, explainer: Chosen, explained: Explained) -> None:
        """Tell the maps of an explainer from its set-up, its warm-up and the checks."""
        name, costs = explainer.label, explained.costs
        total = lambda quantity: sum(float(getattr(cost, quantity).sum()) for cost in costs)
        maps = np.array([total("seconds"), total("forwards"), total("backwards")])
        set_up = np.array([float(costs[0].setup_seconds[0]), 0.0, 0.0])
        rest = self._maps - self._warm_up - set_up
        if not np.isfinite(maps).all():  # then all that was seen counts as the maps'
            self.uncounted.add(name)
            maps[1:] = rest[1:]
        parts = {"set-up": set_up, "warm-up": self._warm_up, "maps": maps, "checks": np.maximum(0, rest - maps)}
        self.taken |= {Piece(kind, name): taken for kind, taken in parts.items()}
        self.growth[name] = max(float(cost.peak_memory_mb.max()) for cost in costs)
        self._warm_up = np.zeros(3)
        self.recorder.explained(explainer, explained)

    def _charge(self, cell: Cell | None) -> None:
        piece = Piece("rest") if cell is None else Piece("scores", *cell.labels)
        self.taken[piece] = self.taken.get(piece, 0) + self._reading()
        self._warm_up = np.zeros(3)  # of an explainer that has failed: it belongs to its first cell

    def _charge_maps(self, explainer: Chosen) -> None:
        self._maps = self._reading()

    def _reading(self) -> np.ndarray:
        """What was taken since the last reading. The meter leaves passes out that are apart, and time of some."""
        taken = self.meter.reading() + self._shared + self._warm_up * (0, 1, 1)
        self._shared = np.zeros(3)
        return taken

    def _note_shared(self, key: str, taken: np.ndarray) -> None:
        self._shared = self._shared + taken  # the cell that asks first pays for it here, as it will in the run

    def _note_warm_up(self, taken: np.ndarray) -> None:
        self._warm_up = self._warm_up + taken


def pass_seconds(stage: Stage) -> float:
    """The seconds that one input takes forward through the model, in a full batch."""
    predictor = stage.predictor
    rows = stage.first()[: predictor.chunk]
    carried = {name: values[: len(rows)] for name, values in stage.first_carried().items()}
    predictor.logits(rows, carried)  # the first call takes longer
    synchronize(stage.device)
    started = time.perf_counter()
    predictor.logits(rows, carried)
    synchronize(stage.device)
    return (time.perf_counter() - started) / len(rows)


class MemoryWatch:
    """Looks at the memory again and again inside the ``with``.

    peak   the most GiB that the process held, NaN where the system does not tell; and what torch held of the GPU's
           memory, or None on a CPU
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak = device, (float("nan"), 0.0 if device.type == "cuda" else None)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory watch", daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        process, device = self.peak
        if device is not None:  # what was reserved is kept, so that looking now and then is enough
            device = max(device, torch.cuda.memory_reserved(self.device) / 2**30)
        self.peak = float(np.fmax(process, _resident_gib())), device


def _resident_gib() -> float:
    """The memory of this process, on Linux."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**30
    except OSError:
        return float("nan")
