"""Which coalitions LIME evaluates for its process: drawn by size, or an orthogonal array.

With few evaluations, effects of pairs of players cannot be estimated and act as noise on those of single players. In an
orthogonal array of strength 3 the effects of single players are not aliased with those of pairs. But an array does not
prefer the sizes with large weights, and it aliases larger sets with each other, which many random coalitions would
separate. The design with the smaller posterior variance of the coefficients, under the prior ``DESIGN_PRIOR``, is used.
It is the same for all samples and seeds.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from harness.explainers._coalition_pairs import coalitions_without_replacement
from harness.explainers._coalition_process import seen_by_process
from harness.explainers._expected_ridge import ExpectedRidge, variance_of_coefficients
from harness.randomness import stream, uniform
from harness.samples import Samples

MOST_ATTEMPTS = 50  # a draw that does not fit is repeated: at most 1 in 15 by size, and 1 in 4 of arrays
COMPARED = 4  # draws of each design whose mean variances are compared


def lime_coalitions(samples: Samples, target: ExpectedRidge, count: int) -> Tensor:
    """The coalition of all players and ``count`` - 1 other ones for each sample, (n, count, K) bool, ordered by size.

    They determine the effects of single players. Those of an array are different, and others too, but for sizes of very
    many coalitions (``coalitions_without_replacement``). ``count`` is at least 2 K, or 2^K if that is less.
    ArithmeticError if ``MOST_ATTEMPTS`` draws are not enough.
    """
    design, fits = (_orthogonal, _all_differ) if _prefers_array(target, count) else (_by_size, _determine_singles)
    drawn = design(lambda use: samples.stream(f"lime coalitions {use}"), target, count)
    for attempt in range(1, MOST_ATTEMPTS):
        lacking = ~fits(drawn)
        if not lacking.any():
            return drawn
        again = design(lambda use, attempt=attempt: samples.stream(f"lime coalitions {use} {attempt}"), target, count)
        drawn = again.where(lacking[:, None, None], drawn)
    raise ArithmeticError(f"{MOST_ATTEMPTS} draws of {count} coalitions do not tell {target.players} players apart")


def _determine_singles(present: Tensor) -> Tensor:
    """Which of the draws (n, R, K) determine the level and the effects of single players, (n,) bool."""
    signs = torch.cat([torch.ones_like(present[..., :1]), present], 2).double() * 2 - 1
    return torch.linalg.matrix_rank(signs.mT @ signs, hermitian=True) == signs.shape[2]


def _all_differ(present: Tensor) -> Tensor:
    """Which of the draws (n, R, K) have R different coalitions, (n,) bool."""
    numbers = torch.rand(present.shape[2], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sums = (present.double() @ numbers.to(present.device)).sort(1).values  # equal for equal coalitions alone
    return (sums.diff(dim=1) > 1e-12).all(1)


@lru_cache
def _prefers_array(target: ExpectedRidge, count: int) -> bool:
    """Whether an array leaves the coefficients less variance; it is the same for all samples and seeds."""
    if count >= 2**target.players or 2 ** _bits_of_codes(count) < target.players or seen_by_process(count) < count:
        return False
    variances = [0.0, 0.0]
    for number in range(COMPARED):
        keys = lambda use, number=number: stream(torch.tensor([number]), 0, f"lime design {use}")
        for place, design in enumerate((_orthogonal, _by_size)):
            variances[place] += variance_of_coefficients(design(keys, target, count), target)
    return variances[0] < variances[1]


def _orthogonal(keys_of: Callable[[str], Tensor], target: ExpectedRidge, count: int) -> Tensor:
    """``orthogonal_coalitions`` with the keys (n,) for "array"."""
    return orthogonal_coalitions(keys_of("array"), target.players, count)


def _by_size(keys_of: Callable[[str], Tensor], target: ExpectedRidge, count: int) -> Tensor:
    """All players, and other coalitions of each size as often as they weigh in the regression."""
    keys_of_size = lambda size: keys_of(f"of size {size}")
    drawn = coalitions_without_replacement(keys_of_size, target.players, count - 1, target.shares())
    return torch.cat([torch.ones_like(drawn[:, :1]), drawn], 1)


def orthogonal_coalitions(keys: Tensor, players: int, count: int) -> Tensor:
    """A random orthogonal array with the coalition of all players, (n, count, players) bool, ordered by size.

    Of rows 0 to 2^m - 1, before they are ordered, with 2^m the largest power of two within ``count``, every three
    players are present and absent in all eight ways equally often (strength 3: Hedayat, Sloane and Stufken 1999,
    Orthogonal Arrays, chapter 4), and each coalition has its complement. The others are a part of the next larger
    array. Needs 2^(m - 1) >= players.

    Row u contains the player with code c if the bitwise AND of u and c has an even number of ones. The lowest m bits of
    the codes are odd numbers, all different. A random bit above them applies to rows from 2^m on.
    """
    bits = _bits_of_codes(count)
    draws = uniform(keys, 2**bits + players, dtype=torch.float64)
    codes = draws[:, : 2**bits].topk(players, largest=False).indices * 2 + 1
    codes = codes + (draws[:, 2**bits :] < 0.5) * 2 ** (bits + 1)
    digits = lambda numbers: (numbers[..., None] >> torch.arange(bits + 2, device=keys.device)) % 2
    common = digits(torch.arange(count, device=keys.device)).double() @ digits(codes).double().mT
    present = common.round().long() % 2 == 0
    sizes = present.sum(2)
    sizes[:, 0] = -1  # the coalition of all players, of row 0, comes first
    order = sizes.argsort(dim=1, stable=True)
    return present.gather(1, order[..., None].expand(-1, -1, players))


def _bits_of_codes(count: int) -> int:
    """m - 1 of ``orthogonal_coalitions``."""
    return count.bit_length() - 2
