"""What measuring a block will take, by arithmetic from what a few of its samples have taken.

``harness.jobs.calibration`` measures the block on two or more small sets of samples. What each *piece* of the work has
taken, an array (3,) of seconds and of inputs that passed forward and backward, then follows a line: a cost that is paid
once, and a cost for each sample. Some pieces grow with something else than the number of samples:

- maps are made in batches, so that the samples of a full batch share the cost of a call;
- warm-up calls end with the first batch, and pictures with the last sample that is drawn;
- stochastic explainers explain some samples again under a second seed, at most 16 of however many.

Where passes of the model take most of the time, it grows as they do. They are counted, so that a machine that was
busier during one of the measurements does not bend the line.

Memory is the peak that was seen, and the further growth of the largest batch of maps. Nothing here knows a model, a
clock or a file.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.jobs.cost_lines import BatchLine, CostLine

GROWTH = 4  # a set of samples has about so many times the samples of the one before
# A calibration goes on for this many seconds, if they are at most half of what is predicted, or for this share of what
# is predicted; but never beyond the last number of seconds.
ENOUGH_SECONDS, SHARE, MOST_SECONDS = 30.0, 0.05, 300.0
# While the line is not known well, it may predict too little, and so end the calibration that would correct it. So some
# seconds are spent whatever it says, if the work would take twice as long were nothing of it paid once.
SECONDS_ANYWAY = 10.0
# A first measurement that takes no longer is made again: it imports, fills caches and makes the first calls.
MOST_SECONDS_TO_REPEAT = 15.0
# As long as less than this share of a measurement grows with the samples, its noise is multiplied by their number: then
# it goes on for this many seconds.
SETTLED, SECONDS_TO_SETTLE = 0.7, 90.0
CellLabels = tuple[str, str]  # of explainer and metric


@dataclass(frozen=True)
class Piece:
    """A part of the work on a block.

    kind   ``load`` (model and data), ``outputs`` (of the clean samples), ``set-up`` of an explainer, ``warm-up``,
           ``maps``, ``checks`` of the maps, ``scores``, ``pictures``, or ``rest``
    """

    kind: str
    explainer: str = ""
    metric: str = ""


@dataclass(frozen=True)
class Measurement:
    """What measuring a block on so many samples has taken.

    taken          piece -> array (3,): seconds, and inputs that passed forward and backward
    growth         explainer -> MiB by which the memory in use grew while it explained a batch; NaN if it is not known
    memory         peak GiB of the process, and of the device's memory or None
    score_bytes    bytes of the files of scores
    other_bytes    bytes of all other files of the run
    pass_seconds   seconds that one input takes through the model, in a full batch; 0 if it is not known
    """

    samples: int
    taken: Mapping[Piece, np.ndarray]
    growth: Mapping[str, float]
    memory: tuple[float, float | None]
    score_bytes: int
    other_bytes: int
    pass_seconds: float = 0.0


@dataclass(frozen=True)
class Shape:
    """What a block's costs depend on beside its number of samples.

    batch     samples that are explained in one call
    pictures  samples whose maps are kept for pictures
    repeated  (explainer, number of samples) -> how many of these it explains under a second seed
    """

    batch: int
    pictures: int
    repeated: Callable[[str, int], int]


@dataclass(frozen=True)
class Workload:
    """Cells to measure on some samples, in one process: a whole block, a shard or a round."""

    cells: frozenset[CellLabels]
    samples: int

    @property
    def explainers(self) -> set[str]:
        """The explainers of the cells."""
        return {explainer for explainer, _ in self.cells}


class Forecast:
    """What work on a block takes, by measurements on growing numbers of its samples."""

    def __init__(self, measurements: Sequence[Measurement], shape: Shape) -> None:
        self.measurements, self.shape = list(measurements), shape
        self.pieces = list(self.measurements[-1].taken)
        self.units: dict[str, Callable[[int], int]] = {  # of the kinds that end to grow
            "load": lambda samples: 1,
            "set-up": lambda samples: 1,
            "warm-up": lambda samples: min(samples, shape.batch),
            "pictures": lambda samples: min(samples, shape.pictures),
        }
        self.pass_seconds = self.measurements[-1].pass_seconds
        self.maps = {
            each.explainer: BatchLine.through(self._points([each]), shape.batch, self.pass_seconds)
            for each in self.pieces
            if each.kind == "maps"
        }

    def taken(self, work: Workload) -> np.ndarray:
        """Seconds and passes (3,) of the work; nothing if no cell is to be measured."""
        if not work.cells:
            return np.zeros(3)
        maps = sum((line.at(work.samples) for name, line in self.maps.items() if name in work.explainers), np.zeros(3))
        return self.paid_once(work) + maps + sum(line.each for line in self._growing(work)) * work.samples

    def paid_once(self, work: Workload) -> np.ndarray:
        """The part of it (3,) that does not grow with the number of samples, once there are many."""
        if not work.cells:
            return np.zeros(3)
        ended = sum(self._ended(kind, work.explainers, work.samples) for kind in self.units)
        again = sum((self._again(name, work.samples) for name in work.explainers), np.zeros(3))
        return ended + again + sum(line.once for line in self._growing(work))

    @property
    def settled(self) -> bool:
        """Whether most of the last measurement was for what grows with the number of samples."""
        last, cells = self.measurements[-1], {(e.explainer, e.metric) for e in self.pieces if e.kind == "scores"}
        work = Workload(frozenset(cells), last.samples)
        once = self.paid_once(work)[0] - self._ended("load", (), last.samples)[0]
        own = sum(float(taken[0]) for piece, taken in last.taken.items() if piece.kind != "load")
        return once <= (1 - SETTLED) * own

    def shares(self, works: Sequence[Workload]) -> dict[str, float]:
        """The share of the seconds that each explainer (``explaining NAME``) and metric (``scoring by NAME``) takes."""
        total = sum(float(self.taken(work)[0]) for work in works)
        seconds: dict[str, float] = {}
        for work in works:
            own = {f"explaining {name}": self._explaining(name, work.samples) for name in work.explainers}
            own |= {f"scoring by {name}": self._scoring(name, work) for name in {metric for _, metric in work.cells}}
            for name, taken in own.items():
                seconds[name] = seconds.get(name, 0.0) + float(taken[0])
        return {name: own / total for name, own in seconds.items()} if total else {}

    def memory(self, samples: int) -> tuple[float, float | None]:
        """Peak GiB of the process and of the device, for work on so many samples."""
        process, device = self.measurements[-1].memory
        seen, expected = [0.0], [0.0]
        for name in self.measurements[-1].growth:
            points = [
                (self.units["warm-up"](each.samples), np.array(each.growth[name]))
                for each in self.measurements
                if np.isfinite(each.growth.get(name, np.nan))
            ]
            if points:
                seen.append(float(points[-1][1]))
                expected.append(float(CostLine.through(points).at(self.units["warm-up"](samples))))
        further = max(0.0, max(expected) - max(seen)) / 1024
        return (process + further, None) if device is None else (process, device + further)

    def disk(self, works: Sequence[Workload]) -> float:
        """Bytes of the files after all the work. Scores of several parts are there twice, once in the joined run."""
        scores = CostLine.through([(each.samples, np.array(each.score_bytes)) for each in self.measurements])
        drawn = self.units["pictures"]
        others = CostLine.through([(drawn(each.samples), np.array(each.other_bytes)) for each in self.measurements])
        measured = max(1, sum(each.kind == "scores" for each in self.pieces))
        share = lambda work: len(work.cells) / measured
        total = sum(share(each) * float(scores.at(each.samples) + others.at(drawn(each.samples))) for each in works)
        if len(works) < 2:
            return total
        return total + max(map(share, works)) * float(scores.at(sum(each.samples for each in works)))

    def _growing(self, work: Workload) -> list[CostLine]:
        """The lines of what grows with the number of samples, but for the maps."""
        scores = [each for each in self.pieces if each.kind == "scores" and (each.explainer, each.metric) in work.cells]
        general = [each for each in self.pieces if each.kind in ("outputs", "rest")]
        lines = [self._line(self._points(pieces)) for pieces in (general, scores)]
        return [*lines, self._checks(work.explainers)]

    def _line(self, points: Sequence[tuple[int, np.ndarray]]) -> CostLine:
        return CostLine.through(points).steadied(points[-1][0], self.pass_seconds)

    def _checks(self, names: Collection[str]) -> CostLine:
        """The checks of maps, without the maps that are made again for them."""
        again = lambda samples: sum((self._again(name, samples) for name in names), np.zeros(3))
        points = self._points(self._of("checks", names))
        return self._line([(samples, np.maximum(0, taken - again(samples))) for samples, taken in points])

    def _again(self, name: str, samples: int) -> np.ndarray:
        """What an explainer takes to explain samples again under a second seed."""
        count = self.shape.repeated(name, samples) if name in self.maps else 0
        return self.maps[name].at(count) + self._ended("set-up", {name}, samples) if count else np.zeros(3)

    def _ended(self, kind: str, names: Collection[str], samples: int) -> np.ndarray:
        """What the pieces of a kind take that end to grow."""
        units = self.units[kind]
        points = [(units(each), taken) for each, taken in self._points(self._of(kind, names))]
        return CostLine.through(points).at(units(samples))

    def _explaining(self, name: str, samples: int) -> np.ndarray:
        ended = sum(self._ended(kind, {name}, samples) for kind in ("set-up", "warm-up"))
        maps = self.maps[name].at(samples) if name in self.maps else 0
        return ended + maps + self._again(name, samples) + self._checks({name}).at(samples)

    def _scoring(self, metric: str, work: Workload) -> np.ndarray:
        pieces = [e for e in self.pieces if e.metric == metric and (e.explainer, e.metric) in work.cells]
        return self._line(self._points(pieces)).at(work.samples)

    def _of(self, kind: str, names: Collection[str]) -> list[Piece]:
        """The pieces of a kind, of these explainers or of none."""
        return [each for each in self.pieces if each.kind == kind and (not each.explainer or each.explainer in names)]

    def _points(self, pieces: Sequence[Piece]) -> list[tuple[int, np.ndarray]]:
        """The number of samples of each measurement, with what these pieces have taken together.

        A piece that a smaller measurement lacks, since it failed there, counts in it by its share of the samples.
        """
        last = self.measurements[-1]
        of = lambda each, piece: each.taken.get(piece, last.taken[piece] * each.samples / last.samples)
        return [(each.samples, sum((of(each, one) for one in pieces), np.zeros(3))) for each in self.measurements]


def next_size(sizes: Sequence[int], samples: int, batch: int, seconds: float = 0.0) -> int | None:
    """The number of samples to measure after those of ``sizes``, of so many; None if there are too few for that.

    It is 1, 4 and then about four times as many, a multiple of a ``batch`` of the explainers from there on. More than
    half of the samples are measured only where there are no more than three. ``seconds`` is what the last measurement
    has taken: where a sample is very dear, 2 follow the first.
    """
    if not sizes:
        return 1 if samples else None
    if len(sizes) == 1:
        second = 2 if GROWTH * seconds > MOST_SECONDS else min(GROWTH, max(2, samples // 4))
        return second if samples > 1 else None
    wanted, most = GROWTH * sizes[-1], samples // 2
    if wanted >= batch:
        wanted = -(-wanted // batch) * batch
    if most >= batch:
        most = most // batch * batch
    size = min(wanted, most)
    return size if size >= 2 * sizes[-1] else None


def is_worth_it(spent: float, further: float, total: float, settled: bool, at_most: float) -> bool:
    """Whether a calibration that has taken ``spent`` seconds goes on for ``further`` ones, of work of ``total``.

    ``settled``: whether most of the last measurement was for what grows with the number of samples. ``at_most`` is what
    the work takes if all of it does.
    """
    enough = ENOUGH_SECONDS if settled else SECONDS_TO_SETTLE
    anyway = 0.0 if settled else min(SECONDS_ANYWAY, at_most / 2)
    return spent + further <= min(MOST_SECONDS, max(SHARE * total, min(enough, total / 2), anyway))


def warmed(cold: Measurement, warm: Measurement) -> tuple[Measurement, float]:
    """The second of two measurements of the same samples, and the seconds that the first one took longer.

    These are paid once by each process, and belong to its loading: a line through the cold measurement would rise too
    little.
    """
    own = lambda each: sum(float(taken[0]) for piece, taken in each.taken.items() if piece.kind != "load")
    further = max(0.0, own(cold) - own(warm))
    load = warm.taken[Piece("load")] + np.array([further, 0.0, 0.0])
    return replace(warm, taken={**warm.taken, Piece("load"): load}), further
