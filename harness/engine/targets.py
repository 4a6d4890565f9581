"""Which output of the model is explained for each sample."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.checks import check_targets
from harness.errors import UserError
from harness.sources import Data


def chosen_targets(
    choice: str | int, count: int, classes: int, data: Data, predictions: Callable[[], Tensor]
) -> Tensor:
    """The explained class (N,) int64 of the first ``count`` samples, on the CPU, as ``protocol.target`` says.

    ``predicted`` the model's class; ``label`` the data's labels, or its targets if it has no labels; ``given`` the
    data's targets; a number that class for all. A model with a single output (``classes`` is 1) has nothing else to
    explain. ``predictions`` computes the model's classes. UserError where the data lacks what is asked for, or holds a
    class that the model does not have.
    """
    if choice == "given":
        if data.targets is None:
            raise UserError("protocol.target is given, but the data gives no targets; use target=predicted or label")
        return check_targets(data.targets, len(data), classes)[:count].cpu()
    if choice == "predicted" or (choice == "label" and classes == 1):
        return predictions()
    if choice == "label":
        labels = data.targets if data.labels is None else data.labels
        if labels is None:
            raise UserError("protocol.target is label, but the data has no labels; use target=predicted")
        return check_targets(labels[:count], count, classes, what="labels").cpu()
    return check_targets(torch.full((count,), choice), count, classes, what="protocol.target")
