"""The progress of a run as lines of text, none wider than asked for. What comes from files is printed safely."""

import re
import time
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from harness.errors import printable
from harness.results.block_progress import BlockProgress, FailedCell, StateCounts
from harness.results.processes_at_work import UNANNOUNCED, ProcessAtWork
from harness.results.run_progress import RunProgress
from harness.results.terminal import in_lines
from harness.results.time_left import End

COLUMNS = ("cells", "done", "n/a", "failed", "left", "work left")
GAP, LEAST_TITLE = "  ", 12
MOST_PARTS, MOST_PROCESSES, MOST_REASONS = 8, 12, 5
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
STAGES = {
    "load": "loading model and data",
    "explain": "explaining with {explainer}",
    "score": "scoring {explainer} by {metric}",
    UNANNOUNCED: "writing rows, without telling what it measures",
}


def progress_lines(progress: RunProgress, width: int, height: int | None = None) -> list[str]:
    """The lines that show the progress; with a ``height`` that they exceed, finished blocks become one line."""
    lines = _all_lines(progress, width, fold=False)
    if height is not None and len(lines) > height:
        lines = _all_lines(progress, width, fold=True)
    return [_no_wider(line, width) for line in lines]


def _all_lines(progress: RunProgress, width: int, fold: bool) -> list[str]:
    parts = (
        _headline(progress, width),
        _lines_of_processes(progress),
        _table_of_blocks(progress, width, fold),
        _failures(progress),
        _further_lines(progress),
    )
    return [line for part in map(list, parts) if part for line in ("", *part)][1:]


def _headline(progress: RunProgress, width: int) -> Iterator[str]:
    counts = progress.counts
    yield f"{_clock(progress.now)}  {printable(progress.directory)}"
    yield f"{counts.cells - counts.left} of {_amount(counts.cells, 'cell')} measured{_measured_share(progress)}"
    yield from in_lines(f"end: {_end_told(progress.end, progress)}", width, "  ").splitlines()
    if progress.alive and progress.busy_end != progress.end:
        yield f"  of the blocks that are being measured: {_end_told(progress.busy_end, progress)}"


def _measured_share(progress: RunProgress) -> str:
    """The share of the cells that are measured, in words; those of shards count although they are not joined."""
    cells, measured = progress.counts.cells, sum(block.measured for block in progress.blocks)
    if not cells:
        return ""
    in_shards = measured != cells - progress.counts.left
    return f" ({int(100 * measured / cells)} %{' with those in shards' if in_shards else ''})"


def _end_told(end: End, progress: RunProgress) -> str:
    counts = progress.counts
    if not counts.cells:
        return "nothing is known yet: no configuration and no process tells which cells there are"
    if not counts.left:
        of_what = " of the jobs that have begun" if progress.sweep else ""
        return f"nothing is left{of_what}" + (f"; {_amount(counts.failed, 'cell')} failed" if counts.failed else "")
    if end.seconds is None:
        return f"unknown ({end.unknown})"
    if end.seconds < 1:
        return "soon, or what is being measured takes longer than the cells before it"
    told = f"in about {_lasting(end.seconds)}, {_clock(progress.now + end.seconds, progress.now)}"
    if not end.guessed:
        return told
    return f"{told}; a guess: nothing is measured of {_amount(end.guessed, 'block')}, expected to last like the others"


def _lines_of_processes(progress: RunProgress) -> Iterator[str]:
    """Who is at work, on two lines each."""
    if progress.counts.left or progress.alive:
        yield f"processes at work: {len(progress.alive)}"
    shown = [each for each in progress.processes if each.alive or progress.counts.left]
    for each in shown[:MOST_PROCESSES]:
        where = ", ".join(filter(None, (each.title, each.part)))
        yield f"  {_whereabouts(each)}: {where}"
        yield f"    {_activity_of(each, progress.now)}"
    yield from _and_more(shown, MOST_PROCESSES)


def _whereabouts(process: ProcessAtWork) -> str:
    return f"{process.machine}, process {process.process}" if process.process else "a process"


def _activity_of(process: ProcessAtWork, now: float) -> str:
    """What it measures and for how long, or that it is dead."""
    words = STAGES.get(process.stage, "between two pieces of work")
    doing = words.format(explainer=process.explainer, metric=process.metric)
    if process.state == "gone":
        return f"dead; its last work: {doing}"
    silent = f"last sign of life {_lasting(now - process.sign)} ago"
    if process.stage == UNANNOUNCED:
        return f"{doing}; {silent}"
    lasting = f"{doing}, for {_lasting(now - process.began)}"
    if process.state == "unknown":
        return f"{lasting}; {silent}" if process.alive else f"{silent}, so it does not count; its last work: {doing}"
    return lasting


