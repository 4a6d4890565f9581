"""Calls a metric on a batch and checks its result."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NO_SCORE, OUTPUTS_NOT_FINITE, NotApplicable, UserError, one_line
from harness.messages import sign_of_life
from harness.predictor import picked_not_finite
from harness.process_guard import settings_kept
from harness.registry import Metric


def score_batch(entry: Metric, options: Mapping[str, Any], batch: Batch) -> Scores:
    """The metric's scores of a batch: one value per sample; values and curves are float64 on the CPU."""
    picked_not_finite.set(False)
    with settings_kept():
        answer = entry.function(batch, **entry.keywords(batch.samples.task.with_score(entry.options, options)))
    sign_of_life()
    scores = answer if isinstance(answer, Scores) else Scores(answer)
    values = torch.as_tensor(scores.values)
    if values.shape != (len(batch),):
        raise UserError(
            f"metric {entry.name} returned shape {tuple(values.shape)}, expected one value per sample ({len(batch)},)"
        )
    curves, tied, standard_error = map(_as_float64, (scores.curves, scores.tied, scores.standard_error))
    count = len(batch)
    if curves is not None and (curves.dim() != 2 or len(curves) != count):
        came = tuple(curves.shape)
        raise UserError(f"metric {entry.name} returned curves of shape {came}, expected one per sample ({count}, K)")
    for name, each in (("tied", tied), ("standard_error", standard_error)):
        if each is not None and each.shape != (count,):
            came = tuple(each.shape)
            raise UserError(
                f"metric {entry.name} returned {name} of shape {came}, expected one number per sample ({count},)"
            )
    reason = scores.reason
    if values.isnan().any() and picked_not_finite.get():
        reason = OUTPUTS_NOT_FINITE
    return Scores(_as_float64(values), curves, tied, reason, standard_error)


def score_groups(entry: Metric, options: Mapping[str, Any], batches: list[tuple[Tensor, Batch]], count: int) -> Scores:
    """The scores of ``count`` samples that come in groups: rows (n,) and their batch. NaN for rows in no group."""
    ragged = any(batch.samples.ragged for _, batch in batches)
    parts = ((len(rows), partial(score_batch, entry, options, batch)) for rows, batch in batches)
    joined = join_scores(scores_or_reasons(parts, ragged))
    rows = torch.cat([rows.cpu() for rows, _ in batches])
    return joined if torch.equal(rows, torch.arange(count)) else _at_rows(joined, rows, count)


def scores_or_reasons(parts: Iterable[tuple[int, Callable[[], Scores]]], ragged: bool) -> list[Scores]:
    """The scores of each part of the samples, of which there are so many, from a function that computes them.

    A metric can be not applicable to a few of ``ragged`` samples alone, such as texts of one token, which have no
    order. Their scores are NaN, with the reason. NotApplicable if it is not applicable to any part.
    """
    found, refusals = [], []
    for count, compute in parts:
        try:
            found.append(compute())
        except NotApplicable as refusal:
            if not ragged:
                raise
            refusals.append(refusal)
            found.append(Scores(torch.full((count,), float("nan"), dtype=torch.float64), reason=one_line(refusal)))
    if refusals and len(refusals) == len(found):
        raise refusals[-1]
    return found


def join_scores(parts: list[Scores]) -> Scores:
    """The scores of several batches as one; if only some have curves, ties or errors, those of the others are NaN."""
    counts = [len(part.values) for part in parts]
    return Scores(
        torch.cat([part.values for part in parts]),
        _join_tensors([part.curves for part in parts], counts),
        _join_tensors([part.tied for part in parts], counts),
        next((part.reason for part in parts if part.reason), ""),
        _join_tensors([part.standard_error for part in parts], counts),
    )


def error_without_scores(scores: Scores, valid: Tensor) -> Exception:
    """The error of a cell without a finite score.

    NotApplicable if every score is NaN, the metric gives a reason other than OUTPUTS_NOT_FINITE, and all attributions
    (``valid`` (N,)) are finite; otherwise FloatingPointError, because a number was not finite.
    """
    if scores.reason and scores.reason != OUTPUTS_NOT_FINITE and valid.all() and scores.values.isnan().all():
        return NotApplicable(f"no sample has a score: {scores.reason}")
    return FloatingPointError(scores.reason or NO_SCORE)


def _at_rows(scores: Scores, where: Tensor, count: int) -> Scores:
    """Scores at the rows ``where`` (n,) of ``count`` samples; NaN elsewhere."""

    def place(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        full = torch.full((count, *values.shape[1:]), float("nan"), dtype=values.dtype)
        full[where] = values
        return full

    values, curves, tied, standard_error = map(
        place, (scores.values, scores.curves, scores.tied, scores.standard_error)
    )
    return Scores(values, curves, tied, scores.reason, standard_error)


def _join_tensors(parts: list[Tensor | None], counts: list[int]) -> Tensor | None:
    shapes = sorted({tuple(part.shape[1:]) for part in parts if part is not None})
    if not shapes:
        return None
    if len(shapes) > 1:
        lengths = " and ".join(str(length) for (length,) in shapes)
        raise UserError(f"the metric returned curves of {lengths} points for different batches, expected one length")
    missing = lambda count: torch.full((count, *shapes[0]), float("nan"), dtype=torch.float64)
    return torch.cat([missing(n) if part is None else part for part, n in zip(parts, counts, strict=True)])


def _as_float64(values: Tensor | None) -> Tensor | None:
    return None if values is None else torch.as_tensor(values).detach().double().cpu()
