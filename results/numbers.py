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


def with_interval(value: float, low: float, high: float) -> str:
    """A number with its interval, ``0.24 [-0.08, 0.47]``: all with as many decimals as two digits of the width take.

    Without an interval, three significant digits.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return significant(value)
    number, bottom, top = rounded_together(value, low, high)
    return f"{number} [{bottom}, {top}]"


def rounded_together(value: float, low: float, high: float) -> tuple[str, str, str]:
    """A number and the ends of its interval, which are finite, with as many decimals as two digits of the width take;
    three significant digits where the interval has no width or that is many decimals."""
    width = high - low
    decimals = 1 - math.floor(math.log10(width)) if width > 0 else 9
    if not 0 <= decimals <= 5:
        return significant(value), significant(low), significant(high)
    # An end that is not 0 does not look like 0: it decides whether a difference is shown.
    while decimals <= 5 and any(each and not round(each, decimals) for each in (low, high)):
        decimals += 1
    return tuple(f"{round(each, decimals) + 0.0:,.{decimals}f}" for each in (value, low, high))


def with_sign(text: str) -> str:
    """A number in words with a plus before it where it is above 0: ``+0.24``."""
    return f"+{text}" if text.strip("0.,") and not text.startswith("-") else text
