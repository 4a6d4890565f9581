"""Three answers of a test on means over images: yes, no, or that it cannot tell."""

import numpy as np
import pandas as pd
from scipy.stats import t

PATTERNS = 22  # at most, of a study: each is tested at LEVEL, so that the error of all together is at most ALL_TOGETHER
ALL_TOGETHER = 0.05
LEVEL = ALL_TOGETHER / PATTERNS


def half_width(means: pd.DataFrame, tests: int = 1, sides: int = 1) -> np.ndarray:
    """How far an interval for each mean reaches to one side, at LEVEL divided among ``tests`` and ``sides``.

    ``means`` has the columns mean, error (a standard error) and images.
    """
    return t.ppf(1 - LEVEL / (tests * sides), means["images"].to_numpy() - 1) * means["error"].to_numpy()


def all_above(means: pd.DataFrame, bar: float = 0.0) -> bool | None:
    """Whether every mean is above the bar.

    Yes if each one-sided interval is above it: the chance that a false claim passes is at most LEVEL, however many
    means there are. No if one is below it, with LEVEL divided among them.
    """
    values = means["mean"].to_numpy()
    if (values - half_width(means) > bar).all():
        return True
    return False if (values + half_width(means, len(means)) < bar).any() else None


def all_within(means: pd.DataFrame, bound: float) -> bool | None:
    """Whether every mean is within ``bound`` of 0: each by two one-sided tests, so that a false claim passes with a
    chance of at most LEVEL. No if one is outside, with LEVEL divided among them and both sides."""
    sizes = means["mean"].abs().to_numpy()
    if (sizes + half_width(means) < bound).all():
        return True
    return False if (sizes - half_width(means, len(means), sides=2) > bound).any() else None


def all_apart(means: pd.DataFrame, near: float) -> bool | None:
    """Whether every mean differs from 0 by more than ``near``, to either side, at LEVEL. No if one is nearer, see
    above."""
    sizes = means["mean"].abs().to_numpy()
    if (sizes - half_width(means, sides=2) > near).all():
        return True
    return False if (sizes + half_width(means, len(means)) < near).any() else None


def both_answers(first: bool | None, second: bool | None) -> bool | None:
    """Whether both hold; no if one does not."""
    if first is False or second is False:
        return False
    return None if first is None or second is None else True
