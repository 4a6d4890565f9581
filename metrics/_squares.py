"""The squares of an image and the windows of a sequence: their numbers, their places, and sums over them.

A square is described by the corner where it begins, an index for each axis of units, and by its side, in units: a row
of axes + 1 whole numbers. On a sequence it is a window.
"""

import itertools
import math

import torch
from torch import Tensor


def count_squares(shape: tuple[int, ...], largest: int) -> int:
    """How many squares of side 1 to ``largest`` lie within units of this shape."""
    return sum(_positions(shape, largest))


def squares_numbered(numbers: Tensor, shape: tuple[int, ...], largest: int) -> Tensor:
    """The squares (..., axes + 1) with these numbers (...), from 0, in the order of side, row and column."""
    positions = torch.tensor(_positions(shape, largest), device=numbers.device)
    side = torch.searchsorted(positions.cumsum(0), numbers, right=True)
    place, side = numbers - (positions.cumsum(0) - positions)[side], side + 1
    across = shape[-1] - side + 1
    corners = [place // across, place % across] if len(shape) == 2 else [place]
    return torch.stack([*corners, side], -1)


def units_within(squares: Tensor, shape: tuple[int, ...]) -> Tensor:
    """True within each of the squares (N, M, axes + 1): (N, M, *shape) bool."""
    within = torch.ones((), dtype=torch.bool, device=squares.device)
    for axis, length in enumerate(shape):
        offset = torch.arange(length, device=squares.device) - squares[..., axis, None]
        inside = (offset >= 0) & (offset < squares[..., -1:])
        within = within & inside.view(*inside.shape[:2], *(length if a == axis else 1 for a in range(len(shape))))
    return within


def square_sums(values: Tensor, squares: Tensor) -> Tensor:
    """Sums (N, M) of values (N, *units) within the squares (N or 1, M, axes + 1), float64, from an integral image."""
    summed = values.double()
    for axis in range(1, values.ndim):
        summed = torch.cat([torch.zeros_like(summed.narrow(axis, 0, 1)), summed.cumsum(axis)], axis)
    corners, side, total = squares[..., :-1], squares[..., -1:], 0
    for ends in itertools.product((0, 1), repeat=corners.shape[-1]):
        index = (corners + side * torch.tensor(ends, device=squares.device)).unbind(-1)
        flat = index[0] if len(index) == 1 else index[0] * summed.shape[-1] + index[1]
        sign = (-1) ** (len(ends) - sum(ends))
        total = total + sign * summed.flatten(1).gather(1, flat.expand(len(values), -1))
    return total


def _positions(shape: tuple[int, ...], largest: int) -> list[int]:
    """How many squares of each side, from 1 to ``largest``, lie within units of this shape."""
    sides = range(1, min(largest, *shape) + 1)
    return [math.prod(length - side + 1 for length in shape) for side in sides]
