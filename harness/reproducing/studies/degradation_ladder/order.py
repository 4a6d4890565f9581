"""Whether scores follow a ladder: Spearman's correlation with its rungs, tests of its steps, and groups of samples.

Scores of a ladder are a matrix (n, rungs) from the least to the most noise, signed so that higher is better: right
scores fall from rung to rung.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial

import numpy as np
from scipy.stats import rankdata

from harness.reproducing.studies.shared.mean_tests import mean_above_p
from harness.results.level import ALPHA, holm
from harness.results.sign_flips import sign_flips
from harness.results.ties import difference, score_levels

AT_ONCE = 1 << 18  # numbers of sign flips that are held at a time


def recovery(means: np.ndarray) -> float:
    """How well means (rungs,), higher is better, follow the ladder: Spearman's correlation with minus the noise.

    1 if each mean is below the one before, -1 if each is above it, and 0 if all are equal but for rounding.
    """
    ranks = rankdata(score_levels(means))
    if np.ptp(ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks, -np.arange(len(ranks)))[0, 1])


def chance_of_order(rungs: int) -> float:
    """The probability that means in random order follow the ladder."""
    return 1 / factorial(rungs)


def p_of_means(differences: np.ndarray) -> np.ndarray:
    """Two-sided p-values (K,) of means of 0 of differences (n, K): the larger of that by random flips of the samples'
    signs, which is exact where differences are symmetric around 0, and of that by t corrected for skewness, which is
    more careful where they are not. 1 where all differences are 0, or for fewer than 2 samples.
    """
    count, columns = differences.shape
    if count < 2:
        return np.ones(columns)
    scale = np.abs(differences).max(0)
    scaled = differences / np.where(scale > 0, scale, 1)
    observed, reached, flips = np.abs(scaled.sum(0)) - 1e-9, np.zeros(columns), 0
    for signs in sign_flips(count, columns, at_once=AT_ONCE):
        reached += (np.abs(signs @ scaled) >= observed).sum(0)
        flips += len(signs)
    by_t = [2 * min(mean_above_p(sign * column) for sign in (1, -1)) for column in differences.T]
    return np.maximum(reached / flips, np.minimum(by_t, 1.0))


@dataclass(frozen=True)
class Climb:
    """One metric on the ladder of one ground.

    n          samples with a score on every rung
    recovery   of the means of all samples
    steps      the mean fall at each step, positive where more noise scores worse
    p          their p-values, corrected for all steps of all grounds of the metric
    whole      the mean fall from the first to the last rung, and ``p_whole`` its p-value, corrected for the grounds
    """

    n: int
    recovery: float
    steps: np.ndarray
    p: np.ndarray
    whole: float
    p_whole: float

    @property
    def in_order(self) -> bool:
        """Whether the means are in the order of the ladder."""
        return self.recovery > 1 - 1e-9

    @property
    def sure(self) -> int:
        """How many steps are shown to score worse."""
        return int(((self.steps > 0) & (self.p <= ALPHA)).sum())

    @property
    def turned(self) -> int:
        """How many steps are shown to score better, though their maps have more noise."""
        return int(((self.steps < 0) & (self.p <= ALPHA)).sum())

    @property
    def falls(self) -> bool:
        """Whether the last rung is shown to score worse than the first."""
        return self.whole > 0 and self.p_whole <= ALPHA


def climbs_of(ladders: Mapping[str, np.ndarray]) -> dict[str, Climb]:
    """The tests of one metric's ladders: ground -> scores (n, rungs) without gaps."""
    differences = {ground: _falls(scores) for ground, scores in ladders.items()}
    p = {ground: p_of_means(each) for ground, each in differences.items()}
    steps = iter(holm(np.array([value for each in p.values() for value in each[:-1]])))
    whole = iter(holm(np.array([each[-1] for each in p.values()])))
    found = {}
    for ground, each in differences.items():
        means = each.mean(0) if len(each) else np.zeros(each.shape[1])
        corrected = np.array([next(steps) for _ in means[:-1]])
        score = recovery(ladders[ground].mean(0)) if len(each) else 0.0
        found[ground] = Climb(len(each), score, means[:-1], corrected, float(means[-1]), next(whole))
    return found


def _falls(scores: np.ndarray) -> np.ndarray:
    """The falls (n, rungs) of scores (n, rungs): at each step, and then from the first to the last rung."""
    steps = [difference(scores[:, rung], scores[:, rung + 1]) for rung in range(scores.shape[1] - 1)]
    return np.stack([*steps, difference(scores[:, 0], scores[:, -1])], 1)


def verdict_on_climbs(climbs: Mapping[str, Climb]) -> bool | None:
    """Whether a metric ranks its ladders rightly; None where the tests cannot tell.

    True: on every ground the means are in order and the last rung is shown to score worse than the first. False: some
    step is shown to score better, though its maps have more noise.
    """
    if any(each.turned for each in climbs.values()):
        return False
    return True if climbs and all(each.in_order and each.falls for each in climbs.values()) else None


def recoveries(scores: np.ndarray, size: int) -> np.ndarray:
    """The recovery of the means of each group of ``size`` samples, in their order: (groups,).

    Samples (n, rungs) that lack a score do not count; 0 for a group of such samples. What is left over is left out.
    """
    whole = len(scores) // size * size
    found = []
    for own in scores[:whole].reshape(-1, size, scores.shape[1]):
        own = own[np.isfinite(own).all(1)]
        found.append(recovery(own.mean(0)) if len(own) else 0.0)
    return np.array(found, dtype=np.float64)
