"""What has come of jobs, read from the rows in their runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.jobs.finished import finished_rows
from harness.jobs.ownership import write_owned_config
from harness.jobs.parts import whole_of
from harness.jobs.plan import Plan
from harness.jobs.recorders import config_text
from harness.results.store import Store

MISSING = "missing"
UNTIMED = "untimed"  # the cost of an explainer, measured while another run used the device
WORDS = ("ok", "not_applicable", "failed", UNTIMED, MISSING)


class RunRows:
    """The last row of each cell of runs, each of which is read once."""

    def __init__(self) -> None:
        self._rows = dict[Path, dict[str, dict[str, Any]]]()

    def of(self, directory: Path) -> Mapping[str, Mapping[str, Any]]:
        """The rows of the run in a folder."""
        if directory not in self._rows:
            self._rows[directory] = finished_rows(Store(directory))
        return self._rows[directory]


def counts_of_plan(plan: Plan) -> Counter[str]:
    """The numbers of a plan's cells with each status; of a shard, of its own cells."""
    return counts_of(cell_statuses(plan, RunRows()))


def cell_statuses(plan: Plan, runs: RunRows) -> dict[str, str]:
    """Id of a cell -> its status: ``untimed`` for a cost without a time, ``missing`` without a row of present code."""
    whole = whole_of(plan)
    rows = runs.of(whole.directory)
    if whole is not plan:
        rows = {**rows, **runs.of(plan.directory), **_current(whole, rows)}
    return {cell.id: _status_of(whole.state(cell, rows.get(cell.id)), rows.get(cell.id)) for cell in whole.cells}


def counts_of(statuses: Mapping[Any, str]) -> Counter[str]:
    """The number of cells with each status."""
    return Counter(statuses.values())


def has_work(plan: Plan, runs: RunRows, timed: bool) -> bool:
    """Whether the block of the plan has cells left to measure, even if the plan is a shard whose own cells are done.

    Without ``timed`` costs that lack only a time do not count.
    """
    whole = whole_of(plan)
    rows = runs.of(whole.directory)
    found = ((whole.state(cell, rows.get(cell.id)), rows.get(cell.id)) for cell in whole.pending(rows))
    return any(timed or _status_of(state, row) != UNTIMED for state, row in found)


def write_configs(wholes: Iterable[Plan]) -> None:
    """Save the configuration of each block, so that its run knows the cells of jobs that wait."""
    for whole in wholes:
        write_owned_config(Store(whole.directory), whole.name, config_text(whole))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """The numbers by status, those that are not 0."""
    return ", ".join(f"{counts[word]} {word.replace('_', ' ')}" for word in WORDS if counts.get(word)) or "no cells"


def wholes_of(plans: Iterable[Plan]) -> list[Plan]:
    """The blocks that the plans belong to, each once."""
    found = {(whole.directory, tuple(cell.id for cell in whole.cells)): whole for whole in map(whole_of, plans)}
    return list(found.values())


def _current(whole: Plan, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The rows of the whole block that need no measuring."""
    return {
        cell.id: rows[cell.id]
        for cell in whole.cells
        if cell.id in rows and whole.state(cell, rows[cell.id]) not in ("stale", "retry")
    }


def _status_of(state: str, row: Mapping[str, Any] | None) -> str:
    if row is None or state in ("new", "stale"):
        return MISSING
    return UNTIMED if state == "retry" and row["status"] == "ok" else str(row["status"])
