"""What similarity unrelated maps would have: one map is displaced, so that only coincidence is left."""

from collections.abc import Iterator

import torch
from torch import Tensor

from harness.errors import UserError
from harness.metrics._similarity import Similarity
from harness.randomness import integers, permutations
from harness.samples import Samples

SCATTERED = ("table", "other")  # units that have no neighbours


def chance(samples: Samples, before: Tensor, after: Tensor, similarity: Similarity, displacements: int) -> Tensor:
    """Similarity (N, displacements) of maps ``after`` (N, *units) to ``before`` (N, *units) moved at random.

    A grid's map is moved around its edges by a shift that is drawn evenly from all but none at all; so it keeps its
    values and their neighbourhoods, without which maps would seem less similar than unrelated maps are. The columns of
    a table are permuted, or turned by one where that leaves all in place, as it often does with a few: a map that
    stays is no coincidence. Every explainer meets the same displacements.
    """
    if displacements < 1:
        raise UserError(f"displacements is {displacements}, expected a number of random displacements from 1")
    ready, against = similarity.prepare(before), similarity.prepare(after)  # once, not for every displacement
    return torch.stack([similarity.compare(moved, against) for moved in _displaced(samples, ready, displacements)], 1)


def _displaced(samples: Samples, maps: Tensor, draws: int) -> Iterator[Tensor]:
    keys, count = samples.stream("displacements"), samples.units.count
    if samples.units.modality in SCATTERED:
        for draw in range(draws):
            order = permutations(keys, 1, count, start=draw)[:, 0]
            stays = (order == torch.arange(count, device=order.device)).all(1, keepdim=True)
            order = torch.where(stays, order.roll(1, 1), order)
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
