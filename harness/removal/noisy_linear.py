"""Noisy linear in-filling: removed pixels become means of their neighbours (ROAD: Rong et al. 2022, 2202.00449).

For every removed pixel i, the sum over its eight neighbours j of w (z_j - z_i) is 0, with w = 1/6 for direct and 1/12
for diagonal neighbours; there are no neighbours beyond the border. The matrix is symmetric, and positive definite if at
least one pixel is kept. So the system is solved by conjugate gradients, for all rows and channels at once and on their
device, until the norm of the residual is ``TOLERANCE`` times that of the right-hand side.

The preconditioner is one multigrid cycle. A coarse cell stands for the removed pixels of a 2 x 2 block. Its weight to
kept pixels is the sum of their weights. Its weight to another cell is half the sum of their weights, because the
difference of neighbouring cells spans two pixels. About ten iterations are enough for holes of any size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.randomness import normal
from harness.removal.originals import Originals

NOISE = 0.01
TOLERANCE = 1e-6  # norm of the residual relative to that of the right-hand side, per row and channel
MOST_ITERATIONS = 300
DAMPING = 0.85  # factor of the Jacobi steps before and after the coarse correction
ITSELF = 4  # weight of a pixel in its own neighbourhood, see ``_neighbours``
COARSEST = 64  # number of cells up to which a level is solved directly
# Numbers that are processed at once: as many as fit a CPU's cache, or enough to keep a GPU busy.
NUMBERS_AT_ONCE = {"cpu": 2**17, "other": 2**25}


def noisy_linear(originals: Originals, sample: Tensor, kept: Tensor, draw: int, noise: float = NOISE) -> Tensor:
    """Inputs (rows, C, H, W) of the samples with indices ``sample``; removed pixels are filled in, plus Gaussian noise.

    It works in the model's input space; ``noise`` is the standard deviation there. The noise depends on the sample, the
    pixel and ``draw``, and not on the mask. A channel without any kept pixel is filled with the input's mean. Raises
    NotApplicable for inputs that are not images.
    """
    originals.need("image")
    inputs = originals.inputs[sample]
    filled = fill_linearly(inputs, ~kept.expand(-1, inputs.shape[1] if kept.shape[1] > 1 else 1, -1, -1))
    return torch.where(kept, inputs, filled + noise * _noise_of_samples(originals, draw)[sample]) if noise else filled


def fill_linearly(images: Tensor, removed: Tensor) -> Tensor:
    """Images (N, C, H, W) filled in without noise where ``removed`` (N, 1 or C, H, W), bool, is True."""
    size = images.shape[2:]
    masks = removed.reshape(-1, 1, *size)
    values = images.to(torch.promote_types(images.dtype, torch.float32)).reshape(len(masks), -1, *size)
    rows = max(1, NUMBERS_AT_ONCE["cpu" if images.device.type == "cpu" else "other"] // values[0].numel())
    filled = [_fill(some, where) for some, where in zip(values.split(rows), masks.split(rows), strict=True)]
    return torch.where(removed, torch.cat(filled).view_as(images).to(images.dtype), images)


def _noise_of_samples(originals: Originals, draw: int) -> Tensor:
    key = ("noisy linear", draw)
    if key not in originals.scratch:
        stream = originals.stream(f"noisy linear {draw}")
        originals.scratch[key] = normal(stream, *originals.inputs.shape[1:]).to(originals.inputs)
    return originals.scratch[key]


def _fill(values: Tensor, removed: Tensor) -> Tensor:
    """Values (S, V, H, W) filled in where ``removed`` (S, 1, H, W); if no pixel is kept, with their mean."""
    gone = removed.flatten(1).all(1).view(-1, 1, 1, 1)
    unknown = (removed & ~gone).to(values.dtype)
    known = 1 - unknown
    # A constant can be subtracted from all values. After subtracting the mean of known values, 0 is a good first guess.
    centre = (values * known).sum((-2, -1), keepdim=True) / known.sum((-2, -1), keepdim=True)
    known_values = (values - centre) * known
    return torch.where(gone, centre, known_values + _solve(known_values, unknown) + centre)


def _solve(known_values: Tensor, unknown: Tensor) -> Tensor:
    """The unknown values (S, V, H, W), 0 elsewhere, by preconditioned conjugate gradients."""
    system = _System.of(unknown)
    residual = _neighbours(known_values) * unknown
    goal = TOLERANCE * residual.flatten(2).norm(dim=2)[..., None, None]
    solution, direction, before = torch.zeros_like(known_values), None, None
    for _ in range(MOST_ITERATIONS):
        # A system that has converged is not changed any more, so that its result does not depend on the other systems.
        open_ = residual.flatten(2).norm(dim=2)[..., None, None] > goal
        if not open_.any():
            return solution
        step = system.precondition(residual)
        now = _dot(residual, step)
        direction = step if direction is None else step.addcmul_(direction, _ratio_where(now, before, open_))
        image = system.apply(direction)
        length = _ratio_where(now, _dot(direction, image), open_)
        solution.addcmul_(direction, length)
        residual.addcmul_(image, length, value=-1)
        before = now
    raise ArithmeticError(f"linear in-filling did not converge in {MOST_ITERATIONS} iterations")


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((-2, -1), keepdim=True)


def _ratio_where(above: Tensor, below: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, above / below, 0)


def _neighbours(values: Tensor) -> Tensor:
    """12 times the weighted sum over each pixel's neighbours, plus ``ITSELF`` times the pixel, which cancels out."""
    down = 2 * values
    down[..., 1:, :] += values[..., :-1, :]
    down[..., :-1, :] += values[..., 1:, :]
    both = 2 * down
    both[..., 1:] += down[..., :-1]
    both[..., :-1] += down[..., 1:]
    return both


