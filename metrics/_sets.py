"""Random sets of removed groups: drawn once for all explainers, stored in one bit per group, and summed over quickly.

A set of 50,176 units takes 6.3 kB, so 1,000 per sample take 6.3 MB; they are processed in chunks of a few MB.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.metrics._groups import Groups
from harness.randomness import subsets, uniform
from harness.samples import Samples

# Elements processed at once: as many as fit a processor's cache, or keep a GPU busy.
CHUNK = {"cpu": 2**18, "other": 2**23}
LOOK_UPS = 2**19


def pack(sets: Tensor) -> Tensor:
    """Sets (..., G) bool in one bit per group: (..., ceil(G / 8)) uint8."""
    bits = torch.nn.functional.pad(sets, (0, -sets.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (bits * (1 << _bit_numbers(sets.device))).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, count: int) -> Tensor:
    """The sets (..., count) bool that ``pack`` packed."""
    return (packed[..., None] >> _bit_numbers(packed.device) & 1).bool().flatten(-2)[..., :count]


def set_sums(values: Tensor, packed: Tensor) -> Tensor:
    """Sum of the values (N, G) of each set's groups, for packed sets (N, M, bytes): (N, M) float64.

    A table holds the sum for each of the 256 sets within a byte, so that a set costs one look-up per eight groups.
    """
    _, draws, width = packed.shape
    rows = max(1, LOOK_UPS // (max(draws, 256) * width))
    parts = zip(values.double().split(rows), packed.split(rows), strict=True)
    return torch.cat([_look_up(some, sets) for some, sets in parts])


def draw_sets(samples: Samples, groups: Groups, use: str, draws: int, sizes: Tensor) -> Tensor:
    """Packed random sets (N, draws, bytes) of exactly ``sizes`` (N,) groups, uniform over such sets."""
    keys, count = samples.stream(use), groups.sizes.shape[1]
    if groups.alike:
        size = int(sizes[0])
        return pack_chunks(
            keys, draws, count, lambda rows, start, number: subsets(keys[rows], number, size, count, start)
        )
    return torch.cat([_ragged(keys[row : row + 1], draws, sizes[row], groups.present[row]) for row in range(len(keys))])


def pack_chunks(keys: Tensor, draws: int, count: int, make: Callable[[slice, int, int], Tensor]) -> Tensor:
    """Packed sets (N, draws, bytes), made in parts: ``make(rows, start, number)`` gives (rows, number, count) bool."""
    packed = torch.empty(len(keys), draws, -(-count // 8), dtype=torch.uint8, device=keys.device)
    for rows, start, number in _chunks(len(keys), draws, count, keys.device):
        packed[rows, start : start + number] = pack(make(rows, start, number))
    return packed


def outputs_without(samples: Samples, groups: Groups, packed: Tensor, baseline: str | Tensor) -> Tensor:
    """Tracked outputs (N, M, 3) of the inputs without each packed set (N, M, bytes) of groups."""
    count = groups.sizes.shape[1]

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        return groups.spread(~unpack(packed[sample, draw], count), sample)

    return samples.masked(packed.shape[1], keep, baseline)


def rounding(size: Tensor) -> Tensor:
    """The difference that single precision's rounding can make between outputs of about this size."""
    return 4 * torch.finfo(torch.float32).eps * size.abs()


def flat(outputs: Tensor) -> Tensor:
    """Where outputs (..., M) in single precision differ by no more than rounding."""
    return outputs.amax(-1) - outputs.amin(-1) <= rounding(outputs.abs().amax(-1))


def _look_up(values: Tensor, packed: Tensor) -> Tensor:
    """``set_sums`` of as many samples as are processed at once."""
    bits = (torch.arange(256, device=values.device)[:, None] >> _bit_numbers(values.device).long() & 1).double()
    table = torch.nn.functional.pad(values, (0, -values.shape[1] % 8)).unflatten(1, (-1, 8)) @ bits.T
    count, width = table.shape[:2]
    first = (torch.arange(count * width, device=values.device) * 256).view(count, 1, width)
    chunks = packed.split(max(1, LOOK_UPS // (count * width)), dim=1)
    return torch.cat([torch.take(table, chunk.long() + first).sum(-1) for chunk in chunks], 1)


def _ragged(keys: Tensor, draws: int, size: Tensor, present: Tensor) -> Tensor:
    """Packed random sets (1, draws, bytes) of ``size`` of the groups that are ``present`` (G,)."""
    # The axis of groups comes first, so that a group's draws do not depend on how many groups other samples have.
    values = uniform(keys, len(present), draws, dtype=torch.float64)[0].T
    places = values.masked_fill(~present, 2).argsort(-1).argsort(-1)
    return pack(places < size)[None]


def _chunks(count: int, draws: int, elements: int, device: torch.device) -> Iterator[tuple[slice, int, int]]:
    limit = max(1, CHUNK["cpu" if device.type == "cpu" else "other"] // elements)
    number = min(draws, limit)
    rows = max(1, limit // number)
    for first in range(0, count, rows):
        for start in range(0, draws, number):
            yield slice(first, first + rows), start, min(number, draws - start)


def _bit_numbers(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
