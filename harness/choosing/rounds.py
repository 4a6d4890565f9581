"""The race as it is measured: growing rounds of samples, dear explainers that enter late, and what ends it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from harness.choosing.candidates import Candidate, why_no_score
from harness.choosing.headline import Headline
from harness.choosing.measuring import Measured, Measuring, Part
from harness.choosing.prices import Prices
from harness.choosing.race import Drop, Race
from harness.choosing.split import FIRST_ROUND
from harness.results.ties import differences_on_samples

LEAST_WITH_DEAR = 48  # samples up to which the race goes on where a dear explainer has entered
LEAST_TO_JUDGE = 24  # samples after which a race that will not decide anything more is ended
ALIKE = 16  # samples on which two explainers must have the same scores for one to stand for both
NOT_MEASURED = "not measured: it is dear, and the budget did not suffice"
RESERVE = 0.35  # the share of the budget that is kept for tuning and confirmation


@dataclass
class Course:
    """How the race went.

    scores     samples of the race x explainers, NaN where an explainer was not measured
    table      a row for each look and explainer: ``Race.table``
    left       explainer -> why it left the race: dropped, failed, equal to another, or the budget
    remaining  those that are left, with scores on all samples of the race
    unmeasured those that entered too late for the budget, of which nothing is known
    worse      explainer -> the one that it was shown to be worse than
    partly     those that are left, but came late, and have scores on some of the samples only
    alike      explainer -> the one with the same scores, that goes on for both
    raced      the number of samples of the rounds that were played
    ended      why the race ended
    """

    scores: pd.DataFrame
    table: pd.DataFrame
    left: dict[str, str]
    remaining: list[str]
    unmeasured: list[str] = field(default_factory=list)
    worse: dict[str, str] = field(default_factory=dict)
    partly: list[str] = field(default_factory=list)
    alike: dict[str, str] = field(default_factory=dict)
    raced: int = 0
    ended: str = ""

    @property
    def droppers(self) -> set[str]:
        """Those that others were shown to be worse than."""
        return set(self.worse.values())


@dataclass
class Rounds:
    """Runs the race of the candidates on the samples ``rows``.

    late     the dear ones, which enter when the others have raced, so that they race among few
    audit    measures a dear candidate for the first time, before it enters
    enough   the number of explainers at which the race of the others ends: all of them can be confirmed
    """

    measuring: Measuring
    headline: Headline
    rows: Sequence[int]
    candidates: dict[str, Candidate]
    late: list[str]
    audit: Callable[[Candidate], None]
    prices: Prices
    alpha: float
    enough: int
    say: Callable[[str], None]

    def run(self) -> Course:
        """Play rounds until so few are left that all can be confirmed, or samples or the budget are used up.

        If an explainer that others were dropped for turns out to lack a score, the race is run again without it.
        """
        without: dict[str, str] = {}
        while True:
            course = self._one_race(without)
            lacking = {name: why for name, why in self.failed.items() if name in course.droppers}
            if not lacking:
                return course
            self.say(f"the race is run again without {', '.join(lacking)}, for which others were dropped")
            without |= lacking

    def _one_race(self, without: Mapping[str, str]) -> Course:
        self.left, self.failed, self.worse, self.alike = dict(without), {}, {}, {}
        self.unmeasured, self.partly = [], []
        self.waiting = [name for name in self.late if name not in without]
        early = [name for name in self.candidates if name not in (*self.late, *without)]
        names = [*early, *self.waiting]
        self.race = Race(names, bounds=self.headline.bounds, alpha=self.alpha, late=self.waiting)
        self.parts = self._parts()
        self.scores = pd.DataFrame(index=range(len(self.rows)), columns=names, dtype=float)
        self.tables: dict[int, pd.DataFrame] = {}
        self.defined: dict[str, np.ndarray] = {}  # part -> its samples that have a score at all
        ended = self._play_until(self._why_end)
        self.say(f"race ends: {ended}")
        self._let_dear_enter()
        if any(self.candidates[name].dear for name in self.race.taking_part):
            self._play_until(self._why_end_with_dear)
        table = pd.concat(self.tables.values(), ignore_index=True) if self.tables else pd.DataFrame()
        remaining = list(self.race.taking_part)
        raced = sum(map(len, self.parts[: len(self.race.blocks)]))
        return Course(
            self.scores,
            table,
            self.left,
            remaining,
            self.unmeasured,
            self.worse,
            self.partly,
            self.alike,
            raced,
            ended,
        )

    def _play_until(self, why_end: Callable[[], str]) -> str:
        """Play rounds until there is a reason to end, which is returned."""
        for number in range(len(self.race.blocks), len(self.parts)):
            if reason := self._why_end_before(number) or why_end():
                return reason
            self._play(self.parts[number])
            names = ", ".join(self._look()) or "none"
            seen, there = sum(self.race.blocks), len(self.race.taking_part)
            self.say(f"round {number + 1}, {seen} samples: {there} explainers left; dropped: {names}")
        return why_end() or "all samples of the race are used"

    def _parts(self) -> list[Part]:
        """The samples of each round."""
        parts, start, size = [], 0, FIRST_ROUND
        while start < len(self.rows):
            end = min(start + size, len(self.rows))
            if len(self.rows) - end < FIRST_ROUND // 2:  # a rest too small for a round of its own
                end = len(self.rows)
            parts.append(Part(f"race {start + 1}-{end}", tuple(self.rows[start:end])))
            start, size = end, max(FIRST_ROUND, end // 2)
        return parts

    def _play(self, part: Part) -> None:
        """Measure all that take part on the samples of a round, and let them bet."""
        names = list(self.race.taking_part)
        # Together, so that what no attribution decides is evaluated once for all.
        chosen = [self.candidates[name].chosen for name in names]
        measured = self.measuring.measure(part, chosen, self.headline.metrics)
        self.defined[part.name] = self.headline.defined(measured)
        found = {name: self._scores_in(measured, name, part) for name in names}
        for name in names:
            if found[name] is None:
                self.race.withdraw(name)
        if self.race.taking_part:  # none is left where the model itself gives no numbers for these samples
            self.race.play({name: found[name] for name in self.race.taking_part})

    def _scores_in(self, measured: Measured, name: str, part: Part) -> np.ndarray | None:
        """An explainer's scores on the samples of a round; None, with the reason noted, if it has none."""
        defined = self.defined[part.name]
        scores = self.headline.whole_scores(measured, name, defined)
        if scores is None:
            self.left[name] = self.failed[name] = why_no_score(measured, name, self.headline.scores(measured, name))
            self.say(f"{'':>9}{name} leaves the race: {self.left[name]}")
            return None
        self.scores.loc[np.array(self._places(part))[defined], name] = scores
        return scores

    def _places(self, part: Part) -> list[int]:
        first = list(self.rows).index(part.rows[0])
        return list(range(first, first + len(part)))

    def _look(self) -> list[str]:
        """Drop those that are shown to be worse, and those that another one stands for; the names of the former."""
        dropped = self.race.drop()
        self._note_drops(dropped)
        self._after_look()
        return [each.name for each in dropped]

    def _note_drops(self, drops: Sequence[Drop]) -> None:
        for drop in drops:
            self.left[drop.name] = f"worse than {drop.by} by {drop.difference:.2g} after {drop.samples} samples"
            self.worse[drop.name] = drop.by

    def _after_look(self) -> None:
        """Of equal ones one goes on; the table of this round is made, or made anew."""
        self._merge_equal()
        number = len(self.race.blocks)
        self.tables[number] = pd.DataFrame(self.race.table()).assign(round=number)

    def _merge_equal(self) -> None:
        """Of explainers whose scores are the same on all samples so far, the cheapest stands for all."""
        names = sorted(self.race.taking_part, key=lambda name: _cheapness(self.candidates[name]))
        for place, name in enumerate(names):
            own = self.scores[name].dropna().to_numpy()
            for other in names[:place]:
                its = self.scores[other].dropna().to_numpy()
                if other in self.left or len(own) < ALIKE or len(own) != len(its):
                    continue
                if not differences_on_samples(own, its).any():
                    self.left[name] = f"scores the same as {other} on all {len(own)} samples, which stands for both"
                    self.alike[name] = other
                    self.race.withdraw(name)
                    break

    def _let_dear_enter(self) -> None:
        """Let dear explainers enter, the cheapest first, as far as the budget suffices; they catch up at once."""
        for name in self.waiting:
            if self.race.blocks and self._can_enter(name):
                self._enter(name)
            else:
                self._leave_unmeasured(name)

    def _leave_unmeasured(self, name: str) -> None:
        self.left[name] = NOT_MEASURED
        self.unmeasured.append(name)

    def _enter(self, name: str) -> None:
        candidate = self.candidates[name]
        self.audit(candidate)
        if not candidate.takes_part:
            self.left[name] = candidate.reason
            self.race.withdraw(name)
            return
        if not self._can_enter(name):  # its price is known now
            self._leave_unmeasured(name)
            self.race.withdraw(name)
            return
        self.say(f"{'':>9}{name} enters")
        for place, part in enumerate(self.parts[: len(self.race.blocks)]):
            if not self._affordable(part, [name]):
                self._stop_catching_up(name, place)
                return
            measured = self.measuring.measure(part, [candidate.chosen], self.headline.metrics)
            scores = self._scores_in(measured, name, part)
            if scores is None:
                self.race.withdraw(name)
                return
            self.race.catch_up(name, scores)
            caught_up = place + 1 == len(self.race.blocks)
            self._note_drops(self.race.drop() if caught_up else self.race.drop_late(name))
            if name in self.left:
                break
        self._after_look()

    def _stop_catching_up(self, name: str, blocks: int) -> None:
        """The budget is used up: what has been measured does not show that the explainer is worse, so it is left."""
        self.race.withdraw(name)
        if blocks:
            self.partly.append(name)
        else:
            self._leave_unmeasured(name)

    def _can_enter(self, name: str) -> bool:
        """Whether the budget suffices for a first measurement and the first two rounds of a dear explainer."""
        samples = sum(len(part) for part in self.parts[:2]) + FIRST_ROUND
        return self.prices.affords([self.candidates[name]], samples, kept=RESERVE)

    def _why_end_before(self, number: int) -> str:
        """Why a round cannot be paid for; "" if it can, as the first one always can (``Choosing`` has checked it)."""
        if not number or self._affordable(self.parts[number], self.race.taking_part):
            return ""
        return "the budget does not suffice for another round"

    def _affordable(self, part: Part, names: Sequence[str]) -> bool:
        """Whether the budget suffices for these explainers on a part."""
        return self.prices.affords([self.candidates[name] for name in names], len(part), kept=RESERVE)

    def _own(self) -> list[str]:
        """Those that take part and are no controls."""
        return [name for name in self.race.taking_part if not self.candidates[name].control]

    def _why_end(self) -> str:
        """Why no further round is played; "" if one is."""
        if not self.race.blocks:
            return ""
        own = self._own()
        if len(own) <= self.enough:
            return f"the {len(own)} that are left can be confirmed" if own else "none is left"
        if sum(self.race.blocks) >= LEAST_TO_JUDGE and not set(self.race.foreseen(len(self.rows))) & set(own):
            return "more samples of the race would drop none, if evidence grew as it has"
        return ""

    def _why_end_with_dear(self) -> str:
        """Why no further round is played when dear explainers have entered; "" if one is."""
        dear = [name for name in self._own() if self.candidates[name].dear]
        if not dear:
            return "no dear explainer is left"
        return "dear explainers raced on enough samples" if sum(self.race.blocks) >= LEAST_WITH_DEAR else ""


def _cheapness(candidate: Candidate) -> tuple[float, str]:
    """By what is the same in each run: evaluations, not seconds."""
    known = np.isfinite(candidate.evaluations)
    return (candidate.evaluations if known else float(candidate.estimate)), candidate.label