@dataclass(frozen=True)
class _System:
    """The equations of the unknown pixels, multiplied by twelve, with the coarser systems that precondition them.

    weights   (1, 1, H, W) sum of the weights of each pixel's neighbours and of itself
    unknown   (S, 1, H, W) 1 or 0
    """

    weights: Tensor
    unknown: Tensor
    damped: Tensor
    coarse: "_Level"

    @classmethod
    def of(cls, unknown: Tensor) -> "_System":
        weights = _neighbours(torch.ones_like(unknown[:1]))
        return cls(weights, unknown, DAMPING * unknown / (weights - ITSELF), _finest(unknown))

    def apply(self, values: Tensor) -> Tensor:
        return (self.weights * values).sub_(_neighbours(values)).mul_(self.unknown)

    def precondition(self, residual: Tensor) -> Tensor:
        return _cycle(residual, self.damped, self.unknown, self.apply, self.coarse)


@dataclass(frozen=True)
class _Level:
    """A coarser system of cells.

    ties       weights (S, 1, h, w) between a cell and its neighbours east, south, south-east and south-west
    diagonal   (S, 1, h, w) sum of a cell's weights to other cells and to known pixels; 0 without unknown pixels
    present    (S, 1, h, w) 1 for cells with unknown pixels, else 0
    damped     (S, 1, h, w) factor of a Jacobi step
    inverse    (S, n, n) inverse of the matrix on the coarsest level, else None
    coarse     the next coarser level, or None
    """

    ties: tuple[Tensor, Tensor, Tensor, Tensor]
    diagonal: Tensor
    present: Tensor
    damped: Tensor
    inverse: Tensor | None
    coarse: "_Level | None"

    @classmethod
    def of(cls, ties: tuple[Tensor, ...], anchored: Tensor) -> "_Level":
        """The level with these ties and all coarser ones; ``anchored`` (S, 1, h, w) are weights to known pixels."""
        diagonal = anchored + _tied(ties, torch.ones_like(anchored))
        present = (diagonal > 0).to(diagonal.dtype)
        damped = DAMPING * present / torch.where(diagonal > 0, diagonal, 1)
        if diagonal[0].numel() <= COARSEST:
            return cls(ties, diagonal, present, damped, _inverse(ties, diagonal), None)
        return cls(ties, diagonal, present, damped, None, cls.of(*_merged(ties, anchored)))

    def apply(self, values: Tensor) -> Tensor:
        return (self.diagonal * values).sub_(_tied(self.ties, values))

    def solve(self, right: Tensor) -> Tensor:
        """The approximate solution for a right-hand side (S, V, h, w)."""
        if self.inverse is not None:
            return (right.flatten(2) @ self.inverse).view_as(right)
        return _cycle(right, self.damped, self.present, self.apply, self.coarse)