def _table_of_blocks(progress: RunProgress, width: int, fold: bool) -> Iterator[str]:
    """The blocks, with the shards or rounds of those that are being measured."""
    rows = [("block", *COLUMNS), *_rows(progress, fold)]
    if len(rows) == 1:
        return
    columns = list(zip(*(row[1:] for row in rows), strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    room = width - sum(widths) - len(GAP) * len(widths)
    room = min(max(cell_len(row[0]) for row in rows), max(room, LEAST_TITLE))
    for number, (title, *texts) in enumerate(rows):
        numbers = "".join(f"{GAP}{text:>{wide}}" for text, wide in zip(texts, widths, strict=True))
        if cell_len(title) > room:
            yield from in_lines(title, width, "  ").splitlines()
            title = ""
        yield (set_cell_size(title, room) + numbers).rstrip()
        if number == 0:
            yield "─" * cell_len(set_cell_size(title, room) + numbers)


def _rows(progress: RunProgress, fold: bool) -> Iterator[tuple[str, ...]]:
    """The rows of the table: title and numbers."""
    finished = [block for block in progress.blocks if fold and not block.counts.left]
    if finished:
        yield _row_of_counts(f"{_amount(len(finished), 'finished block')}", _sum_of(finished), 0.0)
    for block in progress.blocks:
        if block.counts.left or not fold:
            yield _row_of_counts(block.title, block.counts, block.seconds, block.guessed)
            yield from _rows_of_parts(block)
    if len(progress.blocks) > 1:
        seconds, guessed = [block.seconds for block in progress.blocks], any(block.guessed for block in progress.blocks)
        yield _row_of_counts("all", progress.counts, None if None in seconds else sum(seconds), guessed)


def _rows_of_parts(block: BlockProgress) -> Iterator[tuple[str, ...]]:
    """Those shards or rounds that have begun and are not done, or have failed cells; and how many there are in all."""
    shown = [part for part in block.parts if part.begun and (part.counts.left or part.counts.failed)]
    for part in shown[:MOST_PARTS]:
        yield _row_of_counts(f"  {part.name}", part.counts, part.seconds, block.guessed)
    if block.parts:
        done, begun = sum(not part.counts.left for part in block.parts), sum(part.begun for part in block.parts)
        kind = block.parts[0].name.partition(" ")[0]
        yield (
            f"  of {_amount(len(block.parts), kind)} {done} done, {len(block.parts) - begun} not begun",
            *[""] * len(COLUMNS),
        )


def _row_of_counts(title: str, counts: StateCounts, seconds: float | None, guessed: bool = False) -> tuple[str, ...]:
    numbers = (counts.cells, counts.done, counts.not_applicable, counts.failed, counts.left)
    known = "unknown" if seconds is None else f"{'~ ' if guessed else ''}{_lasting(seconds)}"
    return title, *map(str, numbers), known if counts.left else ""


def _sum_of(blocks: Sequence[BlockProgress]) -> StateCounts:
    return sum((block.counts for block in blocks), StateCounts())


def _failures(progress: RunProgress) -> Iterator[str]:
    """Why cells have failed: the most frequent reasons, each with a cell that has it."""
    failures = [each for block in progress.blocks for each in block.failures]
    groups: dict[str, list[FailedCell]] = {}
    for each in failures:
        groups.setdefault(NUMBER.sub("#", each.error), []).append(each)  # times and addresses differ
    in_order = sorted(groups.values(), key=len, reverse=True)
    if failures:
        yield f"failed: {_amount(len(failures), 'cell')}"
    for group in in_order[:MOST_REASONS]:
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        yield f"  {group[0].explainer} by {group[0].metric}{more}:"
        yield f"    {group[0].error or 'no reason is known'}"
    yield from _and_more(in_order, MOST_REASONS)


def _further_lines(progress: RunProgress) -> Iterator[str]:
    busy = {each.block for each in progress.alive}
    idle = [block for block in progress.blocks if block.counts.left and block.block not in busy]
    if progress.alive and idle:
        left = _amount(_sum_of(idle).left, "cell")
        yield f"left, with nobody at work on them: {left} of {_amount(len(idle), 'block')}"
    if progress.others:
        jobs = " or earlier jobs of a sweep" if progress.sweep else ""
        yield f"not counted: {_amount(progress.others, 'cell')} of earlier commands{jobs}"
    if progress.damaged:
        lines = _amount(progress.damaged, "damaged line or file", "damaged lines and files")
        yield f"ignored: {lines} (harness verify names them)"
    if progress.sweep:
        yield "a sweep: its jobs that have not begun are not known"


def _and_more(shown: Sequence[object], most: int) -> Iterator[str]:
    if len(shown) > most:
        yield f"  and {len(shown) - most} more"


def _amount(number: int, one: str, several: str = "") -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def _lasting(seconds: float) -> str:
    """``40 s``, ``2 min 10 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def _clock(time_: float, now: float | None = None) -> str:
    """The local time; of the same day as ``now`` without the date."""
    moment = time.localtime(time_)
    same_day = now is not None and time.localtime(now)[:3] == moment[:3]
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M:%S", moment)


def _no_wider(line: str, width: int) -> str:
    """A line that is no wider than asked for."""
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"
