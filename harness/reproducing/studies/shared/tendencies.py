"""Tests over nets or images: means of comparisons with one-sided limits, and a verdict on all of a tendency."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.reproducing.findings import PATTERN, Claim
from harness.reproducing.studies.shared.mean_tests import one_sided_limits

ERROR = 0.05  # that any tendency of the study is claimed, or denied, by chance; each of them has an equal part


@dataclass(frozen=True)
class Bounded:
    """A quantity of every net or image, and the bounds that its mean has to be within.

    what     the quantity in words
    values   (nets,); a net where it is undefined, NaN, is left out
    above, below   the bounds, None where there is none
    """

    what: str
    values: np.ndarray
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Tendency:
    """A claim about the nets that holds if all its comparisons are within their bounds."""

    name: str
    says: str
    comparisons: Sequence[Bounded]
    source: str
    expected: bool = True
    tried: str = ""


def with_what_was_tried(tendencies: Sequence[Tendency], tried: Mapping[str, str]) -> list[Tendency]:
    """The tendencies, of which those that are named are not expected to hold; ``tried`` name -> what was tried."""
    return [
        replace(each, expected=False, tried=tried[each.name]) if each.name in tried else each for each in tendencies
    ]


def claims_of_tendencies(tendencies: Sequence[Tendency], nets: int, over: str = "nets") -> list[Claim]:
    """The tendencies with their verdicts; each may be wrong with a probability of ERROR over their number.

    ``nets`` is the number of independent values in a comparison, and ``over`` says what they are.
    """
    return [claim_of_tendency(each, nets, ERROR / len(tendencies), over) for each in tendencies]


def claim_of_tendency(tendency: Tendency, nets: int, level: float, over: str = "nets") -> Claim:
    """The claim with its verdict: it holds if all limits are within the bounds, fails if an interval is outside, and
    else the test cannot tell.

    A claim that needs all comparisons needs no correction for their number: that it holds by chance is no more likely
    than for its worst comparison (intersection-union test, Berger 1982). That it fails by chance is: the level of a
    failure is divided by the number of bounds. ``n`` counts the nets of the comparison that has the fewest.
    """
    count = len(tendency.comparisons)
    limits = [one_sided_limits(each.values, level) for each in tendency.comparisons]
    bounds = max(1, sum((each.above is not None) + (each.below is not None) for each in tendency.comparisons))
    wider = [one_sided_limits(each.values, level / bounds) for each in tendency.comparisons]
    pairs = list(zip(tendency.comparisons, limits, wider, strict=True))
    holds = all(_room(each, low, high) > 0 for each, (_, low, high), _ in pairs)
    fails = any(_is_outside(each, low, high) for each, _, (_, low, high) in pairs)
    worst, (mean, low, high), _ = min(pairs, key=lambda pair: _room(pair[0], *pair[1][1:]))
    of = f", nearest to its bound of {count}" if count > 1 else ""
    return Claim(
        name=tendency.name,
        kind=PATTERN,
        says=tendency.says,
        holds=True if holds else False if fails else None,
        measured=f"{worst.what}{of}: {mean:.3f} [{low:.3f}, {high:.3f}], {_needed_bounds(worst)}",
        why=(
            f"limits by Student's t, plain and corrected for skewness, over {over}, each one-sided at {level:.2g}, so "
            f"that all such claims together err with a probability of {ERROR:g}; a claim of several comparisons holds "
            "if all do"
        ),
        source=tendency.source,
        n=min(nets, *(int(np.isfinite(each.values).sum()) for each in tendency.comparisons)),
        expected=tendency.expected,
        tried=tendency.tried,
    )


def _room(each: Bounded, low: float, high: float) -> float:
    """How far the limits are within the bounds; below 0 where one is not."""
    return min(
        math.inf if each.above is None else low - each.above, math.inf if each.below is None else each.below - high
    )


def _is_outside(each: Bounded, low: float, high: float) -> bool:
    return (each.above is not None and high < each.above) or (each.below is not None and low > each.below)


def _needed_bounds(each: Bounded) -> str:
    bounds = [
        f"{word} {bound:.3g}" for word, bound in (("above", each.above), ("below", each.below)) if bound is not None
    ]
    return f"has to be {' and '.join(bounds)}"
