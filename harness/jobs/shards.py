"""Measures a shard of a block, some of its samples, in a folder of its own; the last shard joins all of them.

The folder of a shard is a run like any other, so that a shard resumes, retries and fails by itself. Which samples it
has is in ``harness.jobs.part_rows``, and how shards are joined in ``harness.results.merging``.
"""

from dataclasses import replace

from harness.jobs.channel import Watched
from harness.jobs.finished import finished_rows, status_counts
from harness.jobs.parts import measured_in_whole, whole_of
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.run_labels import claimed_labels, rename_rows
from harness.jobs.runner import run_plan
from harness.results.merging import Merged, merge_shards, outdated_cells
from harness.results.part_folders import shard_folders
from harness.results.store import Store


def run_shard(plan: Plan, progress: Progress, in_sweep: bool, watched: Watched | None) -> dict[str, int]:
    """Measure one shard and join what all shards have; the numbers of cells by status.

    ``unjoined`` is the number of those that all shards have, and that the run lacks all the same. ``failed_here``
    leaves those out that have failed in other shards alone, which may be measured again.
    """
    whole, rows, done = measured_in_whole(whole_of(plan), progress)
    if len(done) == len(whole.cells):
        return status_counts(whole, rows)
    with claimed_labels(whole, Store(whole.directory)) as whole:
        shard = replace(whole, runtime=plan.runtime, already_measured=done)
        others = [folder for folder in shard_folders(whole.directory) if folder != shard.directory]
        shard = replace(shard, outdated=outdated_cells(shard.directory, others))
        run_plan(shard, progress, in_sweep=in_sweep, watched=watched)
        rename_rows(whole, Store(whole.directory))
        found = merge_shards(whole.directory, whole.runtime.shards, {cell.id for cell in shard.cells})
    of_whole, of_shard = finished_rows(Store(whole.directory)), finished_rows(Store(shard.directory))
    current = [cell.id for cell in shard.cells if whole.state(cell, of_whole.get(cell.id)) not in ("new", "stale")]
    progress.say(_message(shard, found, len(done) + len(current), len(whole.cells)))
    joined = {cell_id: of_whole[cell_id] for cell_id in current}
    counts = status_counts(whole, rows | of_shard | joined)
    failed_here = status_counts(whole, rows | joined | of_shard)["failed"]
    return {**counts, "failed_here": failed_here, "unjoined": found.mixed + found.damaged}


def _message(shard: Plan, found: Merged, joined: int, cells: int) -> str:
    words = f"shard {shard.runtime.shard} of {shard.runtime.shards} is done; {joined} of {cells} cells have all shards"
    if found.mixed:
        words += (
            f"; the shards of {found.mixed} cells are of different code or weights: the same command measures the "
            "older ones again"
        )
    if found.damaged:
        words += f"; {found.damaged} cells have a shard whose files are damaged"
    return words
