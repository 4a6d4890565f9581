"""Which explainers differ: all pairs of explainers on one metric, tested as one family.

The statistic of a pair is the t of the mean paired difference, corrected for skewness (Hall 1992, JRSS B 54; Johnson
1978, JASA 73). Its null distribution comes from random sign flips, the same for all pairs. A p-value compares a pair
with the largest statistic of all pairs under each flip (single-step max-T, Westfall and Young 1993), so that the chance
of any false claim is at most 5 % where differences are symmetric, and about that where they are not: docs/claims.py
measures it. Intervals invert the same statistic.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.results.letters import letters_of
from harness.results.level import ALPHA
from harness.results.matrices import Matrix
from harness.results.sign_flips import FLIPS, sign_flips
from harness.results.statistics import corrected_interval
from harness.results.ties import differences_of_columns, differences_on_samples

FEWER_FLIPS = 1_999
MOST_FOR_ALL_FLIPS = 1 << 18  # samples x pairs, above which fewer flips are drawn
MOST_AT_ONCE = 1 << 14  # numbers of an array, of which a few stay in the processor's cache together
LEAST_SPREAD = 1e-9  # relative variance below which differences count as one number
ROUNDING = 1e-9  # statistics that are equal but for rounding count as equal


def least_samples(alpha: float) -> int:
    """The fewest samples with which a difference can be shown: n samples have no p-value below 2 / 2^n."""
    return 1 + int(np.ceil(-np.log2(alpha)))


LEAST_SAMPLES = least_samples(ALPHA)


@dataclass(frozen=True)
class Family:
    """All pairs of explainers on one metric, over the samples that all of them have.

    names        the K explainers that are compared
    values       their scores (n, K), signed so that higher is better
    statistic    (K, K) corrected t of the mean difference of row less column; NaN for fewer than two samples
    largest      (2, flips) the largest statistic of all pairs under each sign flip, sorted: of the differences, the
                 observed signs among them, and of their deviations from their means, which the intervals need
    alpha        the probability of any false claim among all pairs
    """

    names: list[str]
    values: np.ndarray
    statistic: np.ndarray
    largest: np.ndarray
    alpha: float = ALPHA

    @property
    def n(self) -> int:
        """The number of samples that all explainers have."""
        return len(self.values)

    @cached_property
    def mean(self) -> np.ndarray:
        """The means (K,)."""
        return self.values.mean(0) if self.n else np.full(len(self.names), np.nan)

    @cached_property
    def p(self) -> np.ndarray:
        """p-values (K, K), corrected for all pairs; 1 on the diagonal, NaN for fewer than two samples."""
        if not self.largest.size:
            return np.full(self.statistic.shape, np.nan)
        observed, flips = np.abs(self.statistic) * (1 - ROUNDING), self.largest.shape[1]
        # The observed signs are one of the flips. Rounding could miss it, as ``statistic`` is computed in another way.
        counts = [flips - np.searchsorted(each, observed, side="left") for each in self.largest]
        return np.maximum(np.max(counts, axis=0), 1) / flips

    @property
    def able(self) -> bool:
        """Whether any pair could be shown to differ with this number of samples.

        With n samples no exact p-value is below 2 / 2^n: six samples are the fewest at 5 %.
        """
        return self.n >= least_samples(self.alpha)

    @cached_property
    def critical(self) -> float:
        """The statistic above which a pair is shown to differ."""
        if not self.largest.size:
            return float("nan")
        return float(self.largest[:, -1 - int(self.alpha * self.largest.shape[1])].max())

    @property
    def critical_t(self) -> float | None:
        """``critical`` as a value of Student's t of these n samples: that has the standard deviation with n - 1, where
        ``statistic`` has the one with n. None where there is no finite one to plan with."""
        found = self.critical if self.able else np.inf
        return found * float(np.sqrt(1 - 1 / self.n)) if np.isfinite(found) else None

    def differs(self, first: str, second: str) -> bool:
        """Whether the two are shown to differ."""
        return self.p_of(first, second) <= self.alpha

    def p_of(self, first: str, second: str) -> float:
        """The p-value of the pair, corrected for all pairs."""
        return float(self.p[self._place(first), self._place(second)])

    def better(self, first: str, second: str) -> bool:
        """Whether the first is shown to be better than the second."""
        return self.differs(first, second) and self.difference(first, second) > 0

    def difference(self, first: str, second: str) -> float:
        """The mean of the first less the second; positive where the first is better."""
        return float(self.differences(first, second).mean())

    def interval(self, first: str, second: str) -> tuple[float, float]:
        """The interval of ``difference`` at the level that holds for all pairs together (95 % by default).

        0 lies outside if and only if the two are shown to differ. NaN twice where nothing can be shown (``able``), and
        for differences that are all one number: their test is one of signs, which does not say how large the difference
        is on other samples.
        """
        if not self.able:
            return float("nan"), float("nan")
        return corrected_interval(self.differences(first, second), self.critical * (1 + ROUNDING))

    def effect(self, first: str, second: str) -> float:
        """The mean difference in standard deviations of the differences; infinite where these do not vary."""
        differences = self.differences(first, second)
        mean, spread = differences.mean(), differences.std(ddof=1) if self.n > 1 else np.nan
        if spread > np.sqrt(LEAST_SPREAD) * abs(mean):
            return float(mean / spread)
        return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))

    def share_better(self, first: str, second: str) -> float:
        """The share of the samples on which the first is better; ties count half."""
        differences = self.differences(first, second)
        return float((differences > 0).mean() + (differences == 0).mean() / 2)

    def best(self, among: Collection[str] | None = None) -> str | None:
        """The explainer with the best mean among some of them (None: all); None if there is none."""
        names = [name for name in self.names if among is None or name in among]
        return max(names, key=lambda name: self.mean[self._place(name)]) if names and self.n else None

    @cached_property
    def letters(self) -> dict[str, str]:
        """Explainer -> letters: two share a letter if and only if they are not shown to differ; the best mean has
        ``a``. Empty where nothing can be tested."""
        if not self.largest.size:
            return dict.fromkeys(self.names, "")
        order = [self.names[place] for place in np.argsort(-self.mean, kind="stable")]
        return letters_of(order, self.differs)

    def _place(self, name: str) -> int:
        return self.names.index(name)

    def differences(self, first: str, second: str) -> np.ndarray:
        """The scores of the first less those of the second (n,); 0 where they are equal but for rounding."""
        return differences_on_samples(self.values[:, self._place(first)], self.values[:, self._place(second)])


def all_pairs(matrix: Matrix, *, seed: int = 0, alpha: float = ALPHA) -> Family:
    """The family of all pairs of the explainers of ``matrix``, over the samples that all of them have."""
    compared = matrix.compared
    values = compared.complete.to_numpy(dtype=np.float64)
    names, count = list(compared.values), compared.values.shape[1]
    statistic = np.zeros((count, count))
    if len(values) < 2 or count < 2:
        return Family(names, values, np.full((count, count), np.nan), np.empty((2, 0)), alpha)
    first, second = np.triu_indices(count, 1)
    differences = _rescaled(differences_of_columns(values, first, second))
    found, largest = _statistics_and_flips(differences, seed)
    statistic[first, second], statistic[second, first] = found, -found
    return Family(names, values, statistic, largest, alpha)


def _rescaled(differences: np.ndarray) -> np.ndarray:
    """Differences (n, pairs), each pair's divided by its largest, so that no power of them overflows or vanishes."""
    largest = np.abs(differences).max(0)
    return differences / np.where(largest > 0, largest, 1)


