"""Which differences a confirmation can show: its power, by the spread of differences on the samples that test metrics.

The test is that of ``harness.results.family``: all pairs of explainers and controls together. What it takes is found by
simulating it on normal scores. Scores that are not normal, with long tails above all, need larger differences.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import optimize

from harness.results.family import all_pairs, corrected_t, least_samples
from harness.results.matrices import Matrix

POWER = 0.8  # the probability with which a difference is found that counts as one that can be
DRAWS = 2_000  # of a sample of differences; the power that is told is right to about 0.01
CRITICAL_DRAWS = 20  # pairs for which critical values are simulated
MOST_SPREADS = 1_000.0  # a difference of more standard deviations is not told


@dataclass(frozen=True)
class Planned:
    """A confirmation before it takes place.

    samples   their number
    compared  the number of explainers and controls of which all pairs are tested together
    alpha     the probability of any false claim among all pairs
    """

    samples: int
    compared: int
    alpha: float


@dataclass(frozen=True)
class Step:
    """The step from the best maps to noise, as some samples show it.

    drop     the mean difference
    spread   the standard deviation of the differences, within each half of the samples, whose best maps differ
    freedom  the degrees of freedom of the spread

    The spread stands for that of the differences between an explainer and a control, which was from 0.6 to 1.2 of it on
    13 of the tasks in docs/choosing_tasks.py (the mean: 0.95). Two good explainers have scores that are more alike:
    smaller differences between them are found.
    """

    drop: float
    spread: float
    freedom: int

    @classmethod
    def of(cls, differences: np.ndarray, halves: np.ndarray) -> "Step":
        """The step by differences (n,) of samples, each in the half (n,) of which ``halves`` holds the number."""
        groups = [differences[halves == half] for half in np.unique(halves)]
        squares, freedom = sum(((each - each.mean()) ** 2).sum() for each in groups), len(differences) - len(groups)
        spread = float(np.sqrt(squares / freedom)) if freedom > 0 else float("nan")
        return cls(float(differences.mean()) if len(differences) else float("nan"), spread, freedom)

    def detectable(self, planned: Planned) -> float:
        """The smallest mean difference that the confirmation finds with a probability of 80 %; NaN for no spread that
        is known, infinite where no difference can be shown."""
        if self.freedom < 1 or planned.compared < 2:
            return float("nan")
        return self.spread * spreads_found(planned, self.freedom)


@lru_cache(maxsize=64)
def spreads_found(planned: Planned, freedom: int) -> float:
    """The smallest difference that is found with a probability of 80 %, in standard deviations as they are estimated
    with ``freedom`` degrees of freedom. The fewer these are the larger it is: the spread may be underestimated."""
    if planned.samples < least_samples(planned.alpha):
        return float("inf")
    draw = np.random.default_rng([planned.samples, planned.compared, freedom])
    noise = draw.normal(size=(DRAWS, planned.samples))
    estimated = np.sqrt(draw.chisquare(freedom, DRAWS) / freedom)
    critical = np.resize(_critical_values(planned), DRAWS)

    def lacking(difference: float) -> float:
        scores = noise + (difference * estimated)[:, None]
        found = corrected_t(scores.mean(1), (scores**2).mean(1), (scores**3).mean(1), planned.samples) > critical
        return POWER - float(found.mean())

    return float("inf") if lacking(MOST_SPREADS) > 0 else float(optimize.bisect(lacking, 0, MOST_SPREADS, rtol=1e-3))


def _critical_values(planned: Planned) -> np.ndarray:
    """Critical values of the test on independent normal scores; where explainers' scores are alike they are smaller."""
    pairs = planned.compared * (planned.compared - 1) // 2
    draw = np.random.default_rng([planned.samples, planned.compared])
    tables = draw.normal(size=(max(1, CRITICAL_DRAWS // pairs), planned.samples, planned.compared))
    names = [str(number) for number in range(planned.compared)]
    matrices = (Matrix({"metric": ""}, pd.DataFrame(each, columns=names), "higher") for each in tables)
    return np.array([all_pairs(each, alpha=planned.alpha).critical for each in matrices])
