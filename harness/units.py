"""Units: what is removed or scored together.

A pixel is a unit with all its channels, a token with its embedding, a time step with its channels, a table's
column by itself. Attributions may come per element; they are reduced to one number per unit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError, unknown

REDUCTIONS = {
    "sum": lambda values, axis: values.sum(axis),
    "abs_sum": lambda values, axis: values.abs().sum(axis),
    "max_abs": lambda values, axis: values.abs().amax(axis),
    "l2": lambda values, axis: values.norm(dim=axis),
}

# Where the channels of one unit lie, by modality; the batch axis is axis 0.
CHANNEL_AXIS = {"image": 1, "table": None, "tokens": 2, "series": 1}
MODALITY_BY_AXES = {4: "image", 2: "table", 3: "tokens"}


@dataclass(frozen=True)
class Units:
    """The units of a kind of input: their grid, e.g. (H, W), and the axis of the inputs they run over, if any."""

    shape: tuple[int, ...]
    channel_axis: int | None
    modality: str
    input_shape: tuple[int, ...]

    @classmethod
    def of(cls, inputs: Tensor, modality: str | None = None, elements: bool = False) -> "Units":
        """The units of ``inputs``; ``modality`` image, table, tokens (N, T, D) or series (N, C, T) is guessed from
        the axes.

        With ``elements`` every single number is a unit of its own, as some libraries have it.
        """
        modality = modality or MODALITY_BY_AXES.get(inputs.dim(), "other")
        shape = tuple(inputs.shape[1:])
        axis = None if elements else CHANNEL_AXIS.get(modality)
        grid = shape if axis is None else shape[: axis - 1] + shape[axis:]
        return cls(grid, axis, modality, shape)

    @property
    def count(self) -> int:
        """How many units one sample has."""
        return math.prod(self.shape)

    def expand(self, per_unit: Tensor) -> Tensor:
        """Per-unit values (N, *shape) so that they broadcast against inputs."""
        return per_unit if self.channel_axis is None else per_unit.unsqueeze(self.channel_axis)

    def check(self, attributions: Tensor) -> Tensor:
        """Attributions as (N, *input shape) or with channel axis 1, whatever accepted shape they came in."""
        shape = tuple(attributions.shape[1:])
        if self.channel_axis is None and self.modality in ("image", "tokens", "series") and shape != self.input_shape:
            raise NotApplicable(
                f"reduction=none needs an attribution for every number of an input, these are {('N', *shape)}"
            )
        if shape == self.input_shape or shape == self._one_channel:
            return attributions
        if shape == self.shape:
            return self.expand(attributions)
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
        if self.channel_axis is None:
            return attributions
        return REDUCTIONS[how](attributions, self.channel_axis)

    @property
    def _one_channel(self) -> tuple[int, ...] | None:
        if self.channel_axis is None:
            return None
        shape = list(self.input_shape)
        shape[self.channel_axis - 1] = 1
        return tuple(shape)


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
