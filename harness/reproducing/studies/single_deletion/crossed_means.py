"""Means over crossed images and nets with their intervals, and verdicts on several of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

LEVEL = 0.05


@dataclass(frozen=True)
class CrossedMean:
    """A mean over images and nets.

    value   the mean over nets of their means over images
    error   its standard error
    nets    the number of nets
    count   the number of scores that exist
    """

    value: float
    error: float
    nets: int
    count: int

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval that misses the true mean with a probability of at most ``level``."""
        half = student.ppf(1 - level / 2, self.nets - 1) * self.error
        return self.value - half, self.value + half


def crossed_mean(scores: np.ndarray) -> CrossedMean:
    """The mean of scores (images, nets), where all nets see the same images; NaN are left out.

    Both images and nets are drawn. The squared error is the variance of the nets' means over their number, plus that of
    the images' means over theirs. What is left in a single score is counted in both, so that the error is no less than
    the true one. The degrees of freedom are those of the nets, which are fewer.
    """
    scores = np.asarray(scores, dtype=float)
    scores = scores[~np.isnan(scores).all(1)][:, ~np.isnan(scores).all(0)]
    count = int(np.isfinite(scores).sum())
    if not count:
        return CrossedMean(float("nan"), float("nan"), 0, 0)
    by_net, by_image = np.nanmean(scores, 0), np.nanmean(scores, 1)
    if min(scores.shape) < 2:
        return CrossedMean(float(by_net.mean()), float("nan"), len(by_net), count)
    square = by_net.var(ddof=1) / len(by_net) + by_image.var(ddof=1) / len(by_image)
    return CrossedMean(float(by_net.mean()), float(np.sqrt(square)), len(by_net), count)


def all_on_one_side(means: Sequence[CrossedMean], above: bool) -> bool | None:
    """Whether all means are above zero, or all below it.

    True where every mean's interval is on this side: if one true mean were not, this would happen with a probability
    of at most LEVEL / 2, so that nothing has to be corrected. False where one interval, corrected for the number of
    means, is on the other side. None where neither is so.
    """
    sign = 1 if above else -1
    ends = lambda mean, level: sorted(sign * end for end in mean.interval(level))
    if all(ends(mean, LEVEL)[0] > 0 for mean in means):
        return True
    return False if any(ends(mean, LEVEL / len(means))[1] < 0 for mean in means) else None


def lies_within(mean: CrossedMean, centre: float, margin: float) -> bool | None:
    """Whether a mean equals ``centre`` but for the margin: its interval is inside; False where it leaves centre out,
    and None where neither is so or there is no interval."""
    low, high = mean.interval()
    if abs(low - centre) <= margin and abs(high - centre) <= margin:
        return True
    return False if centre < low or centre > high else None


def mean_in_words(mean: CrossedMean) -> str:
    """The mean with its 95 % interval, where more than one net gives it one."""
    low, high = mean.interval()
    return f"{mean.value:+.3f} " + (f"[{low:+.3f}, {high:+.3f}]" if np.isfinite(mean.error) else "[no interval]")


def kept_order(before: Sequence[CrossedMean], after: Sequence[CrossedMean]) -> tuple[bool | None, int, list[int]]:
    """Whether differences that are told from zero before have the same sign after; how many there are; those reversed.

    Differences are told from zero by intervals that are corrected for their number. True where each of them is above
    zero on the same side after, by a one-sided test at LEVEL each: if one were not, all would pass with a probability
    of at most LEVEL. False where one is on the other side, corrected for their number. None where neither is so, or
    where none is told from zero before.
    """
    told = [
        (number, np.sign(each.value))
        for number, each in enumerate(before)
        if np.prod(each.interval(LEVEL / len(before))) > 0
    ]
    reversed_ones = [
        number for number, sign in told if max(sign * end for end in after[number].interval(LEVEL / len(told))) < 0
    ]
    same = all(min(sign * end for end in after[number].interval(2 * LEVEL)) > 0 for number, sign in told)
    return (False if reversed_ones else (True if told and same else None)), len(told), reversed_ones
