"""Solves for pixels that are means of their neighbours: the systems of equations of ``harness.removal.noisy_linear``.

The equation of an unknown pixel i, multiplied by twelve: the sum over its neighbours j of w (z_j - z_i) is 0, with
w = 2 for direct and 1 for diagonal neighbours. All systems of one ``Systems`` are solved at the same time, by conjugate
gradients, until the norm of the residual is ``TOLERANCE`` times that of the right-hand side.

The preconditioner is one multigrid cycle. A coarse cell stands for the unknown pixels of a 2 x 2 block. Its weight to
known pixels is the sum of their weights. Its weight to another cell is half the sum of their weights, because the
difference of neighbouring cells spans two pixels. A cell's correction is added to each of its unknown pixels; between
coarser levels corrections are interpolated linearly. About ten iterations are enough for holes of any size.

On a CPU, allocating memory and making views would take much of the time. So all vectors are allocated once, and the
operations of a cycle are recorded once with their views (``_Tape``). Every grid has a frame of zeros, so that a shift
of the grid is a shift of flat memory. An image is stored as four *planes*: its pixels with even or odd row and even or
odd column.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

TOLERANCE = 7e-7  # norm of the residual relative to that of the right-hand side, per system
MOST_ITERATIONS = 300
DAMPING = 0.9  # factor of the Jacobi steps before and after the coarse correction
ITSELF = 4  # weight of a pixel in its own neighbourhood, see ``_Pixels.record_defect``; it cancels out
COARSEST = 64  # number of cells up to which a level is solved directly


@dataclass(frozen=True)
class _Tape:
    """Operations that are bound to their views of fixed memory."""

    steps: list[Callable[[], Tensor]] = field(default_factory=list)

    def add(self, function: Callable[..., Tensor], *tensors: Tensor, **more: object) -> None:
        self.steps.append(partial(function, *tensors, **more))

    def play(self) -> None:
        for step in self.steps:
            step()


class Systems:
    """The systems of ``shape`` (S, H, W): ``load`` takes masks, then ``solve`` takes known values, any number of times.

    A result does not depend on the other systems.
    """

    def __init__(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> None:
        self.rows = shape[0]
        self._pixels = pixels = _Pixels(shape, dtype, device)
        self._solution, self._residual, self._direction = pixels.values.clone(), pixels.right, pixels.values.clone()
        self._cycle, self._multiply = _Tape(), _Tape()
        pixels.record_cycle(self._cycle)
        pixels.record_defect(self._multiply, self._direction)

    def load(self, unknown: Tensor) -> None:
        """The unknown pixels (S, H, W), bool. If no pixel of a system is known, none counts as unknown."""
        some_known = ~unknown.flatten(1).all(1).view(-1, 1, 1)
        self._pixels.load(unknown & some_known)

    def solve(self, known_values: Tensor) -> Tensor:
        """Values (S, H, W) of the unknown pixels added to those of the known pixels, which are 0 at unknown ones.

        Raises ArithmeticError if ``MOST_ITERATIONS`` are not enough.
        """
        self._start(known_values)
        pixels, solution, residual, direction = self._pixels, self._solution, self._residual, self._direction
        before, goal = float("inf"), TOLERANCE * _norm(residual)
        for _ in range(MOST_ITERATIONS):
            # A system that has converged is not changed any more, so that its result does not depend on the others.
            open_ = _norm(residual) > goal
            if not open_.any():
                return known_values + pixels.unfolded(solution)
            self._cycle.play()
            now = pixels.dot(residual, pixels.values)
            torch.addcmul(pixels.values, direction, _ratio_where(now, before, open_), out=direction)
            self._multiply.play()
            minus_product = pixels.defect.mul_(pixels.unknown)  # minus the matrix times the direction
            step = _ratio_where(now, pixels.dot(direction, minus_product), open_)
            solution.addcmul_(direction, step, value=-1)
            residual.addcmul_(minus_product, step, value=-1)
            before = now
        raise ArithmeticError(f"linear in-filling did not converge in {MOST_ITERATIONS} iterations")

    def _start(self, known_values: Tensor) -> None:
        """For the solution 0 the residual is the weighted sum over each unknown pixel's known neighbours."""
        self._pixels.clear()
        self._direction.copy_(self._pixels.folded(known_values))
        self._multiply.play()  # the values' own weights do not matter, since values are 0 at unknown pixels
        torch.mul(self._pixels.defect, self._pixels.unknown, out=self._residual)
        self._solution.zero_()
        self._direction.zero_()


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=(1, 2, 3), keepdim=True)


def _ratio_where(above: Tensor, below: Tensor | float, where: Tensor) -> Tensor:
    return torch.where(where, above / below, 0)


