"""The beam search of anchors: rules that grow predicate by predicate, for many samples side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from harness.explainers._kl_lucb import Arm, Draw, best_arms, compare_with
from harness.explainers._predicates import Predicate
from harness.option_types import Count, InnerShare, Range


@dataclass(frozen=True)
class WantedRule:
    """Options of the search for a rule.

    precision   least precision of an anchor, in (0, 1)
    delta       probability that a bound fails: that an anchor is less precise, or that a better rule was dropped
    gap         how much less precise than the best rule a rule of the beam may be, in (0, 1)
    beam        number of rules of each size that are extended
    conditions  largest number of conditions of a rule
    samples     evaluations per sample for choosing the beams; verifying the rules takes more
    """

    precision: InnerShare = 0.95
    delta: InnerShare = 0.1
    gap: InnerShare = 0.15
    beam: Annotated[int, Range(1, 1000)] = 2
    conditions: Annotated[int, Range(1, 1000)] = 6
    samples: Count = 50_000

    def delta_of(self, search: "RuleSearch") -> float:
        """The share of ``delta`` for each rule of a beam, so that it holds for all of them together."""
        return self.delta / (1 + (self.beam - 1) * len(search.predicates))


@dataclass
class RuleSearch:
    """The search for one sample: an arm's ``rule`` is a tuple of predicates in the order in which they joined.

    sample      the number of the sample in the batch
    predicates  all predicates that it meets
    empty       the rule without conditions
    beam        rules to extend next
    parents     the rule that each one extends
    compared    all rules that were verified
    anchor      the best anchor so far
    """

    sample: int
    predicates: Sequence[Predicate]
    empty: Arm
    beam: list[Arm] = field(init=False)
    parents: dict[Arm, Arm] = field(default_factory=dict, init=False)
    compared: list[Arm] = field(default_factory=list, init=False)
    anchor: Arm | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.beam = [self.empty]

    def grow(self) -> list[Arm]:
        """The rules of the beam with one predicate more, if they cover more rows than the anchor found so far.

        Those that cover more come first: of equally precise ones they are taken.
        """
        known, found = set(), []
        least = -1.0 if self.anchor is None else self.coverage(self.anchor)
        for parent in self.beam:
            sides, met = {each.side for each in parent.rule}, self._met(parent)
            for each in self.predicates:
                rule = frozenset((*map(id, parent.rule), id(each)))
                if each.side in sides or rule in known or (met & each.met).mean() <= least:
                    continue
                known.add(rule)
                found.append(Arm(self.sample, (*parent.rule, each)))
                self.parents[found[-1]] = parent
        return sorted(found, key=self.coverage, reverse=True)

    def coverage(self, arm: Arm) -> float:
        """The share of the background rows that meet a rule."""
        return float(self._met(arm).mean())

    def choose(self, precision: float) -> None:
        """Take the rule of the beam of the largest coverage for the anchor, if it covers more than the last one."""
        self.compared += self.beam
        for arm in self.beam:
            covers_more = self.anchor is None or self.coverage(arm) > self.coverage(self.anchor)
            if arm.lower > precision and covers_more:
                self.anchor = arm

    @property
    def best(self) -> Arm:
        """The anchor; where none was found the most precise rule, and without predicates the empty one."""
        return self.anchor or max(self.compared, key=lambda arm: arm.rate, default=self.empty)

    @property
    def steps(self) -> list[Arm]:
        """The rules from the empty one to the best, each with one predicate more than the one before."""
        found = [self.best]
        while found[-1] in self.parents:
            found.append(self.parents[found[-1]])
        return found[::-1]

    def _met(self, arm: Arm) -> np.ndarray:
        every = np.ones(len(self.predicates[0].met), dtype=bool) if self.predicates else np.ones(1, dtype=bool)
        return np.logical_and.reduce([every, *(each.met for each in arm.rule)])


def search_rules(searches: Sequence[RuleSearch], wanted: WantedRule, draw: Draw) -> None:
    """Search for the anchor of each sample among rules of one condition, then of two, and so on."""
    growing, budget = list(searches), wanted.samples // wanted.conditions
    for _ in range(wanted.conditions):
        grown = [(search, arms) for search in growing if (arms := search.grow())]
        growing = [search for search, _ in grown]
        beams = best_arms([arms for _, arms in grown], wanted.beam, wanted.gap, wanted.delta, budget, draw)
        for search, beam in zip(growing, beams, strict=True):
            search.beam = beam
        arms = [arm for search in growing for arm in search.beam]
        deltas = [wanted.delta_of(search) for search in growing for _ in search.beam]
        compare_with(wanted.precision, arms, deltas, draw)
        for search in growing:
            search.choose(wanted.precision)
