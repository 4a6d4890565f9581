"""How many samples are enough, by a normal model of the paired differences between explainers.

What is told as enough is an upper limit: it comes from the confidence limit of the effect and not from the effect that
was observed, and is below what is needed in 5 % of cases (``docs/claims_agreement.py`` measures it). Subsamples
of the observed samples cannot tell: their size is limited, and they share the errors of the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special  # scipy.stats would take a second to import

from harness.results.ties import differences_on_samples

STAYS = 0.95  # the probability with which the best explainer comes first
LEAST_EFFECT = 1e-6  # smaller effects would need trillions of samples


def enough_samples(values: np.ndarray) -> int | None:
    """An upper limit of the number of samples with which the best explainer comes first with a probability of 0.95.

    ``values`` (n, E), higher is better. A normal model of the differences between the best and each other explainer,
    each with the lower confidence limit of its effect; the limits of all pairs of explainers hold at once with a
    confidence of 95 % (Bonferroni), so that it does not matter that these samples chose the best. The probabilities
    that one comes before the best are added up. None where the limit of an effect is not above 0: then these samples
    do not show which explainer is the best, and no limit can be given. At least 2.
    """
    values = np.asarray(values, dtype=np.float64)
    n, count = values.shape if values.ndim == 2 else (0, 0)
    if n < 2 or count < 2:
        return None
    best = values.mean(0).argmax()
    differences = differences_on_samples(values[:, [best]], np.delete(values, best, axis=1)).T
    alpha = (1 - STAYS) / (count * (count - 1) / 2)
    if not min(map(_effect, differences)) * np.sqrt(n) > _upper_t(alpha / 2, n - 1):
        return None
    least = np.array([effect_limits(each, alpha=alpha)[0] for each in differences])
    if not (least > LEAST_EFFECT).all():
        return None
    return _smallest(lambda samples: special.ndtr(-least * np.sqrt(samples)).sum() <= 1 - STAYS)


def _effect(differences: np.ndarray) -> float:
    """Mean over standard deviation of differences (n,); infinite, or 0, where they do not vary."""
    spread, mean = differences.std(ddof=1) if np.ptp(differences) > 0 else 0.0, differences.mean()
    return float(mean / spread) if spread > 0 else (0.0 if mean == 0 else float(np.copysign(np.inf, mean)))


def effect_limits(differences: np.ndarray, *, alpha: float = 0.05) -> tuple[float, float]:
    """Confidence limits of the effect of differences (n,), their mean in standard deviations: it is below the first
    with a probability of ``alpha`` / 2, and above the second with the same.

    The wider of two limits: that for normal differences, and the effect less (plus) Student's t times its jackknife
    standard error, which grows where the differences have a long tail. Differences without spread do not limit their
    effect beyond its sign.
    """
    n, effect = len(differences), _effect(differences)
    if not np.isfinite(effect):
        return (0.0, float("inf")) if effect > 0 else (float("-inf"), 0.0)
    low, high = normal_limits(effect, n, alpha=alpha)
    reach = _upper_t(alpha / 2, n - 1) * _jackknife_error(differences) if n > 2 and np.ptp(differences) > 0 else 0.0
    return min(low, effect - reach), max(high, effect + reach)


def _jackknife_error(differences: np.ndarray) -> float:
    """The standard error of the effect of differences (n,), n > 2; infinite where all but one of them are equal."""
    n, centred = len(differences), differences - differences.mean()
    means = differences.mean() - centred / (n - 1)  # of all but one
    squares = (centred**2).sum() - centred**2 * n / (n - 1)
    if not squares.min() > 1e-12 * (centred**2).sum():
        return float("inf")
    effects = means / np.sqrt(squares / (n - 2))
    return float(np.sqrt((n - 1) * effects.var()))


def normal_limits(effect: float, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Confidence limits of an effect observed in n normal differences, as in ``effect_limits``: exact, by the
    noncentral t distribution (Steiger and Fouladi 1997)."""
    from scipy import optimize  # half a second, and many tables have nothing to limit

    observed = effect * np.sqrt(n)
    around = observed + np.array([-1, 1]) * (10 + 10 * abs(observed) / np.sqrt(n - 1) + _upper_t(alpha / 2, n - 1))
    ends = [
        optimize.brentq(lambda shift, share=share: _cdf(observed, n - 1, shift) - share, *around)
        for share in (1 - alpha / 2, alpha / 2)
    ]
    return float(ends[0] / np.sqrt(n)), float(ends[1] / np.sqrt(n))


def _upper_t(alpha: float, freedom: int) -> float:
    """What Student's t exceeds with a probability of ``alpha``."""
    return float(-special.stdtrit(freedom, alpha))


def _cdf(value: float, freedom: int, shift: float) -> float:
    """Noncentral t's distribution function; far from its mean it is 0 or 1, where the series does not converge."""
    found = special.nctdtr(freedom, shift, value)
    return float(found) if np.isfinite(found) else float(value > shift)


@dataclass(frozen=True)
class NeededSamples:
    """How many samples a test needs to show a difference, by what some samples say about it.

    about   by the observed effect
    low     by the upper confidence limit of the effect
    high    by its lower limit: it is enough with the stated confidence, and infinite where the effect may be 0
    """

    about: float
    low: float
    high: float


def samples_range(
    differences: np.ndarray, *, critical: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> NeededSamples:
    """The numbers of samples that show a difference, by the paired differences (n,) of some samples.

    From the confidence limits of the effect: ``high`` is below what is needed, and ``low`` above it, with a probability
    of ``alpha`` each. ``critical`` is the two-sided critical value of Student's t of these n samples, by default that
    of one test at ``alpha``. The larger one of a family of pairs (``Family.critical_t``) also widens the range, so that
    it holds for all pairs of the family at once. Numbers with which a flip test cannot reach its level are not given.
    """
    differences = np.asarray(differences, dtype=np.float64)
    differences = differences * (-1 if differences.mean() < 0 else 1)
    alpha = alpha if critical is None else float(2 * special.stdtr(len(differences) - 1, -critical))
    least, most = effect_limits(differences, alpha=2 * alpha)
    flips = float(np.ceil(1 - np.log2(alpha)))
    about, low, high = (
        max(samples_needed(max(0.0, each), alpha=alpha, power=power), flips)
        for each in (_effect(differences), most, least)
    )
    return NeededSamples(about, low, high)


def samples_needed(effect: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The number of samples that a paired two-sided t-test needs to find ``effect`` standard deviations with ``power``.

    Infinite for less than a millionth of one. By the noncentral t distribution, exact for normal differences.
    """
    effect = abs(effect)
    if not effect > LEAST_EFFECT:
        return float("inf")
    if np.isinf(effect):
        return 2.0
    return float(_smallest(lambda n: _power_of_test(effect, n, alpha) >= power))


def _smallest(holds: Callable[[int], bool]) -> int:
    """The smallest whole number from 2 on for which something holds that holds for all larger ones."""
    low, high = 2, 2
    while not holds(high):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _power_of_test(effect: float, n: int, alpha: float) -> float:
    critical, shift = _upper_t(alpha / 2, n - 1), effect * np.sqrt(n)
    return 1 - _cdf(critical, n - 1, shift) + _cdf(-critical, n - 1, shift)
