"""The model's outputs for all classes, and their number."""

import torch
from torch import Tensor

from harness.checks import class_count
from harness.samples import Samples


def all_outputs(samples: Samples) -> Tensor:
    """The model's outputs (N, classes) or (N,) for the inputs, computed once for all metrics."""
    return samples.shared("all outputs", lambda: samples.model_outputs())


def output_count(samples: Samples) -> int:
    """How many outputs the model has: 1 for outputs (N,) or (N, 1)."""
    return samples.for_block("count of outputs", lambda: _count(samples))


def _count(samples: Samples) -> int:
    return class_count(samples.take(torch.zeros(1, dtype=torch.long, device=samples.inputs.device)).model_outputs())
