"""Which of two explainers has the higher mean, told from samples that come in rounds and are looked at after each.

Two gamblers bet on the paired differences, one on the first explainer and one on the second
(``harness.results.betting``). If the mean of its explainer is not the higher one, a gambler's wealth ever reaches
2 / ALPHA with a probability of at most ALPHA / 2, however often one looks.
"""

from collections.abc import Mapping

import numpy as np

from harness.results.betting import BoundedBets, SymmetricBets, within
from harness.results.level import ALPHA
from harness.results.ties import difference


def told_apart(scores: Mapping[str, np.ndarray], limits: tuple[float, float] | None) -> str | None:
    """The name of the explainer, of two with scores (N,), that is shown to have the higher mean, or None.

    Samples where a score is not finite are left out. ``limits`` are the least and the largest score that is possible;
    without them the test needs differences that are symmetric where the means are equal. UserError for scores beyond
    the limits.
    """
    both = np.isfinite(list(scores.values())).all(0)
    seen = {name: values[both] for name, values in scores.items()}
    if limits is not None:
        seen = {name: within(limits, values, name) for name, values in seen.items()}
    gaps = difference(*seen.values())
    bets = SymmetricBets(2) if limits is None else BoundedBets(2)
    who, largest = slice(None), np.zeros(2)  # a slice is quicker than indices
    for gap in gaps if limits is None else gaps / (limits[1] - limits[0]):
        bets.bet(who, np.array([gap, -gap]))
        largest = np.maximum(largest, bets.log_wealth)
    sure = largest >= np.log(2 / ALPHA)
    return next((name for name, won in zip(scores, sure, strict=True) if won), None)
