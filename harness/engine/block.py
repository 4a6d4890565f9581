"""One block: a model and data with several explainers and metrics, measured cell by cell.

It knows nothing of configuration or files: what is wanted comes in as a list of jobs, what is found goes out to a
recorder, so that a run directory, a notebook and a test are served by the same code.
"""

import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.engine.audit import Audit, Auditor, Trial
from harness.engine.cost import Cost, explain_measured, timed_setup
from harness.engine.explain import Explaining
from harness.engine.memo import Memo, Shelf
from harness.engine.score import join_scores, score_batch
from harness.engine.selection import Chosen, Job
from harness.engine.stage import Stage
from harness.errors import NotApplicable, one_line
from harness.facts import Facts
from harness.guards import ModelChanged, ModelGuard, isolated_randomness
from harness.samples import Samples

SPILL_BYTES = 16 * 2**20
CHEAP_WARM_UP_SECONDS = 0.5


class Recorder(Protocol):
    """Where a block's results go."""

    def scored(self, job: Job, scores: Scores, valid: Tensor, flags: list[str], seconds: float) -> None:
        """A finished cell: scores of all samples (NaN where invalid), which were scored, and what is to be known of
        it."""

    def failed(self, job: Job, status: str, stage: str, error: BaseException, trace: str) -> None:
        """A cell without scores: status ``failed`` or ``not_applicable``, at which stage, and why."""

    def explained(self, explainer: Chosen, explained: "Explained") -> None:
        """An explainer's attributions are there."""


@dataclass
class Explained:
    """One explainer's attributions of all samples, with their cost; large ones lie in a temporary file.

    valid   (N,) bool, where an attribution is finite
    audit   what the explainer told of its work, and what it shows of itself
    owns    a memo per chunk, for what several metrics need of this explainer
    memo    the same for all chunks together
    """

    explaining: Explaining
    parts: list[Tensor]
    costs: list[Cost]
    valid: Tensor
    audit: Audit
    owns: list[Memo]
    memo: Memo

    @property
    def flags(self) -> list[str]:
        """What a reader of the scores should know."""
        return self.audit.flags


@dataclass(frozen=True)
class Failure:
    """Why there are no attributions, with the trace."""

    error: BaseException
    trace: str


def measure_block(stage: Stage, jobs: Sequence[Job], recorder: Recorder, *, alone: bool, warm_up: bool = True) -> None:
    """Explain and score every job, explainer by explainer; a failure becomes a record and the rest goes on."""
    guard, explainers = ModelGuard(stage.module), list(dict.fromkeys(job.explainer for job in jobs))
    for chosen, explained in explain_each(stage, explainers, guard, alone=alone, warm_up=warm_up):
        mine = [job for job in jobs if job.explainer == chosen]
        if isinstance(explained, Failure):
            _record_failure(recorder, mine, "explain", explained)
            continue
        recorder.explained(chosen, explained)
        for job in mine:
            _score_job(stage, job, explained, guard, recorder)
        del explained  # attributions and memos of one explainer at a time


def explain_each(
    stage: Stage,
    explainers: Sequence[Chosen],
    guard: ModelGuard,
    *,
    alone: bool,
    warm_up: bool = True,
    twice: bool = False,
) -> Iterator[tuple[Chosen, Explained | Failure]]:
    """Explain with one explainer after the other and audit each: its attributions, there until the next, or why not.

    ``twice`` explains the first batch a second time, however long that takes, to see that it comes out the same.
    """
    auditor = Auditor(stage)
    for chosen in explainers:
        with ExitStack() as resources:
            try:
                found = _explain_and_audit(stage, chosen, auditor, guard, resources, alone, warm_up, twice)
            except (Exception, SystemExit) as error:
                # Whatever an explainer does, its cells say so and the others go on.
                guard.restore()
                found = _failure(error)
            yield chosen, found
            del found


def _explain_and_audit(
    stage: Stage,
    chosen: Chosen,
    auditor: Auditor,
    guard: ModelGuard,
    resources: ExitStack,
    alone: bool,
    warm_up: bool,
    twice: bool,
) -> Explained:
    explaining = Explaining(chosen.entry, chosen.options, stage.module, stage.protocol.explain_batch)
    parts, costs, keep, setup = [], [], _keeper(stage, resources), None
    facts, trial = Facts(), Trial()
    for _, samples in stage.chunks():
        told = replace(samples, facts=facts)  # of the calls that count: neither warming up nor a metric's own calls
        with isolated_randomness(stage.device):
            if setup is None:
                setup = timed_setup(explaining, told)
                if warm_up:
                    trial = _warm_up(explaining, samples, stage.protocol.explain_batch, twice)
            batches = torch.arange(len(samples), device=stage.device).split(stage.protocol.explain_batch)
            results = [explain_measured(explaining, told.take(rows), setup, alone) for rows in batches]
        _check_unchanged(guard)
        parts.append(keep(torch.cat([raw for raw, _ in results])))
        costs += [cost for _, cost in results]
    valid = torch.cat([part.flatten(1).isfinite().all(1).cpu() for part in parts])
    if not valid.any():
        raise FloatingPointError("every attribution holds NaN or infinite values")
    with isolated_randomness(stage.device):
        audit = auditor.audit(chosen, parts, facts, trial)
    shelf = Shelf()  # a memory budget that ends with the explainer
    return Explained(
        explaining, parts, _by_chunk(costs, parts), valid, audit, [Memo(shelf) for _ in parts], Memo(shelf)
    )


