"""Which output of the model is explained for each sample, and what the samples' labels are."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.checks import check_targets
from harness.errors import UserError
from harness.sources import Data
from harness.task import Task


def read_targets(values: Any, count: int, what: str) -> Tensor | None:
    """Targets or labels as a tensor (N,) or (N, K) of whole or float numbers; a single whole number counts for all.

    Tensors, NumPy arrays and lists are taken; truth values become 0 and 1; an axis of one entry, (N, 1), is dropped.
    UserError for anything else.
    """
    if values is None:
        return None
    if isinstance(values, int | np.integer) and not isinstance(values, bool):
        return torch.full((count,), int(values))
    try:
        answers = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{what} are {type(values).__name__}, expected class indices or numbers ({count},)") from None
    answers = answers.squeeze(1) if answers.dim() == 2 and answers.shape[1] == 1 else answers
    if answers.dim() not in (1, 2) or len(answers) != count or answers.is_complex():
        came = f"{answers.dtype} {tuple(answers.shape)}"
        raise UserError(f"{what} are {came}, expected class indices or numbers ({count},), or ({count}, outputs)")
    if answers.is_floating_point() and not answers.isfinite().all():
        raise UserError(f"{what} hold NaN or infinite values, expected finite numbers")
    return answers if answers.is_floating_point() else answers.long()


def with_target_tensors(data: Data) -> Data:
    """The data with targets and labels as tensors (``read_targets``)."""
    count = len(data)
    targets, labels = read_targets(data.targets, count, "targets"), read_targets(data.labels, count, "labels")
    return replace(data, targets=targets, labels=labels)


def separate_labels(data: Data) -> Data:
    """The data with numbers or rows of labels that were given as targets as what they are, its labels.

    A target is one output per sample. Float numbers, and one value for every output (N, K), are labels.
    """
    targets = data.targets
    if targets is None or (targets.dim() == 1 and not targets.is_floating_point()):
        return data
    if data.labels is not None:
        came = f"{targets.dtype} {tuple(targets.shape)}"
        raise UserError(
            f"targets are {came} beside labels, expected for each sample the output to explain ({len(data)},)"
        )
    return replace(data, targets=None, labels=targets)


def check_labels(data: Data, task: Task, outputs: int, one_output: bool) -> Data:
    """The data with labels and targets in the form that the task has; UserError where they do not fit.

    ``outputs`` is the number of canonical outputs. ``one_output`` says whether the same output is explained for all
    samples, so that one number per sample is the label of that output.
    """
    count, labels = len(data), data.labels
    if labels is None:
        return data
    if task.exclusive:
        if labels.is_floating_point() and bool((labels == labels.round()).all()):
            labels = labels.long()
        return replace(data, labels=check_targets(labels, count, outputs, what="labels"))
    if task.independent and (labels.shape != (count, outputs) or labels.is_floating_point()):
        came = f"{labels.dtype} {tuple(labels.shape)}"
        raise UserError(f"labels are {came}, expected 0 or 1 for each sample and output ({count}, {outputs})")
    if not task.classed:
        if labels.dim() == 1 and outputs > 1 and not one_output:
            raise UserError(
                f"labels are a float number per sample, but the model has {outputs} outputs: for class indices give "
                f"whole numbers; for numbers to predict give ({count}, {outputs}), or explain the output that they are "
                "about in all samples (targets=0, protocol.target=0)"
            )
        if labels.dim() == 2 and labels.shape[1] != outputs:
            raise UserError(f"labels are {tuple(labels.shape)}, expected ({count}, {outputs}): one for each output")
        return replace(data, labels=labels if labels.is_floating_point() else labels.float())
    return data


def labels_of_targets(labels: Tensor | None, targets: Tensor, task: Task) -> Tensor | None:
    """The labels (N,) as metrics use them: the class index, or the number for the explained output; else None."""
    if labels is None or (task.classed and not task.exclusive):
        return None
    return labels.gather(1, targets[:, None])[:, 0] if labels.dim() == 2 else labels


def chosen_targets(
    choice: str | int, count: int, outputs: int, data: Data, task: Task, predictions: Callable[[], Tensor]
) -> Tensor:
    """The explained output (N,) int64 of the first ``count`` samples, on the CPU, as ``protocol.target`` says.

    ``predicted`` the model's class; ``label`` the data's labels, or its targets if it has no labels; ``given`` the
    data's targets; a number that output for all. ``outputs`` is the number of canonical outputs; if there is one, it is
    explained. ``predictions`` computes the model's classes. UserError where the data lacks what is asked for, or holds
    a class that the model does not have.
    """
    if isinstance(choice, int):
        return check_targets(torch.full((count,), choice), count, outputs, what="protocol.target")
    if choice == "given" and data.targets is not None:
        return check_targets(data.targets, len(data), outputs)[:count].cpu()
    if outputs == 1:
        return torch.zeros(count, dtype=torch.long)
    if not task.classed:
        raise UserError(
            f"the model has {outputs} outputs that are numbers; say which is explained: targets=0 (protocol.target=0)"
        )
    if choice == "predicted":
        return predictions()
    labels = data.targets if data.labels is None else data.labels
    if choice == "label" and labels is not None and labels.dim() == 1:
        return check_targets(labels[:count], count, outputs, what="labels").cpu()
    if labels is not None and labels.dim() == 2:
        raise UserError(
            f"each sample has {labels.shape[1]} labels; give the one to explain for each, targets ({len(data)},) "
            "(protocol.target=predicted for the label of the highest output)"
        )
    if choice == "label":
        raise UserError("protocol.target is label, but the data has no labels; use target=predicted")
    if labels is not None and task.exclusive:
        return check_targets(labels[:count], count, outputs, what="labels").cpu()
    raise UserError("no targets: give the outputs to explain, for example targets=model(inputs).argmax(1)")
