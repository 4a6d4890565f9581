"""What explaining costs: cells like any other, measured on the calls that made the scored attributions.

Each is per sample. Warm-up is left out, the device is synchronised, and set-up is told apart. Attributions that came
without their explainer have no cost, and timings taken on a shared device are not valid.
"""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.registry import metric

COST = ("seconds_per_sample", "setup_seconds", "forward_passes", "backward_passes", "peak_memory_mb")


@metric(better="lower", unit="seconds", kind="cost")
def seconds_per_sample(batch: Batch) -> Scores:
    """Wall time of explaining, per sample: each call's time over its samples, warmed up and synchronised."""
    return _alone(batch, batch.cost and batch.cost.seconds)


@metric(better="lower", unit="seconds", kind="cost")
def setup_seconds(batch: Batch) -> Scores:
    """Wall time of what the explainer prepares once for all samples, such as finding its layer."""
    return _alone(batch, batch.cost and batch.cost.setup_seconds)


@metric(better="lower", unit="passes", kind="cost")
def forward_passes(batch: Batch) -> Scores:
    """Model evaluations per sample: inputs that went forward through the model, however they were batched."""
    return _values(batch, batch.cost and batch.cost.forwards)


@metric(better="lower", unit="passes", kind="cost")
def backward_passes(batch: Batch) -> Scores:
    """Gradient evaluations per sample: outputs whose gradient went back through the model."""
    return _values(batch, batch.cost and batch.cost.backwards)


@metric(better="lower", unit="MB", kind="cost")
def peak_memory_mb(batch: Batch) -> Scores:
    """Most memory in use while explaining, above what was in use before: on the GPU, or of the process on a CPU."""
    return _values(batch, batch.cost and batch.cost.peak_memory_mb)


def _values(batch: Batch, values: Tensor | None) -> Scores:
    if batch.cost is None:
        raise NotApplicable("these attributions came without their explainer, so what they cost is not known")
    if batch.explainer is not None and batch.explainer.stored:
        raise NotApplicable(f"{batch.explainer.name} attributions were made before, so what they cost is not known")
    memory = values is batch.cost.peak_memory_mb
    unknown = "this system does not tell a process its peak memory" if memory else batch.cost.reason
    return Scores(values, reason=unknown if values.isnan().any() else "")


def _alone(batch: Batch, values: Tensor | None) -> Scores:
    known = _values(batch, values)
    if not batch.cost.alone:
        return Scores(torch.full_like(values, float("nan")), reason="the device was shared with another run")
    return known
