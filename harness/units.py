"""Units: the parts of an input that are removed and scored as one.

A unit is a pixel or voxel with all its channels, a token with its embedding, a time step with its channels, or a
table's column with all the numbers that encode it. Attributions per number are reduced to one number per unit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError, unknown
from harness.modalities import certain_modality, fitting_modality

REDUCTIONS = {
    "sum": lambda values, axis: values.sum(axis),
    "abs_sum": lambda values, axis: values.abs().sum(axis),
    "max_abs": lambda values, axis: values.abs().amax(axis),
    "l2": lambda values, axis: values.norm(dim=axis),
}
# The same reductions over the numbers that encode one column, in three steps: on each number, over the column (the name
# of a reduction of ``scatter_reduce``), on the result.
GROUPED: dict[str, tuple[Callable[[Tensor], Tensor], str, Callable[[Tensor], Tensor]]] = {
    "sum": (lambda values: values, "sum", lambda joined: joined),
    "abs_sum": (Tensor.abs, "sum", lambda joined: joined),
    "max_abs": (Tensor.abs, "amax", lambda joined: joined),
    "l2": (Tensor.square, "sum", Tensor.sqrt),
}

# The axis along which texts and series have positions, some of which may be no units.
POSITION_AXIS = {"tokens": 1, "series": 2}
# The axis of a unit's channels, by modality; the batch axis is axis 0.
CHANNEL_AXIS = {"image": 1, "table": None, "tokens": 2, "series": 1, "volume": 1}


@dataclass(frozen=True)
class Units:
    """The units of a kind of input.

    shape         the grid of units, for example (H, W)
    channel_axis  the axis of the inputs whose numbers belong to the same unit, or None
    modality      ``image``, ``table``, ``tokens``, ``series``, ``volume`` or ``other``
    input_shape   the shape of one input
    columns       for a table with columns of several numbers (one-hot): the unit of each number; else None
    """

    shape: tuple[int, ...]
    channel_axis: int | None
    modality: str
    input_shape: tuple[int, ...]
    columns: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        modality: str | None = None,
        elements: bool = False,
        columns: Sequence[int] | None = None,
    ) -> "Units":
        """The units of ``inputs``.

        ``modality`` is image (N, C, H, W), table (N, D), tokens (N, T, D), series (N, C, T), volume (N, C, D, H, W) or
        other; without it two axes are a table and four an image. UserError where the axes could mean several things,
        or do not fit the modality. With ``elements`` every single number is a unit, as in some libraries. ``columns``
        gives the column, from 0, of each number of a table (N, D); None if each is a column of its own.
        """
        shape = tuple(inputs.shape[1:])
        modality = certain_modality(shape) if modality is None else fitting_modality(modality, shape)
        axis = None if elements else CHANNEL_AXIS.get(modality)
        grid = shape if axis is None else shape[: axis - 1] + shape[axis:]
        columns = _checked_columns(columns, shape)
        if columns is not None and not elements:
            grid = (max(columns) + 1,)
        return cls(grid, axis, modality, shape, columns)

    @property
    def grouped(self) -> bool:
        """Whether a unit is a table's column that several numbers encode."""
        return self.columns is not None and self.shape != self.input_shape

    @property
    def position_axis(self) -> int | None:
        """The axis of the inputs along which positions follow one another; None where there is no such axis."""
        return POSITION_AXIS.get(self.modality)

    @property
    def count(self) -> int:
        """How many units one sample has."""
        return math.prod(self.shape)

    def expand(self, per_unit: Tensor) -> Tensor:
        """Values per unit (N, *shape) in a shape that broadcasts to inputs."""
        if self.grouped:
            return per_unit[:, _column_index(self.columns, per_unit.device)]
        return per_unit if self.channel_axis is None else per_unit.unsqueeze(self.channel_axis)

    def as_map(self, per_unit: Tensor) -> Tensor:
        """Attributions per unit (N, *shape) in the form that explainers return: with a channel axis if inputs have one.

        For columns of several numbers it stays one number per column; expanding it would count it several times.
        """
        return per_unit if self.grouped else self.expand(per_unit)

    def check(self, attributions: Tensor) -> Tensor:
        """Attributions of any accepted shape, as (N, *input shape) or with a single channel.

        For a table with columns of several numbers, one number per column is accepted and stays as it is.
        """
        shape = tuple(attributions.shape[1:])
        joint = self.columns is not None or CHANNEL_AXIS.get(self.modality) is not None
        if joint and self.channel_axis is None and not self.grouped and shape != self.input_shape:
            raise NotApplicable(
                f"reduction=none needs an attribution for every number of an input, these are {('N', *shape)}"
            )
        if shape == self.input_shape or shape == self._one_channel:
            return attributions
        if shape == self.shape:
            return self.as_map(attributions)
        allowed = dict.fromkeys((self.input_shape, self._one_channel, self.shape))
        raise UserError(
            f"attributions have shape {('N', *shape)}, expected {' or '.join(str(('N', *s)) for s in allowed if s)}"
        )

    def reduce(self, attributions: Tensor, how: str = "sum") -> Tensor:
        """One number per unit, (N, *shape), from attributions in any accepted shape.

        ``how`` is one of REDUCTIONS or ``none``. With ``none``, or with units of one number, nothing is reduced.
        """
        if how not in (*REDUCTIONS, "none"):
            raise unknown("reduction", how, (*REDUCTIONS, "none"))
        attributions = self.check(attributions)
        if self.grouped:
            return self._join_columns(attributions, how)
        if self.channel_axis is None:
            return attributions
        return REDUCTIONS[how](attributions, self.channel_axis)

    def _join_columns(self, attributions: Tensor, how: str) -> Tensor:
        """Attributions of a table, (N, numbers) or (N, units), as one number per unit (N, units)."""
        if how == "none":
            raise UserError("reduction none makes every number a unit; these units are columns of several numbers")
        prepare, joining, finish = GROUPED[how]
        if attributions.shape[1] == self.count:
            return finish(prepare(attributions))
        places = _column_index(self.columns, attributions.device).expand(len(attributions), -1)
        joined = attributions.new_zeros(len(attributions), self.count)
        return finish(joined.scatter_reduce(1, places, prepare(attributions), joining))

    @property
    def _one_channel(self) -> tuple[int, ...] | None:
        if self.channel_axis is None:
            return None
        shape = list(self.input_shape)
        shape[self.channel_axis - 1] = 1
        return tuple(shape)


