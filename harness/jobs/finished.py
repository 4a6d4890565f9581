"""Which cells of a run are finished, from its rows: nothing that measures is imported."""

from collections.abc import Collection, Mapping
from typing import Any

from harness.engine.selection import Cell
from harness.jobs.plan import Plan
from harness.results.store import Store


def finished_rows(store: Store, of: Collection[Cell] | None = None) -> dict[str, dict[str, Any]]:
    """The last row of each cell. An ok row is left out if its scores or tables are damaged or gone.

    With ``of``, only the scores and tables of these cells are examined.
    """
    wanted = None if of is None else {cell.id for cell in of}
    needs_scores = lambda row: row.get("status") == "ok" and (wanted is None or row["cell"] in wanted)
    return {cell_id: row for cell_id, row in store.latest().items() if not needs_scores(row) or not store.flaw(row)}


def status_counts(plan: Plan, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The numbers of a plan's cells by status: ``ok``, ``failed`` and ``not_applicable``."""
    counts = {"ok": 0, "failed": 0, "not_applicable": 0}
    for cell in plan.cells:
        status = rows.get(cell.id, {}).get("status")
        if status in counts:
            counts[status] += 1
    return counts
