"""How precisely means are known while samples come in rounds.

Whether to go on is decided by the width of the usual interval, and not by where the mean lies. So the interval holds
about as often when it has become narrow as it does at a fixed number of samples (Chow and Robbins 1965, Ann. Math.
Statist. 36): tests/runs/test_rounds.py measures it.
"""

from collections.abc import Mapping

import numpy as np

from harness.results.statistics import Limits, interval_on_scale
from harness.results.ties import are_one_number


def widest_interval(scores: Mapping[str, np.ndarray], limits: Limits) -> tuple[str, float]:
    """The name whose mean is known least precisely, and the larger distance from its mean to an end of its interval.

    Infinite for fewer than two finite scores, and ("", 0) without names. ``limits`` are those of the metric. Scores of
    a name that are all one number, as a control's can be, have an interval by the limits of the metric; where it has
    none, by the range of the scores of all names. Where these are one number too, nothing is known: infinite.
    """
    finite = {name: values[np.isfinite(values)] for name, values in scores.items()}
    halves = {name: _half_width(values, limits, finite) for name, values in finite.items()}
    name = max(halves, key=halves.__getitem__, default="")
    return name, halves.get(name, 0.0)


def _half_width(scores: np.ndarray, limits: Limits, of_all: Mapping[str, np.ndarray]) -> float:
    if len(scores) < 2:
        return float("inf")
    if are_one_number(scores) and not np.isfinite(limits).all():
        everything = np.concatenate(list(of_all.values()))
        limits = float(everything.min()), float(everything.max())
        if are_one_number(everything):
            return float("inf")
    low, high = interval_on_scale(scores, limits)
    return max(high - float(scores.mean()), float(scores.mean()) - low)
