"""What similarity unrelated maps would have: one map is displaced at random, so that only coincidence remains."""

import math
from collections.abc import Iterator
from functools import cache
from itertools import permutations as orders_of

import torch
from torch import Tensor

from harness.errors import NotApplicable
from harness.metrics._similarity import Similarity, tied_ranks
from harness.randomness import integers, permutations
from harness.samples import Samples

SCATTERED = ("table", "other")  # modalities whose units have no neighbours
# Of up to so many displacements none is drawn twice. Of more a repetition is rare, and to prevent it would take long.
FEW, FEW_COLUMNS = 5040, 7  # 7! = 5040
LEAST = 4  # displacements, which an unrelated map exceeds with a probability of 1 / 5


def chance(samples: Samples, before: Tensor, after: Tensor, similarity: Similarity, displacements: int) -> Tensor:
    """Similarity (N, displacements) of maps ``after`` (N, *units) to randomly displaced maps ``before`` (N, *units).

    A map on a grid is shifted around its edges, by a shift drawn uniformly from all but the zero shift. It keeps its
    values and their neighbourhoods; without these, maps would seem less similar than unrelated maps are. The columns of
    a table are permuted. No displacement is drawn twice: maps that have fewer than ``displacements`` get all of them.
    They are the same for every explainer. NotApplicable for maps of a single unit.
    """
    return _compared(samples, before, after, similarity, displacements)[0]


def mean_and_largest_by_chance(
    samples: Samples, before: Tensor, after: Tensor, similarity: Similarity, displacements: int
) -> tuple[Tensor, Tensor]:
    """The mean of ``chance``, and the largest similarity to those displaced maps that differ from the map: (N,) each.

    A map that has nothing to do with ``before`` is more similar than n different displaced maps with a probability of
    1 / (1 + n). Where n is below ``LEAST`` and fewer than asked for, this would be too often: NotApplicable where maps
    have too few units, and NaN for a map that has too many equal values in its columns.
    """
    possible, least = displacement_count(samples), min(displacements, LEAST)
    if possible < least:
        raise NotApplicable(
            f"an unrelated map exceeds all displacements of a map of {samples.units.count} units with a probability of "
            f"1/{possible + 1} (give displacements={possible} to accept this)"
        )
    found, differs = _compared(samples, before, after, similarity, displacements)
    enough = differs.any(1) & (_different_maps(samples, similarity.prepare(before)) >= least)
    largest = found.masked_fill(~differs, float("-inf")).amax(1)
    return found.mean(1), largest.where(enough, float("nan"))


def displacement_count(samples: Samples) -> int:
    """How many displacements a map has: the shifts of a grid, or the orders of columns (of 20 where there are more)."""
    count = samples.units.count
    if count < 2:
        raise NotApplicable("a map of a single unit cannot be displaced")
    return math.factorial(min(count, 20)) - 1 if samples.units.modality in SCATTERED else count - 1


def _compared(
    samples: Samples, before: Tensor, after: Tensor, similarity: Similarity, displacements: int
) -> tuple[Tensor, Tensor]:
    """The similarity to each displaced map, and whether it differs from the map: (N, displacements) each."""
    ready, against = similarity.prepare(before), similarity.prepare(after)  # once, not for every displacement
    one = lambda moved: (similarity.compare(moved, against), (moved != ready).flatten(1).any(1))
    found, differs = zip(*map(one, _displaced(samples, ready, displacements)), strict=True)
    return torch.stack(found, 1), torch.stack(differs, 1)


def _displaced(samples: Samples, maps: Tensor, draws: int) -> Iterator[Tensor]:
    keys, count = samples.stream("displacements"), samples.units.count
    draw_numbers = lambda: 1 + _distinct_numbers(keys, displacement_count(samples), draws)
    if samples.units.modality in SCATTERED and count > FEW_COLUMNS:
        for draw in range(draws):
            order = permutations(keys, 1, count, start=draw)[:, 0]
            stays = (order == torch.arange(count, device=order.device)).all(1, keepdim=True)
            yield _reordered(maps, torch.where(stays, order.roll(1, 1), order))
        return
    for number in samples.shared(("displacements", draws), draw_numbers).unbind(1):
        if samples.units.modality in SCATTERED:
            yield _reordered(maps, _every_order(count).to(maps.device)[number])
        else:
            yield shifted_around(maps, number)


def _distinct_numbers(keys: Tensor, count: int, draws: int) -> Tensor:
    """Random numbers (N, draws) below ``count``, none of them twice if there are no more than ``FEW``."""
    return integers(keys, count, draws) if count > FEW else permutations(keys, 1, count)[:, 0, :draws]


@cache
def _every_order(count: int) -> Tensor:
    """All orders (count!, count) of range(count), ascending: the first one changes nothing."""
    return torch.tensor(list(orders_of(range(count))))


def _reordered(maps: Tensor, order: Tensor) -> Tensor:
    """Maps (N, *units) with their units in another order (N, K)."""
    return maps.flatten(1).gather(1, order).view_as(maps)


def _different_maps(samples: Samples, maps: Tensor) -> Tensor:
    """How many displaced maps differ from each other and from the map (N, *units): (N,) float64.

    To exchange columns of equal values changes nothing. On a grid all shifts count, as few maps repeat themselves.
    """
    if samples.units.modality not in SCATTERED:
        return torch.full((len(maps),), float(displacement_count(samples)), dtype=torch.float64, device=maps.device)
    first, last = tied_ranks(maps.flatten(1))
    equal = last - first + 1  # how many values are equal to each one, itself included
    changing_nothing = (torch.lgamma(equal + 1) / equal).sum(1)  # as a logarithm, like the next
    every = torch.lgamma(torch.full_like(changing_nothing, equal.shape[1] + 1.0))
    return (every - changing_nothing).exp().round() - 1


def shifted_around(maps: Tensor, shift: Tensor) -> Tensor:
    """Maps (N, *units) shifted around their edges by a number of units (N,), counted along the last axis first."""
    for axis in reversed(range(1, maps.dim())):
        size = maps.shape[axis]
        place = (torch.arange(size, device=maps.device) + shift[:, None]) % size
        shape = [-1 if at == 0 else size if at == axis else 1 for at in range(maps.dim())]
        maps = maps.gather(axis, place.view(shape).expand_as(maps))
        shift = shift // size
    return maps