def _cycle(right: Tensor, damped: Tensor, present: Tensor, apply: Callable[[Tensor], Tensor], coarse: _Level) -> Tensor:
    """One symmetric multigrid cycle: a Jacobi step, the coarse correction, a Jacobi step."""
    values = damped * right
    error = coarse.solve(_pooled(apply(values).neg_().add_(right)))
    values.addcmul_(_to_blocks(error, right.shape), present)
    return values.addcmul_(damped, apply(values).neg_().add_(right))


def _pooled(values: Tensor) -> Tensor:
    """Sums over 2 x 2 blocks; blocks at the last row and column may be smaller."""
    if values.shape[-1] % 2 or values.shape[-2] % 2:
        values = F.pad(values, (0, values.shape[-1] % 2, 0, values.shape[-2] % 2))
    pairs = values[..., 0::2, :] + values[..., 1::2, :]
    return pairs[..., 0::2] + pairs[..., 1::2]


def _to_blocks(values: Tensor, shape: torch.Size) -> Tensor:
    """Each value repeated over its 2 x 2 block."""
    wide = values.repeat_interleave(2, -1).unsqueeze(-2).expand(*values.shape[:-1], 2, -1).flatten(-3, -2)
    return wide[..., : shape[-2], : shape[-1]]


def _finest(unknown: Tensor) -> _Level:
    """The finest level, of 2 x 2 blocks; the equations of single pixels are in ``_System``."""
    known = 1 - unknown
    east, south, south_east, south_west = (torch.zeros_like(unknown) for _ in range(4))
    east[..., :-1] = 2 * unknown[..., :-1] * unknown[..., 1:]
    south[..., :-1, :] = 2 * unknown[..., :-1, :] * unknown[..., 1:, :]
    south_east[..., :-1, :-1] = unknown[..., :-1, :-1] * unknown[..., 1:, 1:]
    south_west[..., :-1, 1:] = unknown[..., :-1, 1:] * unknown[..., 1:, :-1]
    return _Level.of(*_merged((east, south, south_east, south_west), unknown * _neighbours(known)))


def _merged(ties: tuple[Tensor, ...], anchored: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Ties, and weights to known pixels, of the cells that stand for 2 x 2 blocks."""
    height, width = anchored.shape[-2:]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    east, south, south_east, south_west = (
        F.pad(tie, (0, 2 * columns - width + 1, 0, 2 * rows - height)) for tie in ties
    )
    at = lambda tie, row, column: tie[..., row : row + 2 * rows : 2, column : column + 2 * columns : 2]
    merged = (
        at(east, 0, 1) + at(east, 1, 1) + at(south_east, 0, 1) + at(south_west, 0, 2),
        at(south, 1, 0) + at(south, 1, 1) + at(south_east, 1, 0) + at(south_west, 1, 1),
        at(south_east, 1, 1),
        at(south_west, 1, 0),
    )
    return tuple(tie / 2 for tie in merged), _pooled(anchored)


def _tied(ties: tuple[Tensor, ...], values: Tensor) -> Tensor:
    """The sum of tie times value over each cell's neighbours."""
    east, south, south_east, south_west = ties
    result = torch.zeros_like(values)
    result[..., :-1].addcmul_(east[..., :-1], values[..., 1:])
    result[..., 1:].addcmul_(east[..., :-1], values[..., :-1])
    result[..., :-1, :].addcmul_(south[..., :-1, :], values[..., 1:, :])
    result[..., 1:, :].addcmul_(south[..., :-1, :], values[..., :-1, :])
    result[..., :-1, :-1].addcmul_(south_east[..., :-1, :-1], values[..., 1:, 1:])
    result[..., 1:, 1:].addcmul_(south_east[..., :-1, :-1], values[..., :-1, :-1])
    result[..., :-1, 1:].addcmul_(south_west[..., :-1, 1:], values[..., 1:, :-1])
    result[..., 1:, :-1].addcmul_(south_west[..., :-1, 1:], values[..., :-1, 1:])
    return result


def _inverse(ties: tuple[Tensor, ...], diagonal: Tensor) -> Tensor:
    """The inverse (S, n, n) of a level's matrix, with 1 on the diagonal for cells without unknown pixels."""
    count, _, *size = diagonal.shape
    cells = torch.eye(diagonal[0].numel(), dtype=diagonal.dtype, device=diagonal.device).view(-1, *size)
    matrix = torch.where(diagonal > 0, diagonal, 1) * cells - _tied(ties, cells.expand(count, -1, *size))
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix.flatten(2)))
