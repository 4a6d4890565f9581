"""What similarity unrelated maps would have: one map is displaced at random, so that only coincidence remains."""

from collections.abc import Iterator

import torch
from torch import Tensor

from harness.metrics._similarity import Similarity
from harness.randomness import integers, permutations
from harness.samples import Samples

SCATTERED = ("table", "other")  # modalities whose units have no neighbours


def chance(samples: Samples, before: Tensor, after: Tensor, similarity: Similarity, displacements: int) -> Tensor:
    """Similarity (N, displacements) of maps ``after`` (N, *units) to randomly displaced maps ``before`` (N, *units).

    A map on a grid is shifted around its edges, by a shift drawn uniformly from all but the zero shift. It keeps its
    values and their neighbourhoods; without these, maps would seem less similar than unrelated maps are. The columns of
    a table are permuted; a permutation that changes nothing, which is frequent with few columns, is replaced by a
    rotation by one. The displacements are the same for every explainer.
    """
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
        yield shifted_around(maps, shift)


def shifted_around(maps: Tensor, shift: Tensor) -> Tensor:
    """Maps (N, *units) shifted around their edges by a number of units (N,), counted along the last axis first."""
    for axis in reversed(range(1, maps.dim())):
        size = maps.shape[axis]
        place = (torch.arange(size, device=maps.device) + shift[:, None]) % size
        shape = [-1 if at == 0 else size if at == axis else 1 for at in range(maps.dim())]
        maps = maps.gather(axis, place.view(shape).expand_as(maps))
        shift = shift // size
    return maps
