"""Measures a block in rounds of samples, each as large as all before it, until the scores tell what was asked for.

The folder of a round is a run of its own, as that of a shard (``harness.jobs.shards``). After each round the intervals
of the first metric are looked at (``harness.results.precision``), and the differences of two explainers if
``protocol.apart`` names them (``harness.results.apart``). If all intervals are narrow enough, the two are told apart,
or no samples are left, the rounds are joined and written into the run. Cells that are added to a run later, or tried
again, get as many samples as its cells have.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.jobs.channel import Watched
from harness.jobs.finished import finished_rows, status_counts
from harness.jobs.part_rows import NoSamplesLeft, round_end
from harness.jobs.parts import measured_in_whole
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.run_labels import claimed_labels, rename_rows
from harness.jobs.runner import run_plan
from harness.results.apart import told_apart
from harness.results.merging import agree, merge_parts, outdated_cells
from harness.results.part_folders import round_folders
from harness.results.precision import widest_interval
from harness.results.statistics import NO_LIMITS, Limits, limits_in
from harness.results.store import Store, cell_scores

# What the scores say of a stopping criterion: it is met, further samples may meet it, or they cannot.
MET, OPEN, HOPELESS = "met", "open", "hopeless"


def run_rounds(plan: Plan, progress: Progress, in_sweep: bool, watched: Watched | None) -> dict[str, int]:
    """Measure a block in rounds; the numbers of its cells by status. Arguments and errors are those of ``run_plan``."""
    whole, rows, done = measured_in_whole(plan, progress)
    if len(done) == len(whole.cells):
        return status_counts(whole, rows)
    settled = max((_samples_of(rows[cell_id]) for cell_id in done if rows[cell_id]["status"] == "ok"), default=0)
    with claimed_labels(whole, Store(whole.directory)) as whole:
        rounds = _measured_rounds(replace(whole, already_measured=done), settled, progress, in_sweep, watched)
        rename_rows(whole, Store(whole.directory))
        new = {cell.id for cell in whole.cells} - done
        found = merge_parts(whole.directory, [each.directory for each in rounds], new)
    counts = status_counts(whole, finished_rows(Store(whole.directory)))
    unfinished = found.mixed + found.damaged + found.lacking
    if unfinished:
        progress.say(
            f"{unfinished} cells have rounds of different code or weights, or lack a round: the same command measures "
            "what is missing"
        )
    return {**counts, "failed": counts["failed"] + unfinished}


def _measured_rounds(
    plan: Plan, settled: int, progress: Progress, in_sweep: bool, watched: Watched | None
) -> list[Plan]:
    """Measure one round after the other; ``settled`` is the number of samples that the run has, or 0."""
    rounds: list[Plan] = []
    while not rounds or _goes_on(rounds, settled, progress):
        now = replace(plan, round=len(rounds))
        others = [folder for folder in round_folders(plan.directory) if folder != now.directory]
        now = replace(now, outdated=outdated_cells(now.directory, others))
        try:
            run_plan(now, progress, in_sweep=in_sweep, watched=watched)
        except NoSamplesLeft:
            break
        rounds.append(now)
    return rounds


def _samples_of(row: Mapping[str, Any]) -> int:
    return int(row.get("n") or 0) + int(row.get("n_invalid") or 0)


def _goes_on(rounds: list[Plan], settled: int, progress: Progress) -> bool:
    """Whether a further round is needed and possible; ``settled`` is the number of samples that the run has, or 0."""
    plan, planned = rounds[-1], round_end(len(rounds) - 1, rounds[-1].protocol.explain_batch)
    scores, limits = _scores_of_first_metric(rounds)
    count = max(map(len, scores.values()), default=planned)
    left = count == planned and count < (plan.protocol.samples or float("inf"))
    if settled:
        return left and count < settled
    metric = plan.metrics[0].label
    if not scores:
        progress.say(f"{metric} has no scores to judge by: no further round")
        return False
    criteria = []
    if plan.protocol.precision:
        criteria.append(_width_of_intervals(metric, scores, limits, plan.protocol.precision))
    if plan.protocol.apart:
        criteria.append(_order_of_two(plan, scores, limits))
    found = [state for state, _ in criteria]
    ended = MET in found or OPEN not in found
    then = "enough" if MET in found else "no further round" if ended else "a further round"
    told = "; ".join(words for _, words in criteria)
    progress.say(f"{count} samples: {told}: {then if left or ended else 'no samples are left'}")
    return left and not ended


def _width_of_intervals(
    metric: str, scores: Mapping[str, np.ndarray], limits: Limits, wanted: float
) -> tuple[str, str]:
    """Whether the intervals of all means are narrow enough, and in words."""
    name, half = widest_interval(scores, limits)
    words = f"the mean {metric} of {name} is known to within {half:.2g}, wanted {wanted:g}"
    return MET if half <= wanted else OPEN, words


def _order_of_two(plan: Plan, scores: Mapping[str, np.ndarray], limits: Limits) -> tuple[str, str]:
    """Whether the first metric shows which of the protocol's two explainers is better, and in words."""
    pair, metric = plan.protocol.apart, plan.metrics[0]
    for name in pair:
        if name not in scores:
            return HOPELESS, f"{name} has no scores by {metric.label} to be told apart by"
    higher = told_apart({name: scores[name] for name in pair}, limits if np.isfinite(limits).all() else None)
    if not higher:
        return OPEN, f"{pair[0]} and {pair[1]} are not told apart"
    lower = pair[1 - pair.index(higher)]
    better, worse = (higher, lower) if metric.entry.direction(metric.options) == "higher" else (lower, higher)
    return MET, f"{better} is better than {worse}"


def _scores_of_first_metric(rounds: list[Plan]) -> tuple[dict[str, np.ndarray], Limits]:
    """The scores of each explainer by the first metric, of the cells that are ok in all rounds; and their limits."""
    stores = [Store(each.directory) for each in rounds]
    rows, found, limits = [store.latest() for store in stores], {}, NO_LIMITS
    for cell in rounds[-1].cells:
        of_cell = [each.get(cell.id) for each in rows]
        complete = all(row is not None and row["status"] == "ok" for row in of_cell) and agree(of_cell)
        if cell.metric != rounds[-1].metrics[0] or not complete:
            continue
        parts = [cell_scores(store, cell.id)["value"].to_numpy(np.float64) for store in stores]
        found[cell.explainer.label], limits = np.concatenate(parts), limits_in(of_cell[0])
    return found, limits
