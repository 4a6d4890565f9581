"""Numbers as text for a reader: three significant digits."""

import math

MOST_WRITTEN_OUT = 1e7


def significant(value: float) -> str:
    """A number with three significant digits: ``0.412``, ``-0.0123``, ``12.0``, ``1,230``, ``4.56e-07``."""
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0"
    if 1000 <= abs(rounded) < MOST_WRITTEN_OUT:
        return f"{rounded:,.0f}"
    return f"{rounded:#.3g}".rstrip(".")


def count(value: float) -> str:
    """A count in full, ``1,024``; a mean of counts that is not whole with three significant digits."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < MOST_WRITTEN_OUT else significant(value)


def one_figure(value: float, *, up: bool = True) -> float:
    """A positive number rounded to one significant figure, up or down: 52 is 60 or 50; infinity stays as it is."""
    if not math.isfinite(value):
        return value
    step = 10.0 ** math.floor(math.log10(value))
    return float((math.ceil if up else math.floor)(round(value / step, 9)) * step)
