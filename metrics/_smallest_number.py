"""The search for the smallest number of units that decides something, in few calls of the model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Whether numbers (rows,) of units decide for samples (rows,): 1 for yes, 0 for no, NaN where that is undefined.
Decides = Callable[[Tensor, Tensor], Tensor]


def smallest_number(
    sample: Tensor, count: int, steps: int, decides: Decides, rows: int, first: Sequence[int] = ()
) -> Tensor:
    """The smallest number in 1..``count`` found to decide, for each sample (n,); float64, NaN if an answer was NaN
    first.

    ``count`` is assumed to decide. Each round tries up to ``steps`` evenly spaced numbers between the largest that does
    not decide and the smallest that does; the first round tries ``first``, if given. ``rows``: rows per forward pass.
    Exact if the answer changes only once.
    """
    low, high = torch.zeros_like(sample), torch.full_like(sample, count)
    undefined = torch.zeros_like(sample, dtype=torch.bool)
    given = torch.tensor(sorted(first), dtype=sample.dtype, device=sample.device)
    while True:
        open_ = ((high - low > 1) & ~undefined).nonzero()[:, 0]
        if not len(open_):
            return high.double().masked_fill(undefined, float("nan"))
        tried = given.expand(len(open_), -1) if len(given) else _evenly_between(low[open_], high[open_], steps)
        given = given[:0]
        narrowed = _narrowed(sample[open_], tried, low[open_], high[open_], decides, rows)
        low[open_], high[open_], undefined[open_] = narrowed


def _evenly_between(low: Tensor, high: Tensor, steps: int) -> Tensor:
    """At most ``steps`` numbers between ``low`` and ``high`` (n,), ascending; beyond them ``high`` and more."""
    gap = (high - low)[:, None]
    trials = (gap - 1).clamp(max=steps)
    number = torch.arange(1, int(trials.max()) + 1, device=low.device)
    return low[:, None] + number * gap // (trials + 1)


def _narrowed(
    sample: Tensor, tried: Tensor, low: Tensor, high: Tensor, decides: Decides, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The bounds (n,) after the numbers ``tried`` (n, T), ascending, and where an answer was undefined.

    ``low`` is the last number that does not decide, ``high`` the first that does. What comes after the first that
    decides counts for nothing, so that the result does not depend on how many are asked for at once.
    """
    undefined, searching = torch.zeros_like(low, dtype=torch.bool), torch.arange(len(low), device=low.device)
    start = 0
    while len(searching) and start < tried.shape[1]:
        block = slice(start, start + max(1, rows // len(searching)))
        numbers = tried[searching, block]
        row, column = (numbers < high[searching, None]).nonzero(as_tuple=True)
        answers = torch.zeros(numbers.shape, dtype=torch.float64, device=low.device)
        if len(row):  # those that still search may have no number below their bound among these
            answers[row, column] = decides(sample[searching[row]], numbers[row, column]).double()
        stops = answers != 0  # also where an answer is not a number
        found = stops.any(1)
        first = torch.where(found, stops.long().argmax(1), (numbers < high[searching, None]).sum(1))[:, None]
        before = numbers.gather(1, (first - 1).clamp(min=0))[:, 0]
        low[searching] = torch.where(first[:, 0] > 0, before, low[searching])
        first = first[found]
        high[searching[found]] = numbers[found].gather(1, first)[:, 0]
        undefined[searching[found]] = answers[found].gather(1, first)[:, 0].isnan()
        searching, start = searching[~found], block.stop
    return low, high, undefined
