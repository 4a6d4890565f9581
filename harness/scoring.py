"""Calling a metric on a batch and checking what it returns."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError
from harness.registry import Metric


def score_batch(entry: Metric, options: Mapping[str, Any], batch: Batch) -> Scores:
    """The metric's scores of a batch, values and curves float64 on the CPU, one value per sample."""
    answer = entry.function(batch, **options)
    scores = answer if isinstance(answer, Scores) else Scores(answer)
    values = torch.as_tensor(scores.values)
    if values.shape != (len(batch),):
        raise UserError(
            f"metric {entry.name} returned shape {tuple(values.shape)}, expected one value per sample ({len(batch)},)"
        )
    reason = scores.reason
    if values.isnan().any() and batch.samples.predictor.not_finite:
        reason = "the model's outputs for perturbed inputs are not finite"
    return Scores(_plain(values), _plain(scores.curves), _plain(scores.tied), reason)


def join_scores(parts: list[Scores]) -> Scores:
    """The scores of several batches as one."""
    curves = [part.curves for part in parts]
    return Scores(
        torch.cat([part.values for part in parts]),
        None if any(curve is None for curve in curves) else torch.cat(curves),
        None if any(part.tied is None for part in parts) else torch.cat([part.tied for part in parts]),
        next((part.reason for part in parts if part.reason), ""),
    )


def _plain(values: Tensor | None) -> Tensor | None:
    return None if values is None else torch.as_tensor(values).detach().double().cpu()
