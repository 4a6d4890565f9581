"""Noisy linear in-filling: removed pixels become means of their neighbours (ROAD: Rong et al. 2022, 2202.00449).

For every removed pixel i the sum over its eight neighbours of w (z_j - z_i) is 0, with w = 1/6 for direct and 1/12 for
diagonal neighbours and none beyond the border. The matrix is symmetric and positive definite as soon as one pixel is
kept, so the system is solved by conjugate gradients, for all rows and channels at once and on their device, until the
residual is ``TOLERANCE`` of the right-hand side. The preconditioner is one cycle of multigrid. A coarse cell holds the
removed pixels of a 2 x 2 block: what ties it to kept pixels is the sum over them, what ties it to other cells half the
sum, since differences of neighbouring cells span two pixels. So some ten iterations do, however large the holes are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.randomness import normal
from harness.removal.originals import Originals

NOISE = 0.01
TOLERANCE = 1e-6  # of the residual's norm in that of the right-hand side, per row and channel
MOST_ITERATIONS = 300
DAMPING = 0.85  # of the Jacobi steps before and after the coarse correction
ITSELF = 4  # weight of a pixel in its own neighbourhood, see ``_neighbours``
COARSEST = 64  # cells at which a level is solved directly
# Numbers worked on at once: what fits a processor's cache, or keeps a GPU busy.
NUMBERS_AT_ONCE = {"cpu": 2**17, "other": 2**25}


def noisy_linear(originals: Originals, sample: Tensor, kept: Tensor, draw: int, noise: float = NOISE) -> Tensor:
    """Inputs (rows, C, H, W) of the samples numbered ``sample`` with removed pixels filled in, plus Gaussian noise.

    In the model's input space, where ``noise`` is the noise's standard deviation. The noise belongs to the sample, the
    place and ``draw``, so that all masks of a sample meet the same. Where nothing is left of a channel, it becomes the
    input's own mean. NotApplicable to what is no image.
    """
    originals.need("image")
    inputs = originals.inputs[sample]
    filled = fill_linearly(inputs, ~kept.expand(-1, inputs.shape[1] if kept.shape[1] > 1 else 1, -1, -1))
    return torch.where(kept, inputs, filled + noise * _noise_of_samples(originals, draw)[sample]) if noise else filled


def fill_linearly(images: Tensor, removed: Tensor) -> Tensor:
    """Images (N, C, H, W) with what is ``removed`` (N, 1 or C, H, W), bool, filled in: the solution without noise."""
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
    """Values (S, V, H, W) filled in; systems with nothing to go by become their own mean."""
    gone = removed.flatten(1).all(1).view(-1, 1, 1, 1)
    unknown = (removed & ~gone).to(values.dtype)
    known = 1 - unknown
    # The equations hold for values less any constant; around the mean of what is known, 0 is a good first guess.
    centre = (values * known).sum((-2, -1), keepdim=True) / known.sum((-2, -1), keepdim=True)
    given = (values - centre) * known
    return torch.where(gone, centre, given + _solve(given, unknown) + centre)


def _solve(given: Tensor, unknown: Tensor) -> Tensor:
    """The unknown values (S, V, H, W), 0 elsewhere, by preconditioned conjugate gradients."""
    system = _System.of(unknown)
    residual = _neighbours(given) * unknown
    goal = TOLERANCE * residual.flatten(2).norm(dim=2)[..., None, None]
    solution, direction, before = torch.zeros_like(given), None, None
    for _ in range(MOST_ITERATIONS):
        # A system that has converged stands still, so that it does not depend on its company.
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
    """Twelve times the weighted sum over each pixel's neighbours, plus ``ITSELF`` times the pixel, which drops out."""
    down = 2 * values
    down[..., 1:, :] += values[..., :-1, :]
    down[..., :-1, :] += values[..., 1:, :]
    both = 2 * down
    both[..., 1:] += down[..., :-1]
    both[..., :-1] += down[..., 1:]
    return both