class _Pixels:
    """The finest level. Vectors are planes (S, 2, 2, n): even and odd rows, even and odd columns, places in a grid.

    Place k of the grid is a block of 2 x 2 pixels, or belongs to the frame; k + 1 is right of it, k + ``width`` below.

    right, values, defect   the right-hand side, the approximate solution, the residual (right less matrix times values)
    unknown                 1 for unknown pixels, else 0
    damped                  ``unknown`` times the factors of a Jacobi step
    """

    def __init__(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> None:
        rows, *self.size = shape
        inside = torch.ones(1, *self.size, dtype=dtype, device=device)
        self.coarse = _Cells(rows, _half_size(self.size), inside)
        self.height, self.width = self.coarse.height, self.coarse.width
        empty = inside.new_zeros(rows, 2, 2, self.height * self.width)
        self.right, self.values, self.defect, self._scratch = (empty.clone() for _ in range(4))
        self.unknown, self.damped = empty.clone(), empty.clone()
        # The weights of a pixel's neighbours and of itself. In the frame they are 1, to avoid a division by 0.
        self._weights = self.folded(_neighbours(inside) - 1) + 1
        self._at_unknown = _Tape()
        self.record_defect(self._at_unknown, self.unknown)

    def folded(self, images: Tensor) -> Tensor:
        """Images (S, H, W) as planes."""
        height, width = 2 * self.height, 2 * self.width
        framed = F.pad(images, (2, width - 2 - images.shape[2], 2, height - 2 - images.shape[1]))
        return framed.view(-1, self.height, 2, self.width, 2).permute(0, 2, 4, 1, 3).flatten(3)

    def unfolded(self, planes: Tensor) -> Tensor:
        """Planes as images (S, H, W)."""
        framed = planes.view(-1, 2, 2, self.height, self.width).permute(0, 3, 1, 4, 2).flatten(3).flatten(1, 2)
        return framed[:, 2 : 2 + self.size[0], 2 : 2 + self.size[1]]

    def clear(self) -> None:
        """Forgets what earlier values, which may be NaN, have left at places of the frame that are only read."""
        self.defect.zero_()
        self._scratch.zero_()

    def dot(self, first: Tensor, second: Tensor) -> Tensor:
        """Products (S, 1, 1, 1) of two vectors each."""
        return torch.mul(first, second, out=self._scratch).sum((1, 2, 3), keepdim=True)

    def load(self, unknown: Tensor) -> None:
        """The matrices of these unknown pixels (S, H, W), of this level and of the coarser ones."""
        self.unknown.copy_(self.folded(unknown))
        torch.div(DAMPING * self.unknown, self._weights - ITSELF, out=self.damped)
        self._at_unknown.play()
        anchored = (self.defect * self.unknown).sum((1, 2)).neg_()
        self.coarse.load(self._ties(), anchored)

    def _ties(self) -> list[Tensor]:
        """Half the weights between the unknown pixels of neighbouring blocks."""
        (first, second), (third, fourth) = (rows.unbind(1) for rows in self.unknown.unbind(1))
        width = self.width
        east = _tied_places(second, 2 * first + third, 1) + _tied_places(fourth, first + 2 * third, 1)
        south = _tied_places(third, 2 * first + second, width) + _tied_places(fourth, first + 2 * second, width)
        south_east, south_west = _tied_places(fourth, first, width + 1), _tied_places(third, second, width - 1)
        return [tie / 2 for tie in (east, south, south_east, south_west)]

    def record_cycle(self, tape: _Tape) -> None:
        """One symmetric multigrid cycle: a Jacobi step, the coarse correction, a Jacobi step."""
        tape.add(torch.mul, self.damped, self.right, out=self.values)
        self.record_defect(tape, self.values, self.right)
        tape.add(torch.Tensor.mul_, self.defect, self.unknown)
        tape.add(torch.sum, self.defect, (1, 2), out=self.coarse.right)
        self.coarse.record_cycle(tape)
        tape.add(torch.Tensor.addcmul_, self.values, self.coarse.values[:, None, None], self.unknown)
        self.record_defect(tape, self.values, self.right)
        tape.add(torch.Tensor.addcmul_, self.values, self.defect, self.damped)

    def record_defect(self, tape: _Tape, values: Tensor, right: Tensor | None = None) -> None:
        """``defect`` = ``right`` less the matrix times ``values``, at unknown pixels. Elsewhere it has no meaning.

        The weighted sum over neighbours, 1 2 1 / 2 4 2 / 1 2 1, is that of the sums over all squares of four pixels
        that contain a pixel. ``squares`` are such sums, by the row and column of their first pixel.
        """
        width, target, pairs = self.width, self.defect, self._scratch
        tape.add(torch.add, values[:, :, 0], values[:, :, 1], out=pairs[:, :, 0])
        tape.add(torch.add, values[:, :, 1, :-1], values[:, :, 0, 1:], out=pairs[:, :, 1, :-1])
        even, odd = target[:, 0], pairs[:, 1]  # squares that begin in even and in odd rows
        tape.add(torch.add, pairs[:, 0], pairs[:, 1], out=even)
        tape.add(torch.Tensor.add_, odd[..., :-width], pairs[:, 0, :, width:])
        for squares, sums in ((even, pairs[:, 0]), (odd, target[:, 1])):
            tape.add(torch.add, squares[:, 0, 1:], squares[:, 1, :-1], out=sums[:, 0, 1:])
            tape.add(torch.add, squares[:, 0], squares[:, 1], out=sums[:, 1])
        tape.add(torch.add, pairs[:, 0, :, width:], target[:, 1, :, :-width], out=target[:, 0, :, width:])
        tape.add(torch.Tensor.add_, target[:, 1], pairs[:, 0])
        tape.add(torch.Tensor.addcmul_, target, self._weights, values, value=-1)
        if right is not None:
            tape.add(torch.Tensor.add_, target, right)


class _Cells:
    """A coarser level of ``size`` (h, w) cells. Vectors (S, n) are flat grids with a frame.

    right, values, defect   as in ``_Pixels``
    """

    def __init__(self, rows: int, size: list[int], like: Tensor) -> None:
        self._pooled = _half_size(size)
        self.height, self.width = (2 * side + 2 for side in self._pooled)
        count = self.height * self.width
        self.coarse = None if size[0] * size[1] <= COARSEST else _Cells(rows, self._pooled, like)
        empty = like.new_zeros(rows, count)
        self.right, self.values, self.defect = (empty.clone() for _ in range(3))
        self._diagonal, self._damped, self._spread = (empty.clone() for _ in range(3))
        self._ties = [(shift, empty.clone()) for shift in (1, self.width, self.width + 1, self.width - 1)]
        if self.coarse is None:
            places = torch.arange(count, device=like.device).view(self.height, self.width)
            self._places = places[1 : 1 + size[0], 1 : 1 + size[1]].flatten()
            cells = len(self._places)
            self._compact, self._solved = like.new_zeros(rows, 1, cells), like.new_zeros(rows, 1, cells)
            self._inverse = like.new_zeros(rows, cells, cells)
            return
        self._wide = like.new_zeros(rows, self._pooled[0] + 2, self.width)
        spreads = _spreads([2 * side for side in self._pooled], like)
        self._spreads = F.pad(spreads, (1, 1, 1, 1)).flatten(1)

    def load(self, ties: list[Tensor], anchored: Tensor) -> None:
        """Weights (S, n) of cells to their neighbours east, south, south-east and south-west, and to known pixels."""
        self._diagonal.copy_(anchored)
        for (shift, kept), tie in zip(self._ties, ties, strict=True):
            kept.copy_(tie)
            self._diagonal[:, :-shift] += tie[:, :-shift]
            self._diagonal[:, shift:] += tie[:, :-shift]
        present = self._diagonal > 0
        if self.coarse is None:
            self._inverse.copy_(self._inverted(present))
            return
        self._damped.copy_(torch.where(present, DAMPING / self._diagonal, 0))
        torch.mul(present, self._spreads, out=self._spread)
        self.coarse.load(*self._merged(anchored))

    def _inverted(self, present: Tensor) -> Tensor:
        """The inverse (S, n, n) of the matrix, 0 for cells without unknown pixels."""
        matrix = torch.diag_embed(torch.where(present, self._diagonal, 1))
        for shift, tie in self._ties:
            for offset in (shift, -shift):
                matrix.diagonal(offset, 1, 2).sub_(tie[:, :-shift])
        matrix, present = matrix[:, self._places[:, None], self._places], present[:, self._places]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        return inverse * present[:, :, None] * present[:, None, :]

    def _merged(self, anchored: Tensor) -> tuple[list[Tensor], Tensor]:
        """Ties, and weights to known pixels, of the cells that stand for 2 x 2 cells."""
        rows, columns = (2 * side for side in self._pooled)
        east, south, south_east, south_west = (self._grid(tie) for _, tie in self._ties)
        at = lambda grid, row, column: grid[:, 1 + row : 1 + row + rows : 2, 1 + column : 1 + column + columns : 2]
        merged = (
            at(east, 0, 1) + at(east, 1, 1) + at(south_east, 0, 1) + at(south_west, 0, 2),
            at(south, 1, 0) + at(south, 1, 1) + at(south_east, 1, 0) + at(south_west, 1, 1),
            at(south_east, 1, 1),
            at(south_west, 1, 0),
        )
        grid = self._grid(anchored)
        pooled = at(grid, 0, 0) + at(grid, 0, 1) + at(grid, 1, 0) + at(grid, 1, 1)
        return [self.coarse.framed(tie / 2) for tie in merged], self.coarse.framed(pooled)

    def framed(self, cells: Tensor) -> Tensor:
        """Values (S, h, w) of cells as a vector."""
        _, height, width = cells.shape
        return F.pad(cells, (1, self.width - 1 - width, 1, self.height - 1 - height)).flatten(1)

    def _grid(self, vector: Tensor) -> Tensor:
        return vector.view(-1, self.height, self.width)

    def record_cycle(self, tape: _Tape) -> None:
        """As for pixels, and the exact solution on the coarsest level."""
        if self.coarse is None:
            tape.add(torch.index_select, self.right[:, None], 2, self._places, out=self._compact)
            tape.add(torch.bmm, self._compact, self._inverse, out=self._solved)
            tape.add(torch.Tensor.index_copy_, self.values[:, None], 2, self._places, self._solved)
            return
        tape.add(torch.mul, self._damped, self.right, out=self.values)
        self._record_defect(tape)
        tape.add(torch.Tensor.mul_, self.defect, self._spread)
        self._record_pooling(tape)
        self.coarse.record_cycle(tape)
        self._record_interpolation(tape)
        tape.add(torch.Tensor.addcmul_, self.values, self.defect, self._spread)
        self._record_defect(tape)
        tape.add(torch.Tensor.addcmul_, self.values, self.defect, self._damped)

    def _record_defect(self, tape: _Tape) -> None:
        values, target = self.values, self.defect
        tape.add(torch.addcmul, self.right, self._diagonal, values, value=-1, out=target)
        for shift, tie in self._ties:
            tape.add(torch.Tensor.addcmul_, target[:, :-shift], tie[:, :-shift], values[:, shift:])
            tape.add(torch.Tensor.addcmul_, target[:, shift:], tie[:, :-shift], values[:, :-shift])

    def _record_pooling(self, tape: _Tape) -> None:
        grid, pooled, target = self._grid(self.defect), self._wide[:, 1:-1], self._cells_of_coarse(self.coarse.right)
        tape.add(torch.add, grid[:, 3::2], grid[:, 0:-2:2], out=pooled)
        for rows in (grid[:, 1:-1:2], grid[:, 2::2]):
            tape.add(torch.Tensor.add_, pooled, rows, alpha=3)
        tape.add(torch.add, pooled[..., 3::2], pooled[..., 0:-2:2], out=target)
        for columns in (pooled[..., 1:-1:2], pooled[..., 2::2]):
            tape.add(torch.Tensor.add_, target, columns, alpha=3)

    def _record_interpolation(self, tape: _Tape) -> None:
        at = lambda down, across: self._cells_of_coarse(self.coarse.values, down, across)
        wide, grid = self._wide, self._grid(self.defect)
        tape.add(torch.add, at(0, -1), at(0, 0), alpha=3, out=wide[:, 1:-1, 1:-1:2])
        tape.add(torch.add, at(0, 1), at(0, 0), alpha=3, out=wide[:, 1:-1, 2::2])
        tape.add(torch.add, wide[:, :-2], wide[:, 1:-1], alpha=3, out=grid[:, 1:-1:2])
        tape.add(torch.add, wide[:, 2:], wide[:, 1:-1], alpha=3, out=grid[:, 2::2])

    def _cells_of_coarse(self, vector: Tensor, down: int = 0, across: int = 0) -> Tensor:
        """A coarser vector's cells (S, h, w), or those that are so many places further."""
        (rows, columns), grid = self._pooled, self.coarse._grid(vector)
        return grid[:, 1 + down : 1 + down + rows, 1 + across : 1 + across + columns]


def _half_size(size: list[int]) -> list[int]:
    return [-(-side // 2) for side in size]


def _tied_places(cells: Tensor, others: Tensor, shift: int) -> Tensor:
    """Products (S, n) of each place with the one that is ``shift`` places further."""
    result = torch.zeros_like(cells)
    torch.mul(cells[:, :-shift], others[:, shift:], out=result[:, :-shift])
    return result


def _neighbours(values: Tensor) -> Tensor:
    """The weighted sum (S, H, W) over each pixel's neighbours, plus ``ITSELF`` times the pixel."""
    down = 2 * values
    down[:, 1:] += values[:, :-1]
    down[:, :-1] += values[:, 1:]
    both = 2 * down
    both[..., 1:] += down[..., :-1]
    both[..., :-1] += down[..., 1:]
    return both


def _spreads(size: list[int], like: Tensor) -> Tensor:
    """One over the sum (1, H, W) of the weights of the cells between which a pixel is interpolated."""
    rows, columns = (like.new_full((side,), 4) for side in size)
    for line in (rows, columns):
        line[0], line[-1] = 3, 3
    return 1 / torch.outer(rows, columns)[None]
