"""Which of two explainers has the higher mean, told from samples that come in rounds and are looked at after each.

Two gamblers bet on the paired differences, one on the first explainer and one on the second
(``harness.results.betting``). If its explainer is not ahead, a gambler gets rich with a small probability only, however
often one looks. So the two errors together have a probability of at most ALPHA.
"""

import numpy as np

from harness.results.betting import BoundedBets, SymmetricBets, difference
from harness.results.level import ALPHA


def told_apart(first: np.ndarray, second: np.ndarray, limits: tuple[float, float] | None) -> int:
    """1 if the scores (N,) of the first are shown to have the higher mean, -1 if the lower one, 0 if neither is shown.

    Samples where a score is not finite are left out. ``limits`` are the least and the largest score that is possible;
    without them the test needs differences that are symmetric where the means are equal.
    """
    both = np.isfinite(first) & np.isfinite(second)
    gaps = difference(first[both], second[both])
    bets = SymmetricBets(2) if limits is None else BoundedBets(2)
    scale = 1.0 if limits is None else limits[1] - limits[0]
    who, largest = np.arange(2), np.zeros(2)
    for gap in gaps / scale:
        bets.bet(who, np.array([gap, -gap]))
        largest = np.maximum(largest, bets.log_wealth)
    sure = largest >= np.log(2 / ALPHA)
    return int(sure[0]) - int(sure[1])
