"""What explaining costs: metrics like any other, measured on the calls that made the scored attributions.

Each is per sample. Warm-up calls are not counted, the device is synchronised, and set-up is reported separately.
NotApplicable for attributions that came without their explainer. Timings are NaN where the device was shared.

In the examples ``harness.evaluate`` runs an explainer with one metric.
"""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.registry import metric


@metric(better="lower", unit="seconds", span=(0, None), kind="cost")
def seconds_per_sample(batch: Batch) -> Scores:
    """Wall time of explaining, per sample: each call's time over its samples, warmed up and synchronised.

    >>> costs = harness.evaluate(linear, inputs, targets, explainers="gradient", metrics="seconds_per_sample")
    >>> costs.unit.tolist()
    ['seconds', 'seconds']
    """
    return _undisturbed(batch, batch.cost and batch.cost.seconds)


@metric(better="lower", unit="seconds", span=(0, None), kind="cost")
def setup_seconds(batch: Batch) -> Scores:
    """Wall time of what the explainer prepares once for all samples, such as finding its layer.

    >>> costs = harness.evaluate(linear, inputs, targets, explainers="gradient", metrics="setup_seconds")
    >>> costs.unit.tolist()
    ['seconds', 'seconds']
    """
    return _undisturbed(batch, batch.cost and batch.cost.setup_seconds)


@metric(better="lower", unit="passes", span=(0, None), kind="cost")
def forward_passes(batch: Batch) -> Scores:
    """Model evaluations per sample: inputs that went forward through the model, however they were batched.

    Occlusion removes each of two columns, and needs the whole input too:

    >>> explainers = {"occlusion": {"baseline": "zero"}}
    >>> costs = harness.evaluate(linear, inputs, targets, explainers=explainers, metrics="forward_passes")
    >>> costs.value.tolist()
    [3.0, 3.0]
    """
    return _cost_scores(batch, batch.cost and batch.cost.forwards)


@metric(better="lower", unit="passes", span=(0, None), kind="cost")
def backward_passes(batch: Batch) -> Scores:
    """Gradient evaluations per sample: outputs whose gradient was computed through the model.

    >>> costs = harness.evaluate(linear, inputs, targets, explainers="gradient", metrics="backward_passes")
    >>> costs.value.tolist()
    [1.0, 1.0]
    """
    return _cost_scores(batch, batch.cost and batch.cost.backwards)


@metric(better="lower", unit="MB", span=(0, None), kind="cost")
def peak_memory_mb(batch: Batch) -> Scores:
    """Most memory in use while explaining, above what was in use before: on the GPU, or of the process on a CPU.

    In MB for the call that explains a batch, the same for all samples of it. NaN where the system does not report it.

    >>> costs = harness.evaluate(linear, inputs, targets, explainers="gradient", metrics="peak_memory_mb")
    >>> costs.unit.tolist()
    ['MB', 'MB']
    """
    return _cost_scores(batch, batch.cost and batch.cost.peak_memory_mb)


def _cost_scores(batch: Batch, values: Tensor | None) -> Scores:
    if batch.cost is None:
        raise NotApplicable("these attributions came without their explainer, so their cost is not known")
    if batch.explainer is not None and batch.explainer.stored:
        raise NotApplicable(f"{batch.explainer.name} attributions were made before, so their cost is not known")
    memory = values is batch.cost.peak_memory_mb
    reason = "this system does not report the peak memory of a process" if memory else batch.cost.reason
    return Scores(values, reason=reason if values.isnan().any() else "")


def _undisturbed(batch: Batch, values: Tensor | None) -> Scores:
    known = _cost_scores(batch, values)
    if not batch.cost.alone:
        return Scores(torch.full_like(values, float("nan")), reason="the device was shared with another run")
    return known
