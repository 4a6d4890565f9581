"""Units: what is removed or scored together.

A pixel is a unit with all its channels, a token with its embedding, a time step with its channels, a table's
column with all the numbers that encode it. Attributions may come per element; they are reduced to one number per unit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError, unknown

REDUCTIONS = {
    "sum": lambda values, axis: values.sum(axis),
    "abs_sum": lambda values, axis: values.abs().sum(axis),
    "max_abs": lambda values, axis: values.abs().amax(axis),
    "l2": lambda values, axis: values.norm(dim=axis),
}
# The same over the numbers that encode one column: how they are prepared, joined, and what is done with the result.
GROUPED: dict[str, tuple[Callable[[Tensor], Tensor], str, Callable[[Tensor], Tensor]]] = {
    "sum": (lambda values: values, "sum", lambda joined: joined),
    "abs_sum": (Tensor.abs, "sum", lambda joined: joined),
    "max_abs": (Tensor.abs, "amax", lambda joined: joined),
    "l2": (Tensor.square, "sum", Tensor.sqrt),
}

# Where the channels of one unit lie, by modality; the batch axis is axis 0.
CHANNEL_AXIS = {"image": 1, "table": None, "tokens": 2, "series": 1}
MODALITY_BY_AXES = {4: "image", 2: "table", 3: "tokens"}


@dataclass(frozen=True)
class Units:
    """The units of a kind of input: their grid, e.g. (H, W), and the axis of the inputs they run over, if any.

    columns   of a table whose columns are encoded by several numbers (one-hot): which unit each number belongs to
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
        """The units of ``inputs``; ``modality`` image, table, tokens (N, T, D) or series (N, C, T) is guessed from
        the axes.

        With ``elements`` every single number is a unit of its own, as some libraries have it. ``columns`` says which
        column each number of a table (N, D) belongs to, counted from 0; None where each is a column of its own.
        """
        modality = modality or MODALITY_BY_AXES.get(inputs.dim(), "other")
        shape = tuple(inputs.shape[1:])
        axis = None if elements else CHANNEL_AXIS.get(modality)
        grid = shape if axis is None else shape[: axis - 1] + shape[axis:]
        columns = _checked_columns(columns, shape)
        if columns is not None and not elements:
            grid = (max(columns) + 1,)
        return cls(grid, axis, modality, shape, columns)

    @property
    def grouped(self) -> bool:
        """Whether a unit is several numbers of a table."""
        return self.columns is not None and self.shape != self.input_shape

    @property
    def count(self) -> int:
        """How many units one sample has."""
        return math.prod(self.shape)

    def expand(self, per_unit: Tensor) -> Tensor:
        """Per-unit values (N, *shape) so that they broadcast against inputs."""
        if self.grouped:
            return per_unit[:, _places(self.columns, per_unit.device)]
        return per_unit if self.channel_axis is None else per_unit.unsqueeze(self.channel_axis)

    def as_map(self, per_unit: Tensor) -> Tensor:
        """Attributions (N, *shape), one per unit, as an explainer gives them: with a channel axis where inputs have it.

        Columns of several numbers stay one number each: to expand them would count them several times.
        """
        return per_unit if self.grouped else self.expand(per_unit)

    def check(self, attributions: Tensor) -> Tensor:
        """Attributions as (N, *input shape) or with channel axis 1, whatever accepted shape they came in.

        Of a table whose columns are several numbers they may stay one number per column.
        """
        shape = tuple(attributions.shape[1:])
        joint = self.columns is not None or self.modality in ("image", "tokens", "series")
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

        ``how`` is one of REDUCTIONS; ``none`` and units that are single numbers leave them as they are.
        """
        if how not in (*REDUCTIONS, "none"):
            raise unknown("reduction", how, (*REDUCTIONS, "none"))
        attributions = self.check(attributions)
        if self.grouped:
            return self._join(attributions, how)
        if self.channel_axis is None:
            return attributions
        return REDUCTIONS[how](attributions, self.channel_axis)

    def _join(self, attributions: Tensor, how: str) -> Tensor:
        """Attributions (N, numbers) or (N, units) of a table as one number per unit."""
        if how == "none":
            raise UserError("reduction none makes every number a unit; these units are columns of several numbers")
        prepare, joining, finish = GROUPED[how]
        if attributions.shape[1] == self.count:
            return finish(prepare(attributions))
        places = _places(self.columns, attributions.device).expand(len(attributions), -1)
        joined = attributions.new_zeros(len(attributions), self.count)
        return finish(joined.scatter_reduce(1, places, prepare(attributions), joining))

    @property
    def _one_channel(self) -> tuple[int, ...] | None:
        if self.channel_axis is None:
            return None
        shape = list(self.input_shape)
        shape[self.channel_axis - 1] = 1
        return tuple(shape)


def _checked_columns(columns: Sequence[int] | None, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Which unit each number belongs to; None where each is a unit of its own."""
    if columns is None:
        return None
    numbers = _whole_numbers(columns)
    if shape == (len(numbers),) and numbers == tuple(range(len(numbers))):
        return None
    several = len(set(numbers)) < len(numbers)  # else an order that names alone would tell from the numbers' own
    if shape != (len(numbers),) or not several or set(numbers) != set(range(max(numbers) + 1)):
        came = " ".join(str(columns).split())[:80]
        raise UserError(
            f"columns are {came} for inputs {('N', *shape)}, expected the column, from 0 without gaps, "
            "of each number of a table (N, D), 0 to D - 1 in this order where each is a column of its own"
        )
    return numbers


def _whole_numbers(columns: Sequence[int]) -> tuple[int, ...]:
    """A sequence or tensor of whole numbers as a tuple, () for anything else."""
    try:
        given = torch.as_tensor(columns)
    except (TypeError, ValueError, RuntimeError):
        return ()
    whole = given.dim() == 1 and not given.is_floating_point() and given.dtype != torch.bool
    return tuple(given.tolist()) if whole else ()


@lru_cache(maxsize=64)
def _places(columns: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it is kept, and may serve where gradients are taken
        return torch.tensor(columns, device=device)


def gather_segments(per_segment: Tensor, segments: Tensor) -> Tensor:
    """Spread values per segment (N, K) over the units they hold: (N, *units) for a map ``segments`` (N, *units)."""
    return per_segment.gather(1, segments.flatten(1)).view(segments.shape)


def segment_sums(per_unit: Tensor, segments: Tensor, count: int) -> Tensor:
    """Sums of values per unit (N, *units) within each segment: (N, count)."""
    flat = per_unit.flatten(1)
    sums = torch.zeros(len(flat), count, dtype=flat.dtype, device=flat.device)
    return sums.scatter_add(1, segments.flatten(1), flat)


def segment_sizes(segments: Tensor, count: int) -> Tensor:
    """How many units each segment holds: (N, count); 0 where a sample has fewer segments than ``count``."""
    return segment_sums(torch.ones_like(segments, dtype=torch.float32), segments, count)