def _statistics_and_flips(differences: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The statistics (pairs,) of differences (n, pairs), and the sorted largest of all pairs under each sign flip:
    (2, flips), of the differences and of their deviations from their means.

    The test of a difference of 0 flips the differences. An interval holds whatever the true difference is, for which
    the deviations stand. A pair is shown to differ if both say so: then the interval and the test always agree.
    """
    mean = differences.mean(0)
    statistic = corrected_t(mean, (differences**2).mean(0), (differences**3).mean(0), len(differences))
    kinds = [_flip_terms(differences), _flip_terms(differences - mean)]
    draws = FLIPS if differences.size <= MOST_FOR_ALL_FLIPS else FEWER_FLIPS
    flips = sign_flips(*differences.shape, at_once=MOST_AT_ONCE, draws=draws, seed=seed)
    largest = [[_largest_statistics(*kind, signs) for kind in kinds] for signs in flips]
    return statistic, np.sort(np.concatenate(largest, axis=1), axis=1)


def _flip_terms(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences (n, pairs), each pair's in units of its root mean square, and their cubes; both divided by n.

    Their products with the signs are the first and third moments under each flip.
    """
    size = np.sqrt((differences * differences).mean(0))
    scaled = differences / np.where(size > 0, size, 1)
    return scaled / len(scaled), scaled * scaled * scaled / len(scaled)


def _largest_statistics(scaled: np.ndarray, cubes: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The largest statistic (flips,) of all pairs under each row of ``signs`` (flips, n), from ``_flip_terms``."""
    found = _corrected_in_place(signs @ scaled, signs @ cubes, len(scaled))
    return np.abs(found, out=found).max(1)


def corrected_t(mean: np.ndarray, square: np.ndarray, cube: np.ndarray, n: int) -> np.ndarray:
    """Student's t of means of n numbers, corrected for their skewness (Hall 1992), from their first three moments.

    With the mean in standard deviations S and the skewness g it is sqrt(n) (S + g S^2 / 3 + g^2 S^3 / 27 + g / (6 n)),
    which grows with S and is nearly normal. Infinite where the numbers are one number other than 0; 0 where all are 0.
    """
    size = np.sqrt(square)
    unit = np.where(size > 0, size, 1.0)
    return _corrected_in_place(mean / unit, cube / (unit * unit * unit), n)


def _corrected_in_place(mean: np.ndarray, cube: np.ndarray, n: int) -> np.ndarray:
    """``corrected_t`` of numbers whose mean square is 1, or that are all 0. Its arguments are overwritten.

    Every number of a family is computed for thousands of sign flips, and new memory would take most of the time.
    """
    spare = mean * mean
    inverse = 1 - spare  # the variance, as the mean square is 1
    one_number = inverse <= LEAST_SPREAD
    any_of_one_number = one_number.any()
    if any_of_one_number:
        signs = np.sign(mean[one_number])
        inverse[one_number] = 1
    np.divide(1, np.sqrt(inverse, out=inverse), out=inverse)  # 1 / deviation
    # A third of the skewness: (cube - 3 mean + 2 mean^3) / (3 deviation^3).
    spare *= 2
    spare -= 3
    spare *= mean
    third = np.add(cube, spare, out=cube)
    third *= inverse
    third *= np.multiply(inverse, inverse, out=spare)
    third /= 3
    size = np.multiply(mean, inverse, out=mean)  # the mean in deviations
    tilt = np.multiply(third, size, out=inverse)
    # sqrt(n) (size (1 + tilt (1 + tilt / 3)) + third / (2 n))
    corrected = np.divide(tilt, 3, out=spare)
    corrected += 1
    corrected *= tilt
    corrected += 1
    corrected *= size
    third /= 2 * n
    corrected += third
    corrected *= np.sqrt(n)
    if any_of_one_number:
        corrected[one_number] = signs * np.inf
    return corrected
