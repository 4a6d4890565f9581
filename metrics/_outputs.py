"""The model's outputs for all classes, their number, and the class that is predicted."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.checks import class_count
from harness.errors import NotApplicable, UserError
from harness.predictor import NO_CLASS, picked_not_finite, predicted_class
from harness.samples import Samples


def all_outputs(samples: Samples) -> Tensor:
    """The model's outputs (N, classes) or (N,) for the inputs, computed once for all metrics."""
    return samples.shared("all outputs", lambda: samples.model_outputs())


def output_count(samples: Samples) -> int:
    """How many outputs the model has: 1 for outputs (N,) or (N, 1)."""
    return samples.for_block("count of outputs", lambda: _count(samples))


def outputs_of_draws(
    samples: Samples,
    draws: int,
    build: Callable[[Tensor, Tensor], Tensor],
    read: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """What ``read(outputs, sample)`` returns for the outputs (rows, ...) of inputs: (N, draws, ...).

    ``build(sample, draw)`` makes the inputs (rows, ...), as for ``Samples.track``, which reads the tracked outputs.
    """
    sample = torch.arange(len(samples), device=samples.inputs.device).repeat_interleave(draws)
    return outputs_of_rows(samples, sample, lambda rows: build(rows // draws, rows % draws), read).unflatten(
        0, (-1, draws)
    )


def outputs_of_rows(
    samples: Samples, sample: Tensor, build: Callable[[Tensor], Tensor], read: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """What ``read(outputs, sample)`` returns for the outputs of inputs: (rows, ...).

    ``build(rows)`` makes the inputs of the samples ``sample`` (rows,), as for ``Samples.track_rows``.
    """
    chunks = torch.arange(len(sample), device=sample.device).split(samples.predictor.chunk)
    of = lambda rows: samples.model_outputs(build(rows), sample[rows])
    return torch.cat([read(of(rows), sample[rows]) for rows in chunks])


def decisions_of(samples: Samples, sample: Tensor, build: Callable[[Tensor], Tensor]) -> Tensor:
    """The ``predicted_class`` (rows,) of the inputs that ``build(rows)`` makes of the samples ``sample`` (rows,).

    NotApplicable for models that do not choose one of several classes.
    """

    def decision(outputs: Tensor, _: Tensor) -> Tensor:
        if not samples.task.exclusive or outputs.dim() == 1 or outputs.shape[1] == 1:
            raise NotApplicable("a decision needs a model that chooses one of several classes")
        return predicted_class(outputs)

    return outputs_of_rows(samples, sample, build, decision)


def same_class(first: Tensor, second: Tensor) -> Tensor:
    """Whether two predicted classes are the same: 1 or 0 in float64, NaN where one of them is ``NO_CLASS``.

    ``UNDECIDED`` is the same as itself and as no class.
    """
    return (first == second).double().masked_fill((first == NO_CLASS) | (second == NO_CLASS), float("nan"))


def is_predicted(predicted: Tensor, classes: Tensor) -> Tensor:
    """``same_class`` of what is predicted and the ``classes``, on which a score depends.

    If the score is NaN, outputs that are not numbers are the reason.
    """
    return noted_if_not_finite(same_class(predicted, classes))


def noted_if_not_finite(values: Tensor) -> Tensor:
    """The values, which are read from outputs: if one is not finite, that is the reason for a NaN score.

    ``pick`` notes the same of the scores that it returns.
    """
    if not values.isfinite().all():
        picked_not_finite.set(True)
    return values


def predicted_for_training(samples: Samples, inputs: Tensor) -> Tensor:
    """The ``predicted_class`` (R,) of training inputs (R, ...); UserError where an output is not a number."""
    predicted = predicted_class(samples.predictor.logits(inputs))
    if (predicted == NO_CLASS).any():
        raise UserError("the model's outputs for train hold NaN, expected numbers")
    return predicted


def _count(samples: Samples) -> int:
    return class_count(samples.take(torch.zeros(1, dtype=torch.long, device=samples.inputs.device)).model_outputs())