@dataclass(frozen=True)
class _System:
    """The equations of the unknown pixels times twelve, with the coarser systems that precondition them.

    weights   sum of the weights of each pixel's neighbours and of itself (1, 1, H, W)
    unknown   (S, 1, H, W), 1 or 0
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
    """A coarser system: ``ties`` to the cells east, south, south-east and south-west, and the rest.

    diagonal   (S, 1, h, w), the sum of a cell's ties and of its ties to what is known; 0 where nothing is unknown
    inverse    (S, n, n) of the whole matrix on the coarsest level, else None
    coarse     the next level, else None
    """

    ties: tuple[Tensor, Tensor, Tensor, Tensor]
    diagonal: Tensor
    present: Tensor
    damped: Tensor
    inverse: Tensor | None
    coarse: "_Level | None"

    @classmethod
    def of(cls, ties: tuple[Tensor, ...], anchored: Tensor) -> "_Level":
        """The level with these ties, ``anchored`` (S, 1, h, w) to what is known, and all coarser ones."""
        diagonal = anchored + _tied(ties, torch.ones_like(anchored))
        present = (diagonal > 0).to(diagonal.dtype)
        damped = DAMPING * present / torch.where(diagonal > 0, diagonal, 1)
        if diagonal[0].numel() <= COARSEST:
            return cls(ties, diagonal, present, damped, _inverse(ties, diagonal), None)
        return cls(ties, diagonal, present, damped, None, cls.of(*_merged(ties, anchored)))

    def apply(self, values: Tensor) -> Tensor:
        return (self.diagonal * values).sub_(_tied(self.ties, values))

    def solve(self, right: Tensor) -> Tensor:
        """About the solution for a right-hand side (S, V, h, w)."""
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
    """Sums over 2 x 2 blocks; the last row and column may stand alone."""
    if values.shape[-1] % 2 or values.shape[-2] % 2:
        values = F.pad(values, (0, values.shape[-1] % 2, 0, values.shape[-2] % 2))
    pairs = values[..., 0::2, :] + values[..., 1::2, :]
    return pairs[..., 0::2] + pairs[..., 1::2]


def _to_blocks(values: Tensor, shape: torch.Size) -> Tensor:
    """Each value given to its 2 x 2 block."""
    wide = values.repeat_interleave(2, -1).unsqueeze(-2).expand(*values.shape[:-1], 2, -1).flatten(-3, -2)
    return wide[..., : shape[-2], : shape[-1]]


def _finest(unknown: Tensor) -> _Level:
    """The level of single pixels, merged once: its own equations have constant weights and are done without it."""
    known = 1 - unknown
    east, south, south_east, south_west = (torch.zeros_like(unknown) for _ in range(4))
    east[..., :-1] = 2 * unknown[..., :-1] * unknown[..., 1:]
    south[..., :-1, :] = 2 * unknown[..., :-1, :] * unknown[..., 1:, :]
    south_east[..., :-1, :-1] = unknown[..., :-1, :-1] * unknown[..., 1:, 1:]
    south_west[..., :-1, 1:] = unknown[..., :-1, 1:] * unknown[..., 1:, :-1]
    return _Level.of(*_merged((east, south, south_east, south_west), unknown * _neighbours(known)))


def _merged(ties: tuple[Tensor, ...], anchored: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Ties and anchors of the cells of 2 x 2 blocks."""
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
    """The sum over each cell's neighbours of tie times value."""
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
    """The inverse (S, n, n) of a level's matrix, with 1 for cells that are not there."""
    count, _, *size = diagonal.shape
    cells = torch.eye(diagonal[0].numel(), dtype=diagonal.dtype, device=diagonal.device).view(-1, *size)
    matrix = torch.where(diagonal > 0, diagonal, 1) * cells - _tied(ties, cells.expand(count, -1, *size))
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix.flatten(2)))
