"""The text of ``harness plan --estimate``: a table with a row for each block, and what to know of it in lines."""

import math
from collections.abc import Iterator, Sequence

from harness.jobs.job_estimate import JobEstimate, wall_seconds
from harness.results.numbers import one_figure, significant

DAY = 86_400.0  # seconds
DEVICES = (1, 2, 4, 8)
HEADS = ("block", "cells", "samples", "forward", "backward", "device time", "paid once", "memory", "GPU memory", "disk")
NO_SCORES = {
    "failed": "failed on these samples",
    "not_applicable": "cannot be measured here (not applicable)",
    "no_score": "without a score of any of these samples",
}


def estimate_lines(jobs: Sequence[JobEstimate]) -> Iterator[str]:
    """The table of all jobs, and then a line for each thing to know."""
    yield f"estimate, on {', '.join(dict.fromkeys(each.device for each in jobs))}"
    yield from _aligned_rows(jobs)
    yield _how(jobs)
    for job in jobs:
        for line in _notes(job):
            yield f"{job.title}: {line}" if len(jobs) > 1 else line
    yield from _devices(jobs)
    yield from _warning(jobs)


def time_in_words(seconds: float) -> str:
    """``0.412 s``, ``95 s``, ``12.3 min`` or ``31.5 h``."""
    for unit, length in (("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{significant(seconds / length)} {unit}"
    return f"{significant(seconds)} s"


def size_in_words(count: float) -> str:
    """A number of bytes: ``812 kB``, ``3.40 MB``."""
    for unit, length in (("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{significant(count / length)} {unit}"
    return f"{math.ceil(count / 1e3)} kB"


def _aligned_rows(jobs: Sequence[JobEstimate]) -> list[str]:
    rows = [_cells_of(each) for each in jobs]
    if len(jobs) > 1:
        rows.append(_cells_of_all(jobs))
    rows = [list(HEADS), *rows]
    shown = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in shown]
    align = lambda text, width, first: text.ljust(width) if first else text.rjust(width)
    return [
        "  ".join(align(column[i], width, column is shown[0]) for column, width in zip(shown, widths, strict=True))
        for i in range(len(rows))
    ]


def _cells_of(job: JobEstimate) -> list[str]:
    if not job.sizes:  # nothing of it can be measured
        return [job.title, f"{job.cells:,}", *[""] * (len(HEADS) - 2)]
    process, device = job.memory
    at_least = "> " if job.uncounted else ""
    return [
        job.title,
        f"{job.cells:,}",
        f"{job.samples:,}",
        *(f"{at_least}{passes:,}" for passes in job.passes),
        time_in_words(job.seconds),
        time_in_words(job.once),
        "?" if math.isnan(process) else f"{process:.1f} GiB",
        "" if device is None else f"{device:.1f} GiB",
        size_in_words(job.disk),
    ]


def _cells_of_all(jobs: Sequence[JobEstimate]) -> list[str]:
    total = lambda values: f"{sum(values):,}"
    return [
        f"all {len(jobs)} jobs",
        total(job.cells for job in jobs),
        "",
        *(total(job.passes[which] for job in jobs) for which in (0, 1)),
        time_in_words(sum(job.seconds for job in jobs)),
        time_in_words(sum(job.once for job in jobs)),
        "",
        "",
        size_in_words(sum(job.disk for job in jobs)),
    ]


def _how(jobs: Sequence[JobEstimate]) -> str:
    taken = time_in_words(sum(job.calibration for job in jobs))
    return f"forward and backward: inputs that pass through the model; measuring a few samples took {taken}"


def _notes(job: JobEstimate) -> Iterator[str]:
    """What to know of a job's estimate."""
    if job.sizes:
        *others, last = map(str, job.sizes)
        yield f"measured on {' and '.join(filter(None, [', '.join(others), last]))} of {job.samples:,} samples"
    if job.dearest:
        yield "most time: " + ", ".join(f"{what} {100 * share:.0f} %" for what, share in job.dearest)
    for status, count, reason in job.unmeasured:
        yield f"{count} {'cell' if count == 1 else 'cells'} {NO_SCORES[status]}; the first is {reason}"
    if job.uncounted:
        yield f"not all passes of {', '.join(job.uncounted)} can be counted: there are more"
    if not job.alone:
        yield "another run used the device meanwhile: times may be too long"
    if job.at_most:
        yield "upper bound: rounds may end earlier"
    if job.shards > 1 and job.parts:
        yield f"{len(job.parts)} shards of {_from_to(job.parts)}"


def _from_to(parts: Sequence[float]) -> str:
    least, most = time_in_words(min(parts)), time_in_words(max(parts))
    return least if least == most else f"{least} to {most}"


def parallel_seconds(jobs: Sequence[JobEstimate]) -> list[float]:
    """The seconds of all that devices can do side by side: shards and jobs; rounds follow each other."""
    return [seconds for job in jobs for seconds in (job.parts if job.shards > 1 else [job.seconds])]


def _devices(jobs: Sequence[JobEstimate]) -> Iterator[str]:
    """The wall time with several devices."""
    works = parallel_seconds(jobs)
    if len(works) < 2:
        return
    told = [f"{time_in_words(wall_seconds(works, count))} on {count}" for count in DEVICES]
    yield f"wall time by number of devices: {', '.join(told)}; the longest part takes {time_in_words(max(works))}"


def _warning(jobs: Sequence[JobEstimate]) -> Iterator[str]:
    """What to do about a plan that takes more than a day on one device."""
    total = sum(job.seconds for job in jobs)
    if total <= DAY:
        return
    samples = _samples_in_a_day(jobs)
    advice = [f"protocol.samples={samples} takes about a day"] if samples else []
    if not any(job.at_most for job in jobs):
        advice.append("protocol.precision=0.02 ends when the means are known that precisely")
    if not any(job.shards > 1 for job in jobs):
        advice.append("runtime.shards=8 cuts the samples for 8 devices")
    yield f"warning: {time_in_words(total)} on one device is more than a day; {'; '.join(advice) or 'use more devices'}"


def _samples_in_a_day(jobs: Sequence[JobEstimate]) -> int:
    """The samples of each job that take a day; 0 if not even one does."""
    once = sum(job.once for job in jobs)
    each = sum((job.seconds - job.once) / job.samples for job in jobs if job.samples)
    samples = (DAY - once) / each if each > 0 else 0.0
    return int(one_figure(samples, up=False)) if samples >= 1 else 0
