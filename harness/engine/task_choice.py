"""Decides the task of a model: set by the user, or certain from outputs and labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.messages import say
from harness.sources import Data, LoadedModel
from harness.task import CLASSES, REGRESSION, TASKS, Task

# The largest distance of a sum of probabilities from 1, by the number of digits of the outputs' precision.
SUM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
MOST_LOOKED_AT = 16  # samples whose outputs are checked


@dataclass(frozen=True)
class FirstOutputs:
    """The model's outputs for the first inputs.

    of               n -> outputs (n, K) or (n,) of the first n inputs
    last_operation   () -> the name that autograd gives the operation that computes the outputs, or ""
    """

    of: Callable[[int], Tensor]
    last_operation: Callable[[], str]


def chosen_task(told: Task | None, model: LoadedModel, data: Data, width: int, outputs: FirstOutputs) -> Task:
    """The task of a model with ``width`` outputs of its own on this data; UserError where it is not certain.

    A task that the user has set (``told``) is checked against the model's outputs.
    """
    if told is not None:
        return _checked(told, width, outputs, len(data))
    labels = data.labels if data.labels is not None else data.targets
    if width == 1:
        return _task_of_one_output(labels, outputs, len(data))
    task = _task_of_several_outputs(labels, width, outputs, len(data))
    if task is CLASSES and _may_be_numbers(model, data):
        return replace(task, presumed=True)
    return task


def _may_be_numbers(model: LoadedModel, data: Data) -> bool:
    """Whether nothing tells logits of classes from several numbers to predict: neither names, labels nor the model.

    A bare linear layer is as often a regression of several numbers as a classifier, and the same target for all samples
    may be one of these numbers. Targets that differ are labels or predictions of a classifier.
    """
    named = model.classes or data.classes or data.labels is not None
    targets = data.targets
    if named or targets is None or not isinstance(model.module, nn.Linear):
        return False
    return len(targets) > 1 and len(targets.unique()) == 1


def _task_of_one_output(labels: Tensor | None, outputs: FirstOutputs, count: int) -> Task:
    if labels is None or (not labels.is_floating_point() and not labels.any()):
        say(
            "the model has one output, which is explained as a number (task=regression); if it is the logit or the "
            "probability of class 1, say so: model.task=binary or model.task=binary_probability (in Python: "
            "task='binary')"
        )
        return REGRESSION
    zero_or_one = bool(((labels == 0) | (labels == 1)).all())
    if labels.is_floating_point():
        if zero_or_one and len(labels) > 1:
            raise UserError(
                "the model has one output and the labels are float numbers that are all 0 or 1; "
                + _which("regression", "binary", "binary_probability")
            )
        return REGRESSION
    if not zero_or_one:
        raise UserError(
            f"the model has one output and the labels are whole numbers up to {int(labels.max())}; if they are numbers "
            "to predict give them as floats (labels.float()) or say model.task=regression; a classifier of so many "
            "classes has one output for each"
        )
    return _checked(TASKS["binary"], 1, outputs, count)


def _task_of_several_outputs(labels: Tensor | None, width: int, outputs: FirstOutputs, count: int) -> Task:
    zero_or_one = labels is not None and bool(((labels == 0) | (labels == 1)).all())
    if labels is not None and labels.is_floating_point():
        if zero_or_one and labels.dim() == 2:
            raise UserError(
                f"labels are float numbers {tuple(labels.shape)} that are all 0 or 1; for one class per sample give "
                "class indices (labels.argmax(1)), for labels that do not exclude each other whole numbers "
                f"(labels.long()); if they are numbers to predict {_which('regression')}"
            )
        return REGRESSION
    if labels is not None and labels.dim() == 2:
        if zero_or_one and bool((labels.sum(1) == 1).all()):
            raise UserError(
                f"each sample has exactly one of {labels.shape[1]} labels; for one class per sample give class indices "
                f"(labels.argmax(1)), for labels that do not exclude each other {_which('labels')}"
            )
        if not zero_or_one:
            raise UserError(f"labels hold {int(labels.max())}, expected 0 or 1 for each of {width} labels")
        return _checked(TASKS["labels"], width, outputs, count)
    if _all_probabilities(outputs, count):
        raise UserError(
            "the model's outputs lie between 0 and 1 and add up to 1 on all inputs that were looked at, as if it ended "
            f"in a softmax; if they are probabilities {_which('probabilities')}; if they are logits say "
            "model.task=classes"
        )
    # The graph is looked at only where the outputs do not show by themselves that they are no probabilities.
    if _within(outputs.of(1)) and outputs.last_operation() == SIGMOID:
        raise UserError(
            f"the model ends in a sigmoid for each of its {width} outputs: if they are probabilities of labels that do "
            f"not exclude each other {_which('labels_probability')}; if they are logits say model.task=classes"
        )
    return CLASSES


def _checked(task: Task, width: int, outputs: FirstOutputs, count: int) -> Task:
    """A told or certain task, if the outputs can be what it says; a binary one by what its output is."""
    if task.one and width != 1:
        other = "classes for logits, probabilities after a softmax"
        raise UserError(f"task={task.name} is for models with one output, this one has {width}; use task={other}")
    if task.name in ("classes", "probabilities") and width == 1:
        raise UserError(
            f"task={task.name} is for models with one output per class, this one has one; use task=binary for the "
            "logit of class 1, task=binary_probability for its probability, task=regression for a number"
        )
    if task.name in ("binary", "labels"):
        return _by_link(task, outputs, count)
    if task.link in ("given", "given_each"):
        got = outputs.of(min(count, MOST_LOOKED_AT))
        low, high = float(got.min()), float(got.max())
        of_logits = task.name.replace("probabilities", "classes").replace("_probability", "_logit")
        tolerance = SUM_TOLERANCE.get(got.dtype, 1e-4)
        if not _within(got, tolerance):
            raise UserError(
                f"task={task.name}, but the model's outputs are {low:.3g} to {high:.3g}, expected probabilities from 0 "
                f"to 1; for logits use task={of_logits}"
            )
        if task.name == "probabilities" and not _add_up(got):
            raise UserError(
                f"task=probabilities, but the outputs of a sample add up to {float(got.sum(1)[0]):.3g}, expected 1; "
                "for labels that do not exclude each other use task=labels_probability"
            )
    return task


def _by_link(task: Task, outputs: FirstOutputs, count: int) -> Task:
    """``binary`` or ``labels`` for logits, or their form for probabilities; UserError where that is not certain."""
    got = outputs.of(min(count, MOST_LOOKED_AT))
    if not _within(got) or outputs.last_operation() in LINEAR:
        return task
    if outputs.last_operation() == SIGMOID:
        return TASKS[f"{task.name}_probability"]
    raise UserError(
        "the model's outputs lie between 0 and 1 on all inputs looked at, as probabilities do and logits may; "
        + _which(f"{task.name}_probability", f"{task.name}_logit")
    )


def _all_probabilities(outputs: FirstOutputs, count: int) -> bool:
    """Whether the outputs look like those of a softmax on all inputs that are looked at, first on one of them."""
    alike = all(_add_up(outputs.of(some)) for some in (1, min(count, MOST_LOOKED_AT)))
    return alike and outputs.last_operation() not in LINEAR


def _add_up(outputs: Tensor) -> bool:
    if outputs.dim() != 2:
        return False
    tolerance = SUM_TOLERANCE.get(outputs.dtype, 1e-4)
    sums = outputs.double().sum(1)
    return _within(outputs, tolerance) and bool(((sums - 1).abs() <= tolerance).all())


def _within(outputs: Tensor, tolerance: float = 0.0) -> bool:
    """Whether all outputs lie between 0 and 1, as probabilities do."""
    return bool(((outputs >= -tolerance) & (outputs <= 1 + tolerance)).all())


SIGMOID = "SigmoidBackward0"  # autograd's name of the operation
# Operations of autograd whose result can be no probability by construction: a linear layer is the last.
LINEAR = ("AddmmBackward0", "MmBackward0", "ConvolutionBackward0")
# Operations that move numbers and leave them as they are.
MOVING = {
    f"{name}Backward{number}"
    for name in "View ReshapeAlias UnsafeView Squeeze Unsqueeze Select Slice Clone Alias ToCopy Permute T".split()
    for number in range(3)
}


def last_operation(outputs: Tensor) -> str:
    """The name of the last operation that computed the outputs, as far as autograd knows; "" where it does not."""
    operation = outputs.grad_fn
    while operation is not None and operation.name() in MOVING:
        operation = next((before for before, _ in operation.next_functions if before is not None), None)
    return "" if operation is None else operation.name()


def _which(*names: str) -> str:
    texts = [f"model.task={name}" for name in names]
    return f"say {' or '.join(texts)} (in Python: harness.Data(..., task={names[0]!r}))"
