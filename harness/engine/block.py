"""Measures one block, a model and a data set with several explainers and metrics, cell by cell.

The cells are given as a list and results are passed to a recorder. So the same code is used for a run directory, a
notebook and a test.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.engine.audit import Audit, Auditor, Trial, no_numbers_in_words
from harness.engine.convergence import convergence, convergence_flags
from harness.engine.cost import Cost, cut_costs, explain_measured, timed_setup
from harness.engine.explain import Explaining
from harness.engine.item_guard import Failure, ItemGuard
from harness.engine.memo import AttributionParts, Memo, Shelf
from harness.engine.present_units import ordered_by_pattern, units_of_maps
from harness.engine.score import error_without_scores, join_scores, score_groups, scores_or_reasons
from harness.engine.selection import Cell, Chosen
from harness.engine.stage import Stage
from harness.errors import NotApplicable, one_line
from harness.facts import Facts
from harness.guards import isolated_randomness
from harness.messages import once_for_all
from harness.process_guard import in_one_line, settings_told
from harness.samples import Samples

CHEAP_WARM_UP_SECONDS = 0.5


class Recorder(Protocol):
    """Receives the results of a block.

    renewable   whether the run can go on in a new process, should an item spoil this one
    """

    renewable: bool

    def begins(self, stage: str, cells: Sequence[Cell]) -> None:
        """Work on these cells begins: ``explain`` for all cells of an explainer together, or ``score`` for one."""

    def scored(self, cell: Cell, scores: Scores, valid: Tensor, flags: list[str], seconds: float) -> None:
        """A cell was scored: scores of all samples (NaN where invalid), which attributions were valid, and warnings."""

    def failed(self, cell: Cell, status: str, stage: str, error: BaseException, trace: str) -> None:
        """A cell has no scores: status ``failed`` or ``not_applicable``, stage ``explain`` or ``score``, and error."""

    def explained(self, explainer: Chosen, explained: "Explained") -> None:
        """An explainer has explained all samples."""


@dataclass
class Explained:
    """One explainer's attributions of all samples, with their cost.

    parts   the attributions, one tensor per chunk of samples; in temporary files if they are large
    costs   the cost of each chunk
    valid   (N,) bool, True where an attribution is finite
    audit   results of the checks and facts that the explainer reported
    owns    a memo for each chunk and pattern of units, for results that several metrics need of this explainer
    memo    a memo for such results that do not depend on the samples
    """

    explaining: Explaining
    parts: Sequence[Tensor]
    costs: list[Cost]
    valid: Tensor
    audit: Audit
    owns: dict[tuple[int, int], Memo]
    memo: Memo

    @property
    def flags(self) -> list[str]:
        """Warnings about the attributions."""
        return self.audit.flags

    def own(self, number: int, pattern: int) -> Memo:
        """The memo of a chunk and a pattern of units."""
        return self.owns.setdefault((number, pattern), Memo(self.memo.shelf))


def measure_block(
    stage: Stage,
    cells: Sequence[Cell],
    recorder: Recorder,
    *,
    alone: bool,
    warm_up: bool = True,
    audited: bool = True,
    more_to_come: bool = False,
) -> None:
    """Explain and score every cell, explainer by explainer; a failure is recorded and the other cells are measured.

    ``audited`` checks the attributions, which explains some samples again; without it only what is no number is found.
    Spoilt if an item has left something that would change the cells of the explainers after it; with ``more_to_come``
    in this process, the last explainer is looked at too.
    """
    guard, explainers = ItemGuard(stage, recorder.renewable), list(dict.fromkeys(cell.explainer for cell in cells))
    by_explainer = {chosen: [cell for cell in cells if cell.explainer == chosen] for chosen in explainers}
    begins = lambda chosen: recorder.begins("explain", by_explainer[chosen])
    settings = {"alone": alone, "warm_up": warm_up, "audited": audited}
    for chosen, explained in explain_each(stage, explainers, guard, begins=begins, **settings):
        mine = by_explainer[chosen]
        if isinstance(explained, Failure):
            _record_failure(recorder, mine, "explain", explained)
            continue
        recorder.explained(chosen, explained)
        for cell in mine:
            recorder.begins("score", [cell])
            _score_cell(stage, cell, explained, guard, recorder)
        del explained  # at most one explainer's attributions and memos are in memory
        with guard.failures_noted() as failures:
            guard.check_outputs("metrics")
        if failures:  # which of them did it is not known
            _record_failure(recorder, mine, "score", failures[0])
    if more_to_come:
        guard.end_of_item(explainers[-1].label)


def explain_each(
    stage: Stage,
    explainers: Sequence[Chosen],
    guard: ItemGuard,
    *,
    alone: bool,
    warm_up: bool = True,
    twice: bool = False,
    audited: bool = True,
    begins: Callable[[Chosen], None] = lambda chosen: None,
) -> Iterator[tuple[Chosen, Explained | Failure]]:
    """Explain with one explainer after another and audit each; yields its attributions, or the failure.

    Attributions are available until the next one is asked for. ``twice`` explains the first batch a second time even if
    that takes long, in order to check that the result is the same. ``begins`` is called before each explainer.
    """
    auditor = Auditor(stage) if audited else None
    for chosen in explainers:
        begins(chosen)
        with ExitStack() as resources:
            # Any error of an explainer ends its cells only.
            with guard.failures_noted() as failures, settings_told() as settings:
                outcome = _explain_and_audit(stage, chosen, auditor, guard, resources, alone, warm_up, twice)
                outcome.flags.extend(in_one_line(settings, "the explainer"))
            if failures:
                outcome = failures[0]
            yield chosen, outcome
            del outcome
        if chosen is not explainers[-1]:
            guard.end_of_item(chosen.label)


def _explain_and_audit(
    stage: Stage,
    chosen: Chosen,
    auditor: Auditor | None,
    guard: ItemGuard,
    resources: ExitStack,
    alone: bool,
    warm_up: bool,
    twice: bool,
) -> Explained:
    explaining = Explaining(chosen.entry, chosen.options, stage.module, stage.protocol.explain_batch)
    costs, in_order, setup, first = [], [], None, None
    parts = AttributionParts(stage.count * stage.first()[0].nbytes, resources)
    facts, trial = Facts(), Trial()
    for _, samples in stage.chunks():
        observed = replace(samples, facts=facts)  # facts of the measured calls only: not of warm-up calls or metrics
        with isolated_randomness(stage.device):
            batches = (order := ordered_by_pattern(samples)).split(stage.protocol.explain_batch)
            if setup is None:
                setup = timed_setup(explaining, observed)
                if warm_up:
                    with once_for_all(None):
                        trial = _warm_up(explaining, samples, batches[0], twice)
            results = [explain_measured(explaining, observed.take(rows), setup, alone) for rows in batches]
        guard.check_model("explainer")
        in_order.append(order.argsort())
        first = results[0][0].cpu() if first is None else first
        parts.append(torch.cat([raw for raw, _ in results])[in_order[-1]])
        costs += [cost for _, cost in results]
    valid = torch.cat([part.flatten(1).isfinite().all(1).cpu() for part in parts])
    if not valid.any() and not stage.partial:
        raise explaining.refusal or FloatingPointError("every attribution holds NaN or infinite values")
    audit, seeds = Audit({}, no_numbers_in_words(int((~valid).sum()), len(valid))), None
    if auditor is not None:
        with isolated_randomness(stage.device):
            audit = auditor.audit(chosen, parts, facts, trial, first)
            seeds = convergence(stage, explaining, parts[0])
    guard.check_model("explainer")
    guard.check_outputs("explainer")
    if seeds is not None:
        audit.found["convergence"] = seeds
        audit.flags.extend(convergence_flags(seeds, chosen.options))
    if explaining.refusal is not None:
        audit.flags.append(f"some samples have no attributions: {one_line(explaining.refusal)}")
    by_chunk = [
        cost.take(back) for cost, back in zip(cut_costs(costs, [len(part) for part in parts]), in_order, strict=True)
    ]
    return Explained(explaining, parts, by_chunk, valid, audit, {}, Memo(Shelf()))  # one memory budget per explainer


def _warm_up(explaining: Explaining, samples: Samples, rows: Tensor, twice: bool) -> Trial:
    """Call the explainer untimed: on the first of ``rows``, those of its first batch, and in some cases on all of them.

    A full batch is explained if ``twice`` asks for it, if it is cheap, or on a GPU, which chooses kernels by shape.
    """
    started = time.perf_counter()
    alone = explaining.explain(samples.take(rows[:1]))
    expected = explaining.batch_size * (time.perf_counter() - started)
    if not (twice or samples.inputs.device.type == "cuda" or expected < CHEAP_WARM_UP_SECONDS):
        return Trial(alone)
    return Trial(alone, explaining.explain(samples.take(rows)))


def _score_cell(stage: Stage, cell: Cell, explained: Explained, guard: ItemGuard, recorder: Recorder) -> None:
    started = time.perf_counter()
    with guard.failures_noted() as failures, settings_told() as settings:  # an error of a metric ends this cell only
        with isolated_randomness(stage.device):
            chunks = enumerate(stage.chunks())
            parts = (
                (len(samples), partial(_score_chunk, stage, cell, explained, number, where, samples))
                for number, (where, samples) in chunks
            )
            scores = join_scores(scores_or_reasons(parts, stage.ragged))
        guard.check_model("metric")
        if not scores.values.isfinite().any() and cell.metric.entry.kind != "cost" and not stage.partial:
            raise error_without_scores(scores, explained.valid)
    if failures:
        _record_failure(recorder, [cell], "score", failures[0])
        return
    flags = explained.flags + _convention_flags(cell) + stage.flags + in_one_line(settings, "the metric")
    recorder.scored(cell, scores, explained.valid, flags, time.perf_counter() - started)


def _convention_flags(cell: Cell) -> list[str]:
    """A warning if the metric is defined for another convention of attributions than the explainer's."""
    expected, actual = cell.metric.entry.expects, cell.explainer.entry.convention
    return [f"the metric is defined for {expected} maps, these are {actual}"] if expected not in (None, actual) else []


