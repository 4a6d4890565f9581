"""The path of Guided Integrated Gradients (Kapishnikov et al. 2021, 2106.09788), for all samples of a batch at once."""

import torch
from torch import Tensor

CLOSE = 1e-9  # of the whole way: a step is complete when so little of it is left


def approach(
    at: Tensor, start: Tensor, end: Tensor, slope: Tensor, along: float, fraction: float, max_dist: float
) -> Tensor:
    """Points ``at`` (N, D) on the way from ``start`` to ``end`` after the step to the share ``along`` of the way.

    First, numbers that are behind ``along - max_dist`` of their own way move there. Then the ``fraction`` of numbers
    with the smallest absolute ``slope``, among those that are not yet at ``along + max_dist``, move there together.
    This is repeated until the distance to the end is 1 - ``along`` of the whole distance; the last move is as long as
    that takes. Numbers whose slope is NaN move last.
    """
    whole = (end - start).abs().sum(1)
    behind = torch.lerp(start, end, max(along - max_dist, 0.0))
    ahead = torch.lerp(start, end, min(along + max_dist, 1.0))
    at = torch.where((at - start).abs() < (behind - start).abs(), behind, at)
    size, index = slope.abs().nan_to_num(nan=torch.inf, posinf=torch.inf), int(fraction * (slope.shape[1] - 1))
    active = torch.ones_like(whole, dtype=torch.bool)
    while True:
        left, free = (at - end).abs().sum(1) - (1 - along) * whole, at != ahead
        active &= (left > CLOSE * whole) & free.any(1)
        if not active.any():
            return at
        held_back = size.masked_fill(~free, torch.inf)
        chosen = (held_back <= held_back.kthvalue(index + 1, dim=1, keepdim=True).values) & free & active[:, None]
        room = ((at - ahead).abs() * chosen).sum(1)
        at = torch.where(chosen, torch.lerp(at, ahead, (left / room).clamp(max=1)[:, None]), at)
        active &= left > room  # else this was the last move, even if rounding leaves a distance
