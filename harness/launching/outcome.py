"""What has come of jobs, read from the rows in their runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harness.jobs.ownership import write_owned_config
from harness.jobs.parts import whole_of
from harness.jobs.plan import Plan
from harness.jobs.recorders import config_text
from harness.jobs.runner import finished_rows
from harness.results.store import Store

LACKING = "lacking"
WORDS = ("ok", "not_applicable", "failed", LACKING)


def counts_of_plan(plan: Plan) -> Counter[str]:
    """The numbers of a plan's cells that are ok, not applicable, failed, or lacking; of a shard, of its own cells."""
    return counts_of(cell_statuses(plan))


def cell_statuses(plan: Plan) -> dict[str, str]:
    """Cell -> its status, or ``lacking`` where the run has no row of the present code and weights."""
    whole = whole_of(plan)
    rows = finished_rows(Store(whole.directory))
    if whole is not plan:
        rows = {**finished_rows(Store(plan.directory)), **_current(whole, rows)}
    return {job.cell: _status_of(whole.state(job, rows.get(job.cell)), rows.get(job.cell)) for job in whole.jobs}


def counts_of(statuses: Mapping[Any, str]) -> Counter[str]:
    """The number of cells with each status."""
    return Counter(statuses.values())


def has_work(plan: Plan) -> bool:
    """Whether cells of the block that the plan belongs to are to be measured; a shard may have all its own."""
    whole = whole_of(plan)
    return bool(whole.pending(finished_rows(Store(whole.directory))))


def write_configs(wholes: Iterable[Plan]) -> None:
    """Save the configuration of each block, so that its run knows the cells of jobs that wait."""
    for whole in wholes:
        write_owned_config(Store(whole.directory), whole.name, config_text(whole))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """The numbers by status, those that are not 0."""
    return ", ".join(f"{counts[word]} {word.replace('_', ' ')}" for word in WORDS if counts.get(word)) or "no cells"


def wholes_of(plans: Iterable[Plan]) -> list[Plan]:
    """The blocks that the plans belong to, each once."""
    found = {(whole.directory, tuple(job.cell for job in whole.jobs)): whole for whole in map(whole_of, plans)}
    return list(found.values())


def _current(whole: Plan, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The rows of the whole block that need no measuring."""
    return {
        job.cell: rows[job.cell]
        for job in whole.jobs
        if job.cell in rows and whole.state(job, rows[job.cell]) not in ("stale", "retry")
    }


def _status_of(state: str, row: Mapping[str, Any] | None) -> str:
    return LACKING if row is None or state in ("new", "stale") else str(row["status"])
