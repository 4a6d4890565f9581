"""Bets against candidates: wealth that grows while a candidate is worse than its opponents, and rarely otherwise.

At each sample money is bet on the opponent having the higher score. If the candidate's mean is at least as high as that
of every opponent, wealth is a nonnegative supermartingale, whoever the opponents are, as long as each is named before
its sample is seen. So it ever reaches 1/a with a probability of at most a (Ville 1939), however often one looks.
"""

import numpy as np

from harness.errors import UserError

MOST = 0.95  # of the wealth is the largest bet: a single loss does not ruin it
PRIOR_VARIANCE = 0.25  # of differences in [-1, 1], before any has been seen; it counts as one difference
OUTSIDE = 1e-6  # relative to the range: scores that leave it by less are rounded
MOST_LOG = 690.0  # wealth is told up to e^690


class BoundedBets:
    """Bets on differences in [-1, 1], one column for each candidate: wealth times 1 + lambda d at each sample.

    lambda is nearly the best for the differences seen so far (approximate growth-rate adaptive betting: Waudby-Smith
    and Ramdas 2023, 2010.09686): their mean over their mean square, from 0 to MOST. Nothing is assumed of the
    differences but their limits.
    """

    def __init__(self, count: int) -> None:
        self.log_wealth = np.zeros(count)
        self.seen, self.sums, self.squares = np.zeros(count), np.zeros(count), np.zeros(count)

    def bet(self, who: np.ndarray | slice, differences: np.ndarray) -> None:
        """Bet against the candidates ``who`` (n,), whose opponents score higher by ``differences`` (n,)."""
        n = self.seen[who] + 1
        mean = self.sums[who] / n
        square = (PRIOR_VARIANCE + self.squares[who]) / n  # the mean square: variance plus squared mean
        self.log_wealth[who] += np.log1p(np.clip(mean / square, 0, MOST) * differences)
        self.seen[who] = n
        self.sums[who] += differences
        self.squares[who] += differences**2


class SymmetricBets:
    """Bets on differences without limits: wealth times exp(l d) / cosh(l d) at each sample.

    Valid where differences are symmetric about a number of at most 0, given those before. Scores times any number give
    the same wealth.
    """

    def __init__(self, count: int) -> None:
        self.log_wealth = np.zeros(count)
        self.sums, self.squares = np.zeros(count), np.zeros(count)
        self.scale = np.zeros(count)  # the largest difference so far, to which sums and squares are relative

    def bet(self, who: np.ndarray | slice, differences: np.ndarray) -> None:
        """Bet against the candidates ``who`` (n,), whose opponents score higher by ``differences`` (n,)."""
        scale, squares = self.scale[who], self.squares[who]
        known = (scale > 0) & (squares > 0)
        slope = np.where(known, np.clip(self.sums[who], 0, None) / np.where(known, squares, 1), 0)
        with np.errstate(over="ignore"):
            steps = np.clip(slope * differences / np.where(known, scale, 1), -350, 350)
        size = np.abs(steps)
        self.log_wealth[who] += steps - (size + np.log1p(np.exp(-2 * size)) - np.log(2))
        larger = np.maximum(scale, np.abs(differences))
        safe = np.where(larger > 0, larger, 1)
        shrink, relative = scale / safe, differences / safe
        self.sums[who] = self.sums[who] * shrink + relative
        self.squares[who] = squares * shrink**2 + relative**2
        self.scale[who] = larger


def within(limits: tuple[float, float], scores: np.ndarray, name: str) -> np.ndarray:
    """Scores of ``name`` without what rounding adds beyond the limits; UserError if they leave them by more."""
    low, high = limits
    slack = OUTSIDE * (high - low)
    if len(scores) and (scores.min() < low - slack or scores.max() > high + slack):
        raise UserError(
            f"scores of {name} reach from {scores.min():.4g} to {scores.max():.4g}, expected {low:g} to {high:g}"
        )
    return np.clip(scores, low, high)


def rejected(log_wealth: np.ndarray, alpha: float) -> np.ndarray:
    """Which candidates (K,) bool are shown not to be the best, with a probability of any mistake of at most ``alpha``.

    Closed testing with means of e-values (Vovk and Wang 2021, 1912.06116): a candidate is rejected if, together with
    any set of the others, the mean of their wealth is at least 1 / alpha. The worst sets hold the poorest others.
    """
    wealth = np.exp(np.clip(log_wealth, -MOST_LOG, MOST_LOG))
    order = np.argsort(wealth, kind="stable")
    sizes = np.arange(1, len(wealth) + 1)
    found = np.zeros(len(wealth), dtype=bool)
    for each in range(len(wealth)):
        others = wealth[order[order != each]]
        means = (wealth[each] + np.concatenate([[0.0], np.cumsum(others)])) / sizes
        found[each] = means.min() >= 1 / alpha
    return found