class UndecidedUnits:
    """In place of ``Units`` where the axes of inputs can mean several things, as long as nothing depends on it.

    Attributions for every number of an input are right under each reading. Whatever else is asked of the units raises
    the UserError that names the readings.
    """

    def __init__(self, shape: tuple[int, ...], question: UserError) -> None:
        self.input_shape, self.columns, self.question = shape, None, question

    def check(self, attributions: Tensor) -> Tensor:
        """Attributions (N, *input shape)."""
        if tuple(attributions.shape[1:]) != self.input_shape:
            raise self.question
        return attributions

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.question


def _checked_columns(columns: Sequence[int] | None, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The unit of each number; None if each number is a unit of its own."""
    if columns is None:
        return None
    numbers = _whole_numbers(columns)
    if shape == (len(numbers),) and numbers == tuple(range(len(numbers))):
        return None
    several = len(set(numbers)) < len(numbers)  # if not, it is a mere reordering, which is an error too
    if shape != (len(numbers),) or not several or set(numbers) != set(range(max(numbers) + 1)):
        came = " ".join(str(columns).split())[:80]
        raise UserError(
            f"columns are {came} for inputs {('N', *shape)}, expected the column, from 0 without gaps, "
            "of each number of a table (N, D), 0 to D - 1 in this order where each is a column of its own"
        )
    return numbers


def _whole_numbers(columns: Sequence[int]) -> tuple[int, ...]:
    """A sequence or tensor of integers as a tuple; () for anything else."""
    try:
        given = torch.as_tensor(columns)
    except (TypeError, ValueError, RuntimeError):
        return ()
    whole = given.dim() == 1 and not given.is_floating_point() and given.dtype != torch.bool
    return tuple(given.tolist()) if whole else ()


@lru_cache(maxsize=64)
def _column_index(columns: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # cached, and may be used where gradients are computed
        return torch.tensor(columns, device=device)


def gather_segments(per_segment: Tensor, segments: Tensor) -> Tensor:
    """The value of each unit's segment, (N, *units), from values (N, K) and segment labels (N, *units)."""
    return per_segment.gather(1, segments.flatten(1)).view(segments.shape)


def segment_sums(per_unit: Tensor, segments: Tensor, count: int) -> Tensor:
    """Sums of values per unit (N, *units) within each segment: (N, count)."""
    flat = per_unit.flatten(1)
    sums = torch.zeros(len(flat), count, dtype=flat.dtype, device=flat.device)
    return sums.scatter_add(1, segments.flatten(1), flat)


def segment_sizes(segments: Tensor, count: int) -> Tensor:
    """The number of units in each segment, (N, count); 0 if a sample has fewer segments than ``count``."""
    return segment_sums(torch.ones_like(segments, dtype=torch.float32), segments, count)
