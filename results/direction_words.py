"""A change in words that name its direction, so that no sign has to be read: better or worse, faster or slower."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.results.numbers import count, significant

RATIO_WORDS = {"seconds": ("times slower", "times faster"), "MB": ("times more memory", "times less memory")}


def change_in_words(row: Mapping[str, Any], change: float) -> str:
    """A change of a cell: ``0.245 worse``, ``1.50 times slower``, ``46 fewer passes``; ``no change``.

    ``row`` holds ``unit``, ``better`` and ``before``, the level from which it changed. Without a direction, a change is
    ``higher`` or ``lower``.
    """
    if not change:
        return "no change"
    before, unit = row["before"], row["unit"]
    if unit == "passes":
        return f"{count(abs(change))} {'more' if change > 0 else 'fewer'} passes"
    if unit in RATIO_WORDS and before > 0 and before + change > 0:
        ratio = (before + change) / before
        return f"{significant(max(ratio, 1 / ratio))} {RATIO_WORDS[unit][int(change < 0)]}"
    return f"{significant(abs(change))} {direction_word(row, change)}"


def direction_word(row: Mapping[str, Any], change: float) -> str:
    """``better`` or ``worse``, or ``higher`` or ``lower`` of a metric without a direction."""
    if row["better"] not in ("higher", "lower"):
        return "higher" if change > 0 else "lower"
    return "better" if (change > 0) == (row["better"] == "higher") else "worse"


def interval_in_words(row: Mapping[str, Any]) -> str:
    """The interval ``low`` to ``high`` of a change: ``[0.110 to 0.360 worse]``, ``[0.322 worse to 0.215 better]``.

    Empty where there is none. The bound that is nearer to no change comes first, or the worse one if 0 lies between.
    """
    bounds = [row["low"], row["high"]]
    if any(map(pd.isna, bounds)) or bounds == [0, 0]:
        return ""
    words = [direction_word(row, bound) for bound in bounds if bound]
    if len(set(words)) == 1:
        near, far = sorted(map(abs, bounds))
        return f"[{significant(near)} to {significant(far)} {words[0]}]"
    ends = {word: f"{significant(abs(bound))} {word}" for word, bound in zip(words, bounds, strict=True)}
    first, second = ("worse", "better") if "worse" in ends else ("lower", "higher")
    return f"[{ends[first]} to {ends[second]}]"


def levels_in_words(row: Mapping[str, Any]) -> str:
    """``0.857 → 0.612``; empty without both levels."""
    before, after = row["before"], row["after"]
    return "" if pd.isna(before) or pd.isna(after) else f"{significant(before)} → {significant(after)}"


def whole_change_in_words(row: Mapping[str, Any]) -> str:
    """``0.245 worse [0.110 to 0.360 worse]``; empty without a change."""
    if pd.isna(row["change"]):
        return ""
    return f"{change_in_words(row, row['change'])} {interval_in_words(row)}".strip()
