"""How precisely means are known while samples come in rounds.

Whether to go on is decided by the width of the usual interval, and not by where the mean lies. So the interval holds
about as often when it has become narrow as it does at a fixed number of samples (Chow and Robbins 1965, Ann. Math.
Statist. 36): tests/runs/test_rounds.py measures it.
"""

from collections.abc import Mapping

import numpy as np

from harness.results.statistics import interval_on_scale


def widest_interval(scores: Mapping[str, np.ndarray], unit: str) -> tuple[str, float]:
    """The name whose mean is known least precisely, and the larger distance from its mean to an end of its interval.

    Infinite for fewer than two finite scores, and ("", 0) without names.
    """
    halves = {name: _half_width(values[np.isfinite(values)], unit) for name, values in scores.items()}
    name = max(halves, key=halves.__getitem__, default="")
    return name, halves.get(name, 0.0)


def _half_width(scores: np.ndarray, unit: str) -> float:
    if len(scores) < 2:
        return float("inf")
    low, high = interval_on_scale(scores, unit)
    return max(high - float(scores.mean()), float(scores.mean()) - low)
