"""Measures a block in parts: each shard has some of the samples, in a folder of its own, and the last one joins them.

The folder of a shard is a run like any other, so that a shard resumes, retries and fails by itself. Which samples it
has is in ``harness.engine.sub_stage.rows_of_shard``, and how shards are joined in ``harness.results.merging``.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.engine.selection import Job
from harness.jobs.channel import Watched
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.rounds import run_rounds
from harness.jobs.run_labels import labelled_in_run
from harness.jobs.runner import finished_rows, run_plan, status_counts
from harness.results.merging import Merged, merge_shards
from harness.results.store import Store


def run_block(
    plan: Plan, progress: Progress | None = None, *, in_sweep: bool = True, watched: Watched | None = None
) -> dict[str, int]:
    """Measure a block, or one shard of it, or all shards one after the other; the numbers of cells by status.

    Arguments and errors are those of ``harness.jobs.runner.run_plan``. A cell counts by its row in the run; until all
    shards have it, by that of the last shard that was measured here.
    """
    progress = progress or Progress(plan.runtime.quiet)
    if plan.protocol.precision:
        return run_rounds(plan, progress, in_sweep, watched)
    if plan.runtime.shards == 1:
        return run_plan(plan, progress, in_sweep=in_sweep, watched=watched)
    counts = {}
    for number in range(plan.runtime.shards) if plan.runtime.shard is None else [plan.runtime.shard]:
        shard = replace(plan, runtime=replace(plan.runtime, shard=number))
        counts = _run_shard(shard, progress, in_sweep, watched)
    return counts


def whole_of(plan: Plan) -> Plan:
    """The plan of the run that a shard belongs to; the plan itself if it is none."""
    if plan.runtime.shard is None:
        return plan
    return replace(plan, runtime=replace(plan.runtime, shard=None))


def _run_shard(plan: Plan, progress: Progress, in_sweep: bool, watched: Watched | None) -> dict[str, int]:
    rows = finished_rows(Store(whole_of(plan).directory))
    whole = labelled_in_run(whole_of(plan), rows.values())
    pending = {job.cell for job in whole.pending(rows)}
    if not pending:
        progress.say(f"{whole.title}: all {len(whole.jobs)} cells are done in {whole.place}; nothing to measure")
        return status_counts(whole, rows)
    elsewhere = frozenset(job.cell for job in whole.jobs if job.cell not in pending)
    shard = replace(plan, model=whole.model, dataset=whole.dataset, elsewhere=elsewhere)
    run_plan(shard, progress, in_sweep=in_sweep, watched=watched)
    found = merge_shards(whole.directory, whole.runtime.shards)
    of_whole = finished_rows(Store(whole.directory))
    joined = {job.cell: of_whole[job.cell] for job in shard.jobs if _is_current(whole, job, of_whole.get(job.cell))}
    progress.say(_in_words(shard, found, len(elsewhere) + len(joined), len(whole.jobs)))
    return status_counts(whole, rows | finished_rows(Store(shard.directory)) | joined)


def _is_current(plan: Plan, job: Job, row: Mapping[str, Any] | None) -> bool:
    """Whether a row is by the present code."""
    return plan.state(job, row) not in ("new", "stale")


def _in_words(shard: Plan, found: Merged, joined: int, cells: int) -> str:
    words = f"shard {shard.runtime.shard} of {shard.runtime.shards} is done; {joined} of {cells} cells have all shards"
    if found.mixed:
        words += (
            f"; the shards of {found.mixed} cells are of different code or weights: the same command measures the "
            "older ones again"
        )
    return words
