"""What measuring the pending cells of a job will take, and how long several devices need for several jobs."""

import heapq
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class JobEstimate:
    """What measuring the pending cells of one job will take.

    samples       number of samples of the block
    sizes         numbers of samples that were measured
    calibration   seconds that this has taken
    parts         seconds of each shard, or of the whole
    once          seconds that are paid once, whatever the number of samples is; of every part
    passes        inputs that pass forward and backward
    memory        peak GiB of the process, and of the device or None
    disk          bytes of the run's files
    dearest       (what, share of the seconds), the dearest first
    unmeasured    (status, number of cells, reason of the first) of cells that have no score in the calibration
    uncounted     explainers whose passes cannot be counted, so that there are more
    alone         whether no other run used the device meanwhile
    at_most       whether rounds may end earlier (``protocol.precision`` or ``apart``)
    shards        number of shards (``runtime.shards``)
    """

    title: str
    device: str
    cells: int
    samples: int
    sizes: list[int] = field(default_factory=list)
    calibration: float = 0.0
    parts: list[float] = field(default_factory=list)
    once: float = 0.0
    passes: tuple[int, int] = (0, 0)
    memory: tuple[float, float | None] = (0.0, None)
    disk: int = 0
    dearest: list[tuple[str, float]] = field(default_factory=list)
    unmeasured: list[tuple[str, int, str]] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    alone: bool = True
    at_most: bool = False
    shards: int = 1

    @property
    def seconds(self) -> float:
        """The seconds of all parts together."""
        return sum(self.parts)

    def facts(self) -> dict[str, Any]:
        """Its fields as plain values, from which ``JobEstimate(**facts)`` makes it again."""
        return asdict(self)


def wall_seconds(works: Iterable[float], devices: int) -> float:
    """The seconds until works of these lengths are done by so many devices, the longest begun first."""
    busy = [0.0] * devices
    for seconds in sorted(works, reverse=True):
        heapq.heapreplace(busy, busy[0] + seconds)
    return max(busy)
