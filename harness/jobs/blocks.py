"""Measures a block: at once, in shards or in rounds of samples."""

from dataclasses import replace

from harness.jobs.channel import Watched
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.runner import run_plan
from harness.jobs.sample_rounds import run_rounds
from harness.jobs.shards import run_shard


def run_block(
    plan: Plan, progress: Progress | None = None, *, in_sweep: bool = True, watched: Watched | None = None
) -> dict[str, int]:
    """Measure a block, or one shard of it, or all shards one after the other; the numbers of cells by status.

    Arguments and errors are those of ``harness.jobs.runner.run_plan``. Cells that not all shards have are counted by
    the last shard that this call has measured, which also says how many are ``unjoined`` and ``failed_here``.
    """
    progress = progress or Progress(plan.runtime.quiet)
    if plan.protocol.rounds:
        return run_rounds(plan, progress, in_sweep, watched)
    if plan.runtime.shards == 1:
        return run_plan(plan, progress, in_sweep=in_sweep, watched=watched)
    counts = {}
    for number in range(plan.runtime.shards) if plan.runtime.shard is None else [plan.runtime.shard]:
        counts = run_shard(replace(plan, runtime=replace(plan.runtime, shard=number)), progress, in_sweep, watched)
    return counts