def _score_chunk(stage: Stage, cell: Cell, explained: Explained, number: int, where: slice, samples: Samples) -> Scores:
    # The cost of an explanation counts whether or not the attributions are finite.
    valid = explained.valid[where] | (cell.metric.entry.kind == "cost")
    if not valid.any():
        return Scores(torch.full((len(valid),), float("nan"), dtype=torch.float64))
    raw, cost, batches = explained.parts[number].to(stage.device), explained.costs[number], []
    for pattern, (rows, units_only) in enumerate(stage.groups(number, samples)):
        chosen = valid.to(stage.device)[rows]
        if not chosen.any():
            continue
        if not chosen.all():
            units_only, rows = units_only.take(chosen.nonzero()[:, 0]), rows[chosen]
        own = explained.own(number, pattern)
        batches.append((rows, _batch(stage, explained, units_only, raw[rows], cost.take(rows), own)))
    return score_groups(cell.metric.entry, cell.metric.options, batches, len(samples))


def _batch(stage: Stage, explained: Explained, samples: Samples, raw: Tensor, cost: Cost, own: Memo) -> Batch:
    """Samples of one pattern of units, with their attributions (n, ...) at all positions and their cost."""
    raw, explaining, reduction = units_of_maps(raw, samples), explained.explaining, stage.protocol.reduction
    return Batch(
        samples,
        samples.units.reduce(raw, reduction),
        raw,
        explaining.entry,
        explaining.options,
        explaining,
        own,
        explained.memo,
        cost,
        reduction,
    )


def _record_failure(recorder: Recorder, cells: Sequence[Cell], stage: str, failure: Failure) -> None:
    status = "not_applicable" if isinstance(failure.error, NotApplicable) else "failed"
    for cell in cells:
        recorder.failed(cell, status, stage, failure.error, failure.trace)
