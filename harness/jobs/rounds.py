"""Measures a block in rounds of samples, each as large as all before it, until the means are known precisely enough.

The folder of a round is a run of its own, as that of a shard (``harness.jobs.shards``). After each round the intervals
of the first metric are looked at (``harness.results.precision``). If all are narrow enough, or no samples are left, the
rounds are joined and written into the run.
"""

from dataclasses import replace

import numpy as np

from harness.engine.sub_stage import FIRST_ROUND, NoSamplesLeft
from harness.errors import UserError
from harness.jobs.channel import Watched
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.run_labels import labelled_in_run
from harness.jobs.runner import finished_rows, run_plan, status_counts
from harness.results.merging import merge_parts
from harness.results.precision import widest
from harness.results.store import Store, scores_of


def run_rounds(plan: Plan, progress: Progress, in_sweep: bool, watched: Watched | None) -> dict[str, int]:
    """Measure a block in rounds; the numbers of its cells by status. Arguments and errors are those of ``run_plan``."""
    if plan.runtime.shards > 1:
        raise UserError("protocol.precision came with runtime.shards, expected one of them: rounds are no shards")
    rows = finished_rows(Store(plan.directory))
    whole = labelled_in_run(plan, rows.values())
    pending = {job.cell for job in whole.pending(rows)}
    if not pending:
        progress.say(f"{whole.title}: all {len(whole.jobs)} cells are done in {whole.place}; nothing to measure")
        return status_counts(whole, rows)
    elsewhere = frozenset(job.cell for job in whole.jobs if job.cell not in pending)
    rounds: list[Plan] = []
    while True:
        now = replace(whole, elsewhere=elsewhere, round=len(rounds))
        try:
            run_plan(now, progress, in_sweep=in_sweep, watched=watched)
        except NoSamplesLeft:
            break
        rounds.append(now)
        if _is_last(rounds, progress):
            break
    merge_parts(whole.directory, [each.directory for each in rounds], pending)
    return status_counts(whole, finished_rows(Store(whole.directory)))


def _is_last(rounds: list[Plan], progress: Progress) -> bool:
    """Whether no further round is needed, or possible; says which."""
    plan = rounds[-1]
    scores, unit = _scores_of_first_metric(rounds)
    if not scores:
        progress.say(f"no score of {plan.metrics[0].label} to judge by: no further round")
        return True
    count = max(map(len, scores.values()))
    name, width = widest(scores, unit)
    metric, wanted = plan.metrics[0].label, plan.protocol.precision
    told = f"{count} samples: {metric} of {name} is known to {width:.2g}, aimed at {wanted:g}"
    if width <= plan.protocol.precision:
        progress.say(f"{told}: precise enough")
        return True
    at_once = plan.protocol.explain_batch
    full = count >= -(-FIRST_ROUND * 2 ** (len(rounds) - 1) // at_once) * at_once
    left = full and count != plan.protocol.samples
    progress.say(f"{told}: {'a further round' if left else 'no samples are left'}")
    return not left


def _scores_of_first_metric(rounds: list[Plan]) -> tuple[dict[str, np.ndarray], str]:
    """The scores of each explainer by the first metric, of the cells that are ok in all rounds; and their unit."""
    stores = [Store(each.directory) for each in rounds]
    rows, found, unit = [store.latest() for store in stores], {}, ""
    for job in rounds[-1].jobs:
        of_cell = [each.get(job.cell) for each in rows]
        if job.metric != rounds[-1].metrics[0] or any(row is None or row["status"] != "ok" for row in of_cell):
            continue
        parts = [scores_of(store, job.cell)["value"].to_numpy(np.float64) for store in stores]
        found[job.explainer.label], unit = np.concatenate(parts), of_cell[0]["unit"]
    return found, unit
