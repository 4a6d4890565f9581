"""How long the cells that are left will take, from what the cells that are measured have taken."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.results.block_plans import CellPair
from harness.results.run_traces import CellRow


class Pace:
    """Seconds of one process per cell of a block.

    A cell is expected to take the mean of the same cell in other shards and rounds; else the mean of the cells of its
    metric; else that of all cells of the block; and nothing is known without a cell.

    known  whether there is a cell that tells it
    """

    def __init__(self, measured: Iterable[tuple[CellPair, CellRow]]) -> None:
        of_pair, of_metric = defaultdict(list), defaultdict(list)
        for pair, row in measured:
            if row.took is not None:
                of_pair[pair].append(row.took)
                of_metric[pair.metric].append(row.took)
        self._of_pair = {pair: _mean(seconds) for pair, seconds in of_pair.items()}
        self._of_metric = {metric: _mean(seconds) for metric, seconds in of_metric.items()}
        self._of_all = _mean([each for seconds in of_metric.values() for each in seconds]) if of_metric else None
        self.known = self._of_all is not None

    def seconds(self, pairs: Iterable[CellPair]) -> float | None:
        """The expected seconds of some cells together; None if nothing is known; 0 for no cells."""
        pairs = list(pairs)
        if pairs and self._of_all is None:
            return None
        return sum(self._of_pair.get(pair, self._of_metric.get(pair.metric, self._of_all)) for pair in pairs)


@dataclass(frozen=True)
class End:
    """When nothing will be left.

    seconds  until then; None if it is not known
    unknown  why it is not known, in words
    guessed  number of blocks of which nothing is measured, so that it is guessed from other blocks what they take
    """

    seconds: float | None
    unknown: str = ""
    guessed: int = 0


def expected_end(portions: Sequence[float | None], processes: int, unknown: str) -> End:
    """The end of ``portions``, each of which one process measures at a time, in seconds.

    The processes share the portions evenly, and none ends before the longest of them. ``unknown`` says why a portion is
    None.
    """
    if not portions:
        return End(0.0)
    if None in portions:
        return End(None, unknown)
    if not processes:
        return End(None, "no process is at work")
    return End(max(sum(portions) / processes, *portions))


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds)
