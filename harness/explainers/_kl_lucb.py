"""The arms with the highest success rates, found with few draws: KL-LUCB (Kaufmann and Kalyanakrishnan 2013,
http://proceedings.mlr.press/v30/Kaufmann13.html), for the arms of many samples at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

FIRST_DRAWS = 10  # least draws of a new arm
DRAWS = 100  # draws of an arm that is drawn again, and most draws of a new one
UNDECIDED = 0.03  # the distance of bounds from which a rate counts as neither above nor below a level
BOUND_HALVINGS = 25  # bisection steps for a confidence bound


@dataclass(eq=False)
class Arm:
    """Something that succeeds at an unknown rate, with its draws up to now.

    sample  the number of the sample that it belongs to
    rule    what is drawn under: here a tuple of predicates
    lower   lower confidence bound of the rate, set by ``compare_with``
    """

    sample: int
    rule: Any
    drawn: int = 0
    successes: int = 0
    lower: float = field(default=0.0, init=False)

    @property
    def rate(self) -> float:
        """The share of the draws that succeeded; undefined before the first draw."""
        return self.successes / self.drawn


# draw(arms, counts): draws so many times of each arm and adds up what succeeded
Draw = Callable[[Sequence[Arm], Sequence[int]], None]


def best_arms(
    arms: Sequence[Sequence[Arm]], most: int, gap: float, delta: float, budget: int, draw: Draw
) -> list[list[Arm]]:
    """For each sample's arms the ``most`` with the highest rates, the highest first.

    With probability 1 - ``delta`` none of them has a rate more than ``gap`` below the true best ones, unless the arms
    of a sample have used up their ``budget`` of draws before. Up to half of it is spent on all arms alike, at least
    ``FIRST_DRAWS`` and at most ``DRAWS`` on each.
    """
    first = [min(DRAWS, max(FIRST_DRAWS, budget // (2 * len(own)))) for own in arms for _ in own]
    draw([arm for own in arms for arm in own], first)
    open_ = [own for own in arms if len(own) > most]
    for step in count(1):
        open_ = [own for own in open_ if sum(arm.drawn for arm in own) + 2 * DRAWS <= budget]
        doubts = [(own, *doubt) for own, doubt in zip(open_, _doubts(open_, most, delta, step), strict=True)]
        doubts = [each for each in doubts if each[-1] > gap]
        if not doubts:
            return [sorted(own, key=lambda arm: -arm.rate)[:most] for own in arms]
        draw([arm for _, weakest, rival, _ in doubts for arm in (weakest, rival)], [DRAWS] * 2 * len(doubts))
        open_ = [own for own, *_ in doubts]


def _doubts(arms: Sequence[Sequence[Arm]], most: int, delta: float, step: int) -> list[tuple[Arm, Arm, float]]:
    """For each sample: the selected arm with the lowest lower bound, the other arm with the highest upper bound, and
    the difference of the two bounds.
    """
    if not arms:
        return []
    flat = [arm for own in arms for arm in own]
    sizes = [len(own) for own in arms]
    starts = np.cumsum([0, *sizes[:-1]])
    successes, drawn = np.array([(arm.successes, arm.drawn) for arm in flat]).T
    rates = successes / drawn
    leading = np.zeros(len(flat), dtype=bool)
    for start, size in zip(starts, sizes, strict=True):
        leading[start + np.argsort(-rates[start : start + size], kind="stable")[:most]] = True
    bounds = rate_bound(rates, _exploration(np.repeat(sizes, sizes), step, delta) / drawn, ~leading)
    found = []
    for start, size in zip(starts, sizes, strict=True):
        places = np.arange(start, start + size)
        first, others = places[leading[places]], places[~leading[places]]
        weakest, rival = first[bounds[first].argmin()], others[bounds[others].argmax()]
        found.append((flat[weakest], flat[rival], bounds[rival] - bounds[weakest]))
    return found


def _exploration(arms: np.ndarray, step: int, delta: float) -> np.ndarray:
    """The exploration rate of step t among K arms: log(k1 K t^a / delta) and its logarithm, as in the paper's Theorem 1
    with a = 1.1 and k1 = 405.5.
    """
    rate = np.log(405.5 * arms * step**1.1 / delta)
    return rate + np.log(rate)


def compare_with(level: float, arms: Sequence[Arm], deltas: Sequence[float], draw: Draw) -> None:
    """Draw until each arm's rate is above or below ``level`` with probability 1 - delta, or its bounds are at most
    ``UNDECIDED`` apart. Sets ``arm.lower``.
    """
    open_ = list(zip(arms, deltas, strict=True))
    while open_:
        rates, drawn, shares = np.array([(arm.rate, arm.drawn, share) for arm, share in open_]).T
        lower, upper = (rate_bound(rates, -np.log(shares) / drawn, np.full(len(open_), up)) for up in (False, True))
        for (arm, _), bound in zip(open_, lower, strict=True):
            arm.lower = float(bound)
        unsure = (lower <= level) & (upper >= level) & (upper - lower > UNDECIDED)
        open_ = [each for each, doubtful in zip(open_, unsure, strict=True) if doubtful]
        draw([arm for arm, _ in open_], [DRAWS] * len(open_))


def rate_bound(rates: np.ndarray, level: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The rates furthest above (``up``) or below the observed ones whose Kullback-Leibler divergence from these is at
    most ``level``.
    """
    near, far = rates.astype(float), np.where(up, 1.0, 0.0)
    for _ in range(BOUND_HALVINGS):
        middle = (near + far) / 2
        inside = _divergence(rates, middle) <= level
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    return near


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The Kullback-Leibler divergence of Bernoulli distributions with these rates."""
    p, q = np.clip(p, 1e-12, 1 - 1e-12), np.clip(q, 1e-12, 1 - 1e-12)
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
