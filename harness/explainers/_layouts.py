"""Where the places of an input are in a layer's output: on the last axes, before the channels, or in tokens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

CHANNELS_FIRST, CHANNELS_LAST, TOKENS = "channels first", "channels last", "tokens"

MOST_EXTRA_TOKENS = 8  # class, distillation and register tokens
INPUT_PARTS = 4  # blocks along each axis of the input, changed one after the other to see where an output changes
CLEARLY, LEAST_SLOPE = 2, 0.02  # how much more one layout must follow such changes than another, or than none

Grid = tuple[int, ...]


@dataclass(frozen=True)
class OutputLayout:
    """A way to read a layer's output as channels at places.

    kind    CHANNELS_FIRST (N, C, *grid), CHANNELS_LAST (N, *grid, C), or TOKENS (N, prefix + places, C)
    grid    the number of places along each axis of the input
    prefix  the number of tokens before those of the places
    """

    kind: str
    grid: Grid
    prefix: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """The output, or a gradient of its shape, as (N, C, *grid)."""
        if self.kind == TOKENS:
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return output.movedim(-1, 1) if self.kind == CHANNELS_LAST else output


class ShapeReader:
    """Finds the possible layouts of a model's outputs, whose shapes it gets in the order of the calls.

    Shapes of earlier outputs rule out layouts of later ones.

    size      of the input: (H, W), (T,) of a series, or (D, H, W) of a volume
    prefix    the number of tokens before those of the places, or None where the model does not state it
    """

    def __init__(self, size: Grid, prefix: int | None = None) -> None:
        self.size, self.prefix = size, prefix
        self.grids: list[Grid] = []  # of the maps so far
        self.lengths: set[int] = set()  # of the token sequences so far

    def read(self, shape: Sequence[int]) -> list[OutputLayout]:
        """All layouts that an output of this shape, for a single input, can have; none where it has no places."""
        if shape[0] != 1:  # windows, or tokens before the batch
            return []
        if len(shape) == len(self.size) + 2:
            return self._maps(shape)
        return self._tokens(*shape[1:]) if len(shape) == 3 and len(self.size) == 2 else []

    def _maps(self, shape: Sequence[int]) -> list[OutputLayout]:
        if len(shape) == 4 and shape[2] in self.lengths:  # (N, heads, tokens, ...): inside an attention
            return []
        layouts = [OutputLayout(CHANNELS_FIRST, tuple(shape[2:]))] if self._fits(tuple(shape[2:])) else []
        if min(shape[1:-1]) > 1 and self._fits(tuple(shape[1:-1])):
            layouts.append(OutputLayout(CHANNELS_LAST, tuple(shape[1:-1])))
        if len(self.size) == 1 and layouts and layouts[0].kind != CHANNELS_FIRST:
            return []  # any length could be that of a series: only channels first is certain
        self.grids += [layout.grid for layout in layouts]
        return layouts

    def _fits(self, grid: Grid) -> bool:
        """Whether a grid has several places and the input's aspect ratio, up to rounding of both sides.

        The first axis of a volume, which may be time, can be shortened by another factor than height and width.
        """
        if len(grid) == 1:
            return 1 < grid[0] <= 2 * self.size[0]
        (*depth, height, width), (*d, h, w) = self.size, grid
        shallow = all(own <= 2 * whole for own, whole in zip(d, depth, strict=True))
        return shallow and math.prod(grid) > 1 and abs(h * width - w * height) <= height + width

    def _tokens(self, length: int, width: int) -> list[OutputLayout]:
        """Tokens on the grid of the last map that fits, or else on any grid of square patches."""
        earlier = [grid for grid in reversed(self.grids) if self._extra(length, grid)][:1]
        if not earlier and width in map(math.prod, self.grids):
            return []  # a flattened map (N, C, places)
        grids = earlier or [grid for grid in self._patches() if self._extra(length, grid)]
        self.lengths |= {length} if grids else set()
        return [OutputLayout(TOKENS, grid, length - math.prod(grid)) for grid in grids]

    def _extra(self, length: int, grid: Grid) -> bool:
        """Whether so many tokens can be those of the grid's places and others before them."""
        extra, places = length - math.prod(grid), math.prod(grid)
        allowed = range(MOST_EXTRA_TOKENS + 1) if self.prefix is None else (self.prefix, 0)
        return extra in allowed and places > max(1, extra)

    def _patches(self) -> list[Grid]:
        height, width = self.size
        sides = (side for side in range(1, math.gcd(height, width) + 1) if height % side == width % side == 0)
        return [(height // side, width // side) for side in sides]


def settle(layouts: Sequence[OutputLayout], output_of: Callable[[Tensor], Tensor], one: Tensor) -> OutputLayout | None:
    """The one of several layouts in which the output changes where the input is changed; None if that is not clear.

    ``output_of`` computes the layer's output; ``one`` is one input (1, C, ...), of which one block after the other is
    changed.
    """
    if len(layouts) == 1:
        return layouts[0]
    movements = _movements(layouts, output_of, one)
    best, second = sorted(zip(movements, layouts, strict=True), key=lambda pair: -pair[0])[:2]
    return best[1] if best[0] > CLEARLY * max(second[0], LEAST_SLOPE) else None


def follows(layout: OutputLayout, output_of: Callable[[Tensor], Tensor], one: Tensor) -> bool:
    """Whether an output read in this layout changes where the input is changed; arguments as of ``settle``."""
    return _movements([layout], output_of, one)[0] > CLEARLY * LEAST_SLOPE


def _movements(layouts: Sequence[OutputLayout], output_of: Callable[[Tensor], Tensor], one: Tensor) -> list[float]:
    """For each layout, how far the output's change moves with a changed block of the input (``_movement``)."""
    parts, positions = _block_masks(one.shape[2:])
    step = (one.max() - one.min()) or torch.ones_like(one.max())
    with torch.no_grad():
        outputs = output_of(torch.cat([one, one + step * parts.to(one)]))
    change = (outputs[1:] - outputs[:1]).double().square()
    return [_movement(layout.maps(change).sum(1), positions.to(change)) for layout in layouts]


def _block_masks(size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Masks (blocks, 1, *size) of blocks that tile an input, and their positions (blocks, axes) in 0..1."""
    strips = [F.one_hot(torch.arange(side) * INPUT_PARTS // side, INPUT_PARTS).T.double() for side in size]
    masks = [reduce(lambda rows, strip: rows[..., None] * strip, chosen) for chosen in product(*strips)]
    places = list(product(torch.arange(INPUT_PARTS).double().div(INPUT_PARTS - 1).tolist(), repeat=len(size)))
    return torch.stack(masks)[:, None], torch.tensor(places, dtype=torch.float64)


def _movement(energy: Tensor, positions: Tensor) -> float:
    """How far the centre of the output's change (blocks, *grid) moves when the changed block moves by 1: the mean over
    the axes, at most about 1, and 0 where the axes are not places."""
    total, slopes = energy.flatten(1).sum(1).clamp(min=torch.finfo(energy.dtype).tiny), []
    for axis, side in enumerate(energy.shape[1:]):
        others = [other + 1 for other in range(energy.dim() - 1) if other != axis]
        along = energy.sum(others) if others else energy
        centre = along @ torch.linspace(0, 1, side).to(energy) / total
        moved = positions[:, axis] - positions[:, axis].mean()
        slopes.append((moved * (centre - centre.mean())).sum() / moved.square().sum())
    return float(torch.stack(slopes).mean())
