"""What a report is made of: the blocks of one or more runs, each a model on a data set under one protocol."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import pandas as pd

from harness.results.board import ARROWS, DIRECTIONS, Board, boards_of_run
from harness.results.family import all_pairs
from harness.results.matrices import Matrix
from harness.results.sanity import COLUMNS, GROUPS, verdicts_of_run
from harness.results.standing import standing


@dataclass(frozen=True, kw_only=True)
class ReportBlock(Board):
    """One block of one run: its board, and the results that the other sections of the report show.

    key        what its parts of the page are called
    verdicts   of the sanity checks, by explainer
    """

    key: str
    run: str
    directory: Path
    verdicts: pd.DataFrame

    def axis(self, metric: str) -> str:
        """An axis title: name, unit and direction."""
        unit = f" ({self.unit(metric)})" if self.unit(metric) not in ("", metric) else ""
        arrow = ARROWS.get(self.better(metric), "")
        return f"{metric}{unit} {arrow} {DIRECTIONS.get(self.better(metric), '')}".strip()

    @property
    def lacking(self) -> dict[str, int]:
        """Explainers with too few headline scores to be compared, and on how many samples they have one."""
        return self.matrices[self.headline].lacking

    @property
    def compared(self) -> Matrix:
        """The headline scores of the others, on the samples that all of them have."""
        return self.matrices[self.headline].compared

    @cached_property
    def standing(self) -> pd.DataFrame:
        """How each label stands against the best explainer and the best control by the headline metric."""
        if self.headline in self.tests:
            return self.tests[self.headline]
        return standing(all_pairs(self.compared), self.controls)

    @cached_property
    def sanity(self) -> pd.DataFrame:
        """The overall verdict on sanity by label: ``verdict`` and ``reason``."""
        overall = self.verdicts[self.verdicts["check"] == "overall"]
        labels = self.cells.drop_duplicates("label")[["label", "explainer"]]
        return labels.merge(overall, on="explainer", how="left").set_index("label")[["verdict", "reason"]]

    @property
    def samples(self) -> int:
        """The number of samples that were measured."""
        return int(self.scores["sample"].nunique())


def blocks_of(directories: Sequence[Path]) -> list[ReportBlock]:
    """The blocks of runs, in their order; runs without cells have none."""
    several = len(directories) > 1
    boards = [(Path(directory), board) for directory in directories for board in boards_of_run(directory)]
    verdicts = {directory: _sanity_of_run(directory, boards) for directory in {directory for directory, _ in boards}}
    return [
        _report_block(f"b{place}", directory, board, verdicts[directory], several)
        for place, (directory, board) in enumerate(boards)
    ]


def _report_block(key: str, directory: Path, board: Board, verdicts: pd.DataFrame, several: bool) -> ReportBlock:
    mine = (verdicts["model"] == board.model) & (verdicts["dataset"] == board.dataset)
    own = {field.name: getattr(board, field.name) for field in fields(Board)}
    own["heading"] += f", run {directory.name}" if several else ""
    return ReportBlock(
        **own,
        key=key,
        run=directory.name,
        directory=directory,
        verdicts=verdicts[mine & (verdicts["protocol"] == board.protocol)],
    )


def _sanity_of_run(directory: Path, boards: Sequence[tuple[Path, Board]]) -> pd.DataFrame:
    """The verdicts of a run; an empty table where no check was measured."""
    kinds = {kind for path, board in boards if path == directory for kind in board.cells["kind"]}
    return verdicts_of_run(directory) if "sanity" in kinds else pd.DataFrame(columns=[*GROUPS, *COLUMNS])


def protocol_text(block: Board) -> str:
    """A block's protocol in a line: ``samples=30 seed=0 target=predicted``."""
    return " ".join(f"{name}={value}" for name, value in json.loads(block.protocol).items())
