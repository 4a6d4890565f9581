"""What shards and rounds share: each is a part of a block, a run of its own in a folder of the whole run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.jobs.finished import finished_rows
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.run_labels import labelled_in_run, rename_rows
from harness.jobs.runner import clear_places
from harness.results.announcements import clear_finished
from harness.results.part_folders import round_folders, shard_folders
from harness.results.store import Store


def whole_of(plan: Plan) -> Plan:
    """The plan of the run that a part belongs to; the plan itself if it is no part."""
    if not plan.is_part:
        return plan
    return replace(
        plan, runtime=replace(plan.runtime, shard=None), round=None, already_measured=frozenset(), outdated=frozenset()
    )


def measured_in_whole(whole: Plan, progress: Progress) -> tuple[Plan, Mapping[str, Mapping[str, Any]], frozenset[str]]:
    """The plan of a whole run under the labels of that run, its rows, and the ids of cells that need no measuring.

    If none does, finished rows get the labels that the user gives now; else they get them when a part is measured.
    """
    store = Store(whole.directory)
    clear_places(store)
    rows = finished_rows(store, whole.cells)
    whole = labelled_in_run(whole, store)
    pending = {cell.id for cell in whole.pending(rows)}
    if not pending:
        rename_rows(whole, store)
        clear_finished_parts(whole)
        progress.say(f"{whole.title}: all {len(whole.cells)} cells are done in {whole.place}; nothing to measure")
    return whole, rows, frozenset(cell.id for cell in whole.cells if cell.id not in pending)


def clear_finished_parts(whole: Plan) -> None:
    """Remove what killed processes have left of announcements in a run that has all cells of the plan, and in its
    parts."""
    for folder in (whole.directory, *shard_folders(whole.directory), *round_folders(whole.directory)):
        clear_finished(folder, {cell.id for cell in whole.cells})
