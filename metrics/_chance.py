"""What similarity unrelated maps would have: one map is displaced, so that only coincidence is left."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.errors import UserError
from harness.randomness import integers, permutations
from harness.samples import Samples

Similarity = Callable[[Tensor, Tensor], Tensor]
SCATTERED = ("table", "other")  # units that have no neighbours


def chance(samples: Samples, before: Tensor, after: Tensor, similarity: Similarity, displacements: int) -> Tensor:
    """Similarity (N, displacements) of maps ``after`` (N, *units) to ``before`` (N, *units) moved at random.

    A grid's map is moved around its edges by a shift that is drawn evenly from all but none at all; so it keeps its
    values and their neighbourhoods, without which maps would seem less similar than unrelated maps are. The columns of
    a table are permuted. Every explainer meets the same displacements.
    """
    if displacements < 1:
        raise UserError(f"displacements is {displacements}, expected a number of random displacements from 1")
    return torch.stack([similarity(moved, after) for moved in _displaced(samples, before, displacements)], 1)


def _displaced(samples: Samples, maps: Tensor, draws: int) -> Iterator[Tensor]:
    keys, count = samples.stream("displacements"), samples.units.count
    if samples.units.modality in SCATTERED:
        for draw in range(draws):
            order = permutations(keys, 1, count, start=draw)[:, 0]
            yield maps.flatten(1).gather(1, order).view_as(maps)
        return
    for shift in (1 + integers(keys, count - 1, draws)).unbind(1):
        yield _shifted(maps, shift)


def _shifted(maps: Tensor, shift: Tensor) -> Tensor:
    """Maps (N, *units) moved around their edges by a number of units (N,) counted along the last axis first."""
    for axis in reversed(range(1, maps.dim())):
        size = maps.shape[axis]
        place = (torch.arange(size, device=maps.device) + shift[:, None]) % size
        shape = [-1 if at == 0 else size if at == axis else 1 for at in range(maps.dim())]
        maps = maps.gather(axis, place.view(shape).expand_as(maps))
        shift = shift // size
    return maps
