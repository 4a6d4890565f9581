"""Percentages as an option of a metric."""

import math

from harness.errors import UserError


def checked_percents(percents: tuple[float, ...]) -> tuple[float, ...]:
    """The percentages as floats; UserError unless there is at least one and all are above 0 and at most 100."""
    if not percents or not all(0 < percent <= 100 for percent in percents):
        raise UserError(f"percents is {list(percents)}, expected numbers above 0 and up to 100, like [10,50,90]")
    return tuple(float(percent) for percent in percents)


def rounded_up(share: float, total: int) -> int:
    """How many of ``total`` units a share is, rounded up to at least 1; an excess below 1e-9 is not rounded up."""
    return max(1, math.ceil(share * total - 1e-9))
