"""Finds the task of a user's model, and turns it into a module from explained inputs to canonical outputs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapted_model import AdaptedModel
from harness.engine.clean_outputs import first_answer
from harness.engine.several_inputs import Call
from harness.engine.task_choice import FirstOutputs, chosen_task, last_operation
from harness.errors import MOST_LISTED
from harness.guards import frozen
from harness.model_outputs import output_tensor
from harness.sources import Data, LoadedModel
from harness.task import Task, one_task
from harness.units import POSITION_AXIS


@dataclass(frozen=True)
class ModelForTask:
    """A module from explained inputs to canonical outputs (N, output_count), and the task that says what these are."""

    module: nn.Module
    task: Task
    output_count: int


def model_for_task(
    model: LoadedModel, data: Data, call: Call, inputs: Callable[[int], Tensor], device: torch.device
) -> ModelForTask:
    """The model with its task, which the user has set or which follows from outputs and labels.

    ``inputs(n)`` are the first n inputs. A module that already maps one input to canonical outputs is not wrapped.
    UserError where the task is not certain, or where a task that was set does not fit the outputs.
    """
    adapted = AdaptedModel(model.module, output=model.output, explained=call.explained, as_dict=call.as_dict)
    adapted.carries = bool(data.carried)
    carried = lambda count: {name: values[:count].to(device) for name, values in data.carried.items()}

    @cache
    def answer(count: int) -> Any:
        return first_answer(adapted, inputs(count).to(device), carried(count), _columns_in_words(data))

    def operation() -> str:
        with torch.enable_grad(), frozen(model.module):
            # Not a leaf of the graph: a model may change its input in place.
            traced = inputs(1).to(device).clone().requires_grad_().clone()
            return last_operation(output_tensor(adapted.returned(traced, carried(1)), model.output, 1))

    outputs = FirstOutputs(lambda count: output_tensor(answer(count), model.output, count), operation)
    width = outputs.of(1).shape[1] if outputs.of(1).dim() == 2 else 1
    adapted.task = chosen_task(one_task(model.task, data.task), model, data, width, outputs)
    as_it_is = isinstance(answer(1), Tensor) and answer(1).dim() in (1, 2) and model.output is None
    whole = model.wording is None and data.present is None
    if as_it_is and whole and not data.carried and call == Call() and not adapted.task.one:
        return ModelForTask(model.module, adapted.task, width)
    if not whole:
        adapted.position_axis = POSITION_AXIS["series" if data.modality == "series" else "tokens"]
        adapted.length = inputs(1).shape[adapted.position_axis]
    return ModelForTask(adapted, adapted.task, 2 if adapted.task.one else width)


def _columns_in_words(data: Data) -> str:
    """The columns of a table with the numbers that a one-hot column has, for a message; "" for other data."""
    if data.modality != "table" or data.unit_names is None:
        return ""
    numbers = Counter(data.columns or ())
    named = [f"{name} (one-hot, {numbers[i]})" if numbers[i] > 1 else name for i, name in enumerate(data.unit_names)]
    return f" ({', '.join(named[:MOST_LISTED])}{', ...' if len(named) > MOST_LISTED else ''})"
