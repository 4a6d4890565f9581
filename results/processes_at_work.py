"""The processes at work on a run: which there are, on which machines, what each one measures and for how long."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.results.block_plans import CellPair
from harness.results.rows import SILENT_SECONDS
from harness.results.run_traces import FolderTraces, WorkTrace

UNANNOUNCED = "unannounced"  # the stage of a process that does not tell what it measures, as in a notebook


@dataclass(frozen=True)
class ProcessAtWork:
    """One process.

    machine, process   where it is: the name of the machine, and the number of the process there; "" if unknown
    state              ``alive``, ``gone``, or ``unknown`` on another machine
    alive              whether it counts as alive: it is, or it is on another machine and was not silent for an hour
    title, part        the block that it measures, and the shard or round ("" without)
    stage              ``load``, ``explain``, ``score``; "" between two pieces of work; or UNANNOUNCED
    explainer, metric  labels of what it measures; "" while a model is loaded, and of all metrics of an explainer
    began              when it began with that, in seconds since 1970
    sign               its last sign of life: an announcement or a row, in seconds since 1970
    block, folder      the settings of the block as text, and the folder of the run, shard or round
    pairs              the cells that it measures
    """

    machine: str
    process: str
    state: str
    alive: bool
    title: str
    part: str
    stage: str
    explainer: str
    metric: str
    began: float
    sign: float
    block: str
    folder: Path
    pairs: tuple[CellPair, ...]


def processes_in(folder: FolderTraces, part: str, titles: Mapping[str, str], now: float) -> Iterator[ProcessAtWork]:
    """The processes at work on a run, shard or round. ``titles`` are those of the blocks by their settings."""
    for work in folder.works.values():
        yield _announced(work, folder, part, titles, now)
    for machine, process, block, finished in folder.silent_writers():
        if now - finished < SILENT_SECONDS and block in titles:
            about = ("alive", True, titles[block], part, UNANNOUNCED, "", "")
            yield ProcessAtWork(machine, process, *about, finished, finished, block, folder.directory, ())


def counts_as_alive(work: WorkTrace, now: float) -> bool:
    """Whether a process is alive, as far as can be told."""
    return work.state == "alive" or (work.state == "unknown" and now - work.changed < SILENT_SECONDS)


def _announced(
    work: WorkTrace, folder: FolderTraces, part: str, titles: Mapping[str, str], now: float
) -> ProcessAtWork:
    block = work.current[0].block if work.current else next(reversed(work.labels), "")
    rows = folder.rows(block)
    finished = {each.pair: row.finished for each in work.current if (row := rows.get(each.pair)) is not None}
    pairs = [each.pair for each in work.current if finished.get(each.pair, 0.0) < work.started]
    sign = max([work.changed, *(time for time in finished.values() if time >= work.started)])
    explainer, metric = work.announced[block][pairs[0]] if pairs else ("", "")
    stage = work.stage if pairs else ""
    return ProcessAtWork(
        work.machine,
        work.process,
        work.state,
        counts_as_alive(work, now),
        titles.get(block, ""),
        part,
        stage,
        "" if stage == "load" else explainer,
        metric if stage == "score" else "",
        work.changed if pairs else sign,
        sign,
        block,
        folder.directory,
        tuple(pairs),
    )