def _warm_up(explaining: Explaining, samples: Samples, batch_size: int, twice: bool) -> Trial:
    """Call the explainer untimed: on one sample, and on a full batch too where that is asked for, is cheap, or kernels
    go by shape."""
    device, started = samples.inputs.device, time.perf_counter()
    alone = explaining.explain(samples.take(torch.arange(1, device=device)))
    expected = batch_size * (time.perf_counter() - started)
    if not (twice or device.type == "cuda" or expected < CHEAP_WARM_UP_SECONDS):
        return Trial(alone)
    return Trial(alone, explaining.explain(samples.take(torch.arange(min(batch_size, len(samples)), device=device))))


def _check_unchanged(guard: ModelGuard) -> None:
    changes = guard.changes()
    if changes:
        raise ModelChanged(f"the explainer changed the model: {', '.join(changes)}")


def _by_chunk(costs: list[Cost], parts: list[Tensor]) -> list[Cost]:
    """Costs measured per explain batch, cut anew into the chunks that are scored."""
    names = [name for name, value in vars(costs[0]).items() if isinstance(value, Tensor)]
    columns = {
        name: torch.cat([getattr(cost, name) for cost in costs]).split([len(p) for p in parts]) for name in names
    }
    alone = all(cost.alone for cost in costs)
    return [Cost(**{name: columns[name][i] for name in names}, alone=alone) for i in range(len(parts))]


def _keeper(stage: Stage, resources: ExitStack) -> Callable[[Tensor], Tensor]:
    """A function that keeps a chunk's attributions: in memory, or in temporary files where all of them are too
    large."""
    if stage.count * stage.first()[0].nbytes <= SPILL_BYTES:
        return lambda raw: raw.cpu()
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="harness-")))

    def spill(raw: Tensor) -> Tensor:
        path = folder / f"{len(list(folder.iterdir()))}.npy"
        np.save(path, raw.cpu().numpy(), allow_pickle=False)
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))

    return spill


def _score_job(stage: Stage, job: Job, explained: Explained, guard: ModelGuard, recorder: Recorder) -> None:
    started = time.perf_counter()
    try:
        with isolated_randomness(stage.device):
            scores = join_scores(
                [
                    _score_chunk(stage, job, explained, n, where, samples)
                    for n, (where, samples) in enumerate(stage.chunks())
                ]
            )
        _check_unchanged(guard)
        if not scores.values.isfinite().any() and job.metric.entry.kind != "cost":
            raise FloatingPointError(scores.reason or "every score is undefined")
    except (Exception, SystemExit) as error:  # as above: one cell's failure is that cell's row
        guard.restore()
        _record_failure(recorder, [job], "score", _failure(error))
        return
    flags = explained.flags + _convention_flags(job)
    recorder.scored(job, scores, explained.valid, flags, time.perf_counter() - started)


def _convention_flags(job: Job) -> list[str]:
    """Whether the metric's definition is for another kind of attribution than the explainer gives."""
    expected, given = job.metric.entry.expects, job.explainer.entry.convention
    return [f"the metric is defined for {expected} maps, these are {given}"] if expected not in (None, given) else []


def _score_chunk(stage: Stage, job: Job, explained: Explained, number: int, where: slice, samples: Samples) -> Scores:
    raw, cost = explained.parts[number].to(stage.device), explained.costs[number]
    # What an explanation cost, it cost whether or not it came out finite.
    valid = explained.valid[where] | (job.metric.entry.kind == "cost")
    if not valid.any():
        return Scores(torch.full((len(valid),), float("nan"), dtype=torch.float64))
    rows = valid.nonzero()[:, 0].to(stage.device)
    if not valid.all():
        samples, raw, cost = samples.take(rows), raw[rows], cost.take(rows)
    explaining = explained.explaining
    reduced = samples.units.reduce(raw, stage.protocol.reduction)
    batch = Batch(
        samples,
        reduced,
        raw,
        explaining.entry,
        explaining.options,
        explaining,
        explained.owns[number],
        explained.memo,
        cost,
        stage.protocol.reduction,
    )
    return _spread_over(score_batch(job.metric.entry, job.metric.options, batch), valid)


def _spread_over(scores: Scores, valid: Tensor) -> Scores:
    """Scores of the valid samples at their places among all, NaN elsewhere."""
    if valid.all():
        return scores

    def place(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        full = torch.full((len(valid), *values.shape[1:]), float("nan"), dtype=values.dtype)
        full[valid] = values
        return full

    return Scores(place(scores.values), place(scores.curves), place(scores.tied), scores.reason)


def _failure(error: BaseException) -> Failure:
    """An error with its trace as text; what its frames held, perhaps all of a device's memory, is let go."""
    trace = "".join(traceback.format_exception(error))
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__context__
    return Failure(error, one_line(error) if isinstance(error, NotApplicable) else trace)


def _record_failure(recorder: Recorder, jobs: Sequence[Job], stage: str, failure: Failure) -> None:
    status = "not_applicable" if isinstance(failure.error, NotApplicable) else "failed"
    for job in jobs:
        recorder.failed(job, status, stage, failure.error, failure.trace)
