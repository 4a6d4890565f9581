"""A model's decisions on a table, whether it predicts the explained class, and the rows that local rules draw from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError
from harness.explainers._tabular import check_rows, column_names, columns_of_numbers, names_of_numbers
from harness.removal.background import Background
from harness.samples import Samples
from harness.task import Task

MOST_NUMBERS_AT_ONCE = 2**22  # in rows that are built at once: bounds the memory


@dataclass(frozen=True)
class BackgroundRows:
    """Training inputs whose values take the place of a sample's own, with the model's outputs for them.

    inputs   (R, D), on the model's device
    outputs  (R, K) canonical outputs
    columns  (D,) int64, the column each number belongs to
    names    (C,) of the columns; their numbers where the data has no names
    """

    inputs: Tensor
    outputs: Tensor
    columns: np.ndarray
    names: tuple[str, ...]

    @property
    def number_names(self) -> tuple[str, ...]:
        """The names of the numbers (D,)."""
        return names_of_numbers(self.names, self.columns)

    @property
    def categorical(self) -> np.ndarray:
        """Whether a number is one of several of a category (D,) bool."""
        return np.bincount(self.columns)[self.columns] > 1


def background_rows(context: Samples, count: int) -> BackgroundRows:
    """``count`` training inputs, the same under all seeds; NotApplicable without any, and where no class is decided."""
    task = context.task
    rows = Background(count).inputs(context)
    outputs = context.predictor.logits(rows).view(len(rows), -1)
    if not task.classed or (outputs.shape[1] == 1 and not task.independent):
        raise NotApplicable("a rule or a counterfactual is about a class, the model's output is a number")
    check_rows(rows, outputs)
    return BackgroundRows(rows, outputs, columns_of_numbers(context), column_names(context))


def decided(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the target (rows,) is predicted, bool: it has the highest output (rows, K), or as an independent label a
    probability above 1/2.
    """
    if task.independent:
        return task.probabilities(outputs).gather(1, targets[:, None])[:, 0] > 0.5
    return outputs.argmax(1) == targets


def lead(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """The target's probability less that of its strongest rival (rows,): the likeliest other class, or "not"."""
    shares = task.probabilities(outputs)
    own = shares.gather(1, targets[:, None])
    rival = 1 - own if task.independent else shares.scatter(1, targets[:, None], -1.0).amax(1, keepdim=True)
    return (own - rival)[:, 0]


def outputs_of(context: Samples, sample: Tensor, build: Callable[[Tensor], Tensor]) -> Tensor:
    """The model's outputs (rows, K) for inputs that ``build(rows)`` makes of the samples ``sample`` (rows,).

    UserError where one is NaN, which is no decision.
    """
    numbers = torch.arange(len(sample), device=sample.device)
    parts = numbers.split(max(1, MOST_NUMBERS_AT_ONCE // context.inputs[0].numel()))
    outputs = torch.cat([context.model_outputs(build(rows), sample[rows]).view(len(rows), -1) for rows in parts])
    if outputs.isnan().any():
        raise UserError("the model's outputs for changed rows hold NaN, expected numbers")
    return outputs


def decision_in_words(context: Samples, target: int, own: bool) -> str:
    """``class 1`` or ``not class 1``; ``label`` in place of ``class`` where labels do not exclude each other."""
    return f"{'' if own else 'not '}{'label' if context.task.independent else 'class'} {target}"


def sample_names(context: Samples) -> list[str | int]:
    """The ids of the samples; their numbers in the data set where they have none."""
    places = context.places.tolist()
    return places if context.ids is None else [str(context.ids[place]) for place in places]
