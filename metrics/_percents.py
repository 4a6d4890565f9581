"""Percentages and shares of units as numbers of units."""

import math


def rounded_up(share: float, total: int) -> int:
    """How many of ``total`` units a share is, rounded up to at least 1; an excess below 1e-9 is not rounded up."""
    return max(1, math.ceil(share * total - 1e-9))
