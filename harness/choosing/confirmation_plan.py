"""On which samples the answer is confirmed, and at which level."""

from collections.abc import Sequence
from typing import Any

from harness.choosing.candidates import Candidate
from harness.choosing.measuring import Keeper, Part
from harness.choosing.prices import Prices
from harness.choosing.split import Split
from harness.results.family import least_samples

PART = 16  # samples that are measured together
KEPT = 0.05  # the share of the budget that is kept for the conditions
LATER = 0.25  # the share of the level that is kept for later answers of the same command


def level_of_answer(keeper: Keeper, answer: list[Any], alpha: float) -> float:
    """The level of the confirmation of an ``answer`` (what was compared, on which samples).

    All answers of a command share ``alpha``: one with a larger budget looks at the samples of the confirmation again.
    The first gets three quarters of it, the second three quarters of what is left, and so on. The same answer keeps
    its level.
    """
    answers = keeper.noted("answers") or []
    if answer not in answers:
        answers = [*answers, answer]
        keeper.note("answers", answers)
    return alpha * (1 - LATER) * LATER ** answers.index(answer)


def affordable_samples(prices: Prices, candidates: Sequence[Candidate], split: Split, taken: int, alpha: float) -> int:
    """How many samples that take no other part can be paid for, of all that there are; at least those without which
    nothing can be shown at the level ``alpha`` * (1 - LATER)."""
    least, most = least_samples(alpha * (1 - LATER)), len(split.fresh(taken))
    counts = [*range(-(-least // PART) * PART, most, PART), most]
    return max((n for n in counts if prices.affords(candidates, n, kept=KEPT)), default=counts[0])


def parts_of_confirmation(split: Split, taken: int, count: int) -> list[Part]:
    """The first ``count`` samples: those of the confirmation, then those that the race and tuning, which have taken
    ``taken``, have left over."""
    left_over = split.fresh(taken)[len(split.confirmation) : count]
    return [*_parts("confirmation", split.confirmation[:count]), *_parts(f"left over after {taken}", left_over)]


def _parts(name: str, rows: Sequence[int]) -> list[Part]:
    """Parts that stay the same when whole ones are added."""
    starts = range(0, len(rows), PART)
    found = (rows[start : start + PART] for start in starts)
    return [
        Part(f"{name} {start + 1}-{start + len(own)}", tuple(own)) for start, own in zip(starts, found, strict=True)
    ]
