"""Which cells of a plan are still to be measured, on which samples: of the whole block, or of its shards or rounds."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from harness.engine.stage import Stage
from harness.jobs.finished import finished_rows
from harness.jobs.forecast import Workload
from harness.jobs.part_rows import NoSamplesLeft, rows_of_round, rows_of_shard
from harness.jobs.plan import Plan
from harness.results.store import Store


def works_of(plan: Plan, stage: Stage) -> list[Workload]:
    """The work of each part in which cells are pending, of a block whose samples are those of ``stage``.

    ``plan`` is that of the whole run, or of one shard. Rounds are counted to the last sample, or to as many samples as
    cells of the run have already.
    """
    whole = replace(plan, runtime=replace(plan.runtime, shard=None))
    rows = finished_rows(Store(whole.directory))
    open_cells = {cell.id for cell in whole.pending(rows, stage.weights)}
    works = []
    for part, samples in _parts_of_plan(plan, stage, most=_settled(whole, rows, open_cells)):
        of_part = rows if part.directory == whole.directory else finished_rows(Store(part.directory))
        pending = [cell for cell in part.pending(of_part, stage.weights) if cell.id in open_cells]
        works.append(Workload(frozenset(cell.labels for cell in pending), samples))
    return [work for work in works if work.cells]


def _settled(whole: Plan, rows: dict, open_cells: Collection[str]) -> int:
    """The number of samples that finished cells of the run have; 0 if none is finished."""
    done = [rows[cell.id] for cell in whole.cells if cell.id in rows and cell.id not in open_cells]
    return max((int(row.get("n") or 0) + int(row.get("n_invalid") or 0) for row in done), default=0)


def _parts_of_plan(plan: Plan, stage: Stage, most: int) -> Iterator[tuple[Plan, int]]:
    """The plan of each part that the command would measure, with its number of samples."""
    if plan.protocol.rounds:
        yield from _rounds(plan, stage, most or stage.count)
    elif plan.runtime.shards == 1:
        yield plan, stage.count
    else:
        count, one = plan.runtime.shards, plan.runtime.shard
        for number in range(count) if one is None else [one]:
            shard = replace(plan, runtime=replace(plan.runtime, shard=number))
            yield shard, len(rows_of_shard(stage, number, count))


def _rounds(plan: Plan, stage: Stage, most: int) -> Iterator[tuple[Plan, int]]:
    number, samples = 0, 0
    while samples < most:
        try:
            own = len(rows_of_round(stage, number))
        except NoSamplesLeft:
            return
        yield replace(plan, round=number), own
        number, samples = number + 1, samples + own
