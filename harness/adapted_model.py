"""A user's model as the engine calls it: explained inputs in, canonical outputs out.

Some inputs are *carried*: they go to the model with their sample and are not explained, such as a mask or a second
table. Explainers and metrics pass rows in any number and order. The carried tensors of each row come from one of two
places: the caller passes them (``harness.samples.Samples.track``), or all rows belong to the one sample that is being
explained (``AdaptedModel.with_carried``).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.model_outputs import output_tensor
from harness.predictor import Carried
from harness.task import CLASSES, Task

# Carried tensors of texts or series of which only the units are explained inputs, (rows, L, D) or (rows, C, L):
# ``OTHER_POSITIONS`` (rows, T, D) or (rows, C, T) are the padding and special tokens, 0 at the units, and
# ``UNIT_POSITIONS`` (rows, L) are the indices of the units among the T positions.
OTHER_POSITIONS, UNIT_POSITIONS = "other positions", "unit positions"


class AdaptedModel(nn.Module):
    """A module from explained inputs (rows, ...) to canonical outputs (rows, K) of a task.

    model      the user's module
    task       the task of its outputs
    output     which of several outputs is meant (``harness.model_outputs``), or None
    explained  the keyword of the explained input, its position among the arguments, or None for the first
    as_dict    whether the module takes all its inputs as one dict
    carries    whether the module has carried inputs, so that it cannot be called without them
    length     the number T of positions of a text or series whose units alone are explained; else None
    position_axis  the axis along which these positions follow one another

    Its submodules have the names that they have in the user's module.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task = CLASSES,
        output: str | int | None = None,
        explained: str | int | None = None,
        as_dict: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.task, self.output = model, task, output
        self.explained, self.as_dict = explained, as_dict
        self._carried_of_sample: Carried | None = None
        self._most_rows = math.inf
        self.carries, self.length, self.position_axis = False, None, 1
        self.training = False  # of this module alone: the user's keeps its own modes

    def forward(self, inputs: Tensor, carried: Carried | None = None) -> Tensor:
        """Canonical outputs (rows, K) of explained inputs (rows, ...) with the carried tensors (rows, ...) of each."""
        return self.task.canonical(output_tensor(self.returned(inputs, carried), self.output, len(inputs)))

    def returned(self, inputs: Tensor, carried: Carried | None = None) -> Any:
        """What the user's module itself returns for these inputs."""
        carried = self.carried_rows(len(inputs)) if carried is None else carried
        if OTHER_POSITIONS in carried:
            inputs = put_back(inputs, carried[OTHER_POSITIONS], carried[UNIT_POSITIONS], self.position_axis)
        elif self.length is not None and inputs.shape[self.position_axis] != self.length:
            raise NotApplicable(
                f"it passes {inputs.shape[self.position_axis]} positions to the model that belong to no sample, and "
                f"this model needs all {self.length} positions of a sample, padding and special tokens included"
            )
        own = (OTHER_POSITIONS, UNIT_POSITIONS)  # of this class; the user's module does not take them
        return self._call(inputs, {name: tensor for name, tensor in carried.items() if name not in own})

    def _call(self, inputs: Tensor, others: Carried) -> Any:
        if self.as_dict:
            return self.model({self.explained: inputs, **others})
        if isinstance(self.explained, str):
            return self.model(**{self.explained: inputs}, **others)
        by_place = {self.explained or 0: inputs} | {
            name: each for name, each in others.items() if isinstance(name, int)
        }
        by_name = {name: each for name, each in others.items() if isinstance(name, str)}
        return self.model(*(by_place[place] for place in sorted(by_place)), **by_name)

    def carried_rows(self, rows: int) -> Carried:
        """The carried tensors of the sample that is being explained, once for each row; empty if nothing is carried."""
        if self._carried_of_sample is None or rows > self._most_rows:
            if not self.carries:
                return {}
            raise NotApplicable(
                "it passes inputs to the model that belong to no sample of the data, such as training inputs, and this "
                "model needs the carried inputs of a sample"
            )
        return {name: tensor.expand(rows, *tensor.shape[1:]) for name, tensor in self._carried_of_sample.items()}

    @contextmanager
    def with_carried(self, carried: Carried, most_rows: float = math.inf) -> Iterator[None]:
        """Inside, all rows belong to one sample, whose carried tensors (1, ...) these are.

        Calls with more than ``most_rows`` rows are refused, as those of no sample are.
        """
        before = self._carried_of_sample, self._most_rows
        self._carried_of_sample, self._most_rows = carried, most_rows
        try:
            yield
        finally:
            self._carried_of_sample, self._most_rows = before

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """All modules, under the names that they have in the user's module; this one and that one are called ""."""
        memo = set() if memo is None else memo
        if self not in memo:
            memo.add(self)
            yield prefix, self
            if self._users_module is not self.model:
                memo.add(self.model)
                yield prefix, self.model
            yield from self._users_module.named_modules(memo, prefix, remove_duplicate)

    @property
    def _users_module(self) -> nn.Module:
        """The module that the user gave, also inside a wrapper of this package for images or token ids."""
        return self.model.module if getattr(self.model, "wraps_a_users_module", False) else self.model

    def get_submodule(self, target: str) -> nn.Module:
        """The module that has this name in the user's module; AttributeError if there is none."""
        return self._users_module.get_submodule(target)


def put_back(values: Tensor, others: Tensor, positions: Tensor, axis: int) -> Tensor:
    """Values (rows, ...) put at their positions (rows, L), along ``axis``, among the others (rows, ...)."""
    return others.scatter(axis, along(positions, axis, values.dim()).expand_as(values), values)


def along(of_positions: Tensor, axis: int, dimensions: int) -> Tensor:
    """Numbers (rows, L) of positions in a shape that broadcasts to tensors whose positions lie along ``axis``."""
    return of_positions.view([len(of_positions), *(-1 if each == axis else 1 for each in range(1, dimensions))])
