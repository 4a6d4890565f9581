"""The model's outputs for all classes, their number, and the class that is predicted."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.checks import class_count
from harness.errors import NotApplicable
from harness.samples import Samples


def all_outputs(samples: Samples) -> Tensor:
    """The model's outputs (N, classes) or (N,) for the inputs, computed once for all metrics."""
    return samples.shared("all outputs", lambda: samples.model_outputs())


def output_count(samples: Samples) -> int:
    """How many outputs the model has: 1 for outputs (N,) or (N, 1)."""
    return samples.for_block("count of outputs", lambda: _count(samples))


def decisions_of(samples: Samples, sample: Tensor, build: Callable[[Tensor], Tensor]) -> Tensor:
    """The predicted class (rows,) of the inputs that ``build(rows)`` makes of the samples ``sample`` (rows,).

    NotApplicable for models that do not choose one of several classes.
    """
    parts = []
    for rows in torch.arange(len(sample), device=sample.device).split(samples.predictor.chunk):
        outputs = samples.model_outputs(build(rows), sample[rows])
        if not samples.task.exclusive or outputs.dim() == 1 or outputs.shape[1] == 1:
            raise NotApplicable("a decision needs a model that chooses one of several classes")
        parts.append(outputs.argmax(1))
    return torch.cat(parts)


def _count(samples: Samples) -> int:
    return class_count(samples.take(torch.zeros(1, dtype=torch.long, device=samples.inputs.device)).model_outputs())
