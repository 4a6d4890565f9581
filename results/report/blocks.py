"""What a report is made of: the blocks of one or more runs, each a model on a data set under one protocol."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from harness.errors import printable
from harness.results.board import ARROWS, DIRECTIONS, Board
from harness.results.boards import TESTED, boards_of_run

SHOWN = (*TESTED, "target", "prediction", "label", "groups", "curve")  # the columns of the scores that a report needs


@dataclass(frozen=True, kw_only=True)
class ReportBlock(Board):
    """One block of one run: its board, and the results that the other sections of the report show.

    key        what its parts of the page are called
    """

    key: str
    run: str
    directory: Path

    def axis(self, metric: str) -> str:
        """An axis title: name, unit and direction."""
        unit = f" ({self.unit(metric)})" if self.unit(metric) not in ("", metric) else ""
        arrow = ARROWS.get(self.better(metric), "")
        return f"{metric}{unit} {arrow} {DIRECTIONS.get(self.better(metric), '')}".strip()

    @property
    def samples(self) -> int:
        """The number of samples that were measured."""
        return int(self.scores["sample"].nunique())


def blocks_of(directories: Sequence[Path]) -> list[ReportBlock]:
    """The blocks of runs, in their order; runs without cells have none."""
    boards = [(Path(directory), board) for directory in directories for board in boards_of_run(directory, SHOWN)]
    several = len(directories) > 1
    return [_report_block(f"b{place}", *each, several) for place, each in enumerate(boards)]


def _report_block(key: str, directory: Path, board: Board, several: bool) -> ReportBlock:
    own = {field.name: getattr(board, field.name) for field in fields(Board)}
    own["heading"] += f", run {printable(directory.name)}" if several else ""
    return ReportBlock(**own, key=key, run=directory.name, directory=directory)


def protocol_text(block: Board) -> str:
    """A block's protocol in a line: ``samples=30 seed=0 target=predicted``."""
    return " ".join(f"{name}={value}" for name, value in json.loads(block.protocol).items())
