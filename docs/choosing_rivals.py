"""Other ways to choose, for comparison with ``harness choose``: on the scores of the whole grid, at their own cost."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05
FIRST_ROUND = 8


@dataclass(frozen=True)
class Grid:
    """The scores (n, K) of all explainers on all samples, and what explaining and scoring one sample takes (K,)."""

    names: list[str]
    scores: np.ndarray
    prices: np.ndarray

    @property
    def cost(self) -> float:
        """Evaluations of the whole grid."""
        return float(self.prices.sum() * len(self.scores))


@dataclass(frozen=True)
class Found:
    """The explainers that a way to choose leaves, and the evaluations that it took."""

    left: list[str]
    evaluations: float


def fixed_grid(grid: Grid) -> Found:
    """Measure everything; leave out what a paired t-test shows to be worse than the best mean (Holm, one-sided)."""
    best = int(grid.scores.mean(0).argmax())
    p = np.array([_worse(grid.scores[:, each], grid.scores[:, best]) for each in range(len(grid.names))])
    p[best] = 1.0
    order = np.argsort(p)
    shown = p[order] <= ALPHA / np.arange(len(p) - 1, -1, -1).clip(1)
    dropped = order[: len(p) if shown.all() else int(np.argmin(shown))]
    return Found([name for place, name in enumerate(grid.names) if place not in set(dropped)], grid.cost)


def naive_peeking(grid: Grid, *, every_sample: bool = False) -> Found:
    """Race in growing rounds; drop whoever an uncorrected t-test at 5 % shows to be worse than the leader."""
    left, spent, start = list(range(len(grid.names))), 0.0, 0
    for end, after in peeking(grid.scores, range(FIRST_ROUND, len(grid.scores) + 1) if every_sample else None):
        spent += grid.prices[left].sum() * (end - start)
        start, left = end, after
        if len(left) == 1:
            break
    return Found([grid.names[each] for each in left], spent)


def peeking(scores: np.ndarray, ends: Iterable[int] | None = None) -> Iterator[tuple[int, list[int]]]:
    """After each number of samples in ``ends``, by default those of ``rounds``: that number, and the columns of
    ``scores`` (n, K) that an uncorrected one-sided t-test at 5 % against the leader leaves."""
    left = list(range(scores.shape[1]))
    for end in rounds(len(scores)) if ends is None else ends:
        seen = scores[:end]
        best = max(left, key=lambda each, seen=seen: seen[:, each].mean())
        left = [each for each in left if each == best or _worse(seen[:, each], seen[:, best]) > ALPHA]
        yield end, left


def successive_halving(grid: Grid) -> Found:
    """Keep the better half by the mean, on twice the samples each time, without a test; one is left."""
    left, spent, start = list(range(len(grid.names))), 0.0, 0
    halvings = max(1, int(np.ceil(np.log2(len(left)))))
    for rung in range(halvings):
        end = max(FIRST_ROUND, len(grid.scores) >> (halvings - 1 - rung))
        spent += grid.prices[left].sum() * (end - start)
        start = end
        left = sorted(left, key=lambda each, end=end: -grid.scores[:end, each].mean())[: -(-len(left) // 2)]
    return Found([grid.names[left[0]]], spent)


RIVALS: dict[str, Callable[[Grid], Found]] = {
    "fixed grid, Holm": fixed_grid,
    "peeking every round": naive_peeking,
    "peeking every sample": lambda grid: naive_peeking(grid, every_sample=True),
    "successive halving": successive_halving,
}


def rounds(count: int) -> list[int]:
    """The numbers of samples after which a race looks: those of ``harness choose``."""
    ends, end = [], FIRST_ROUND
    while end < count:
        ends.append(end)
        end += max(FIRST_ROUND, end // 2)
    return [*ends, count]


def _worse(own: np.ndarray, best: np.ndarray) -> float:
    """The one-sided p-value of the paired t-test that the first is worse; 1 where all differences are equal or none."""
    differences = best - own
    if not np.ptp(differences) > 0:
        return 0.0 if differences.mean() > 1e-9 else 1.0
    return float(stats.ttest_1samp(differences, 0, alternative="greater").pvalue)
