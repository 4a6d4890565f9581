"""The race as it is measured: growing rounds of samples, dear explainers that enter late, and what ends it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from harness.choosing.candidates import Candidate
from harness.choosing.headline import Headline
from harness.choosing.measuring import Measured, Measuring, Part
from harness.choosing.race import Race

FIRST_ROUND = 8  # samples; each round has as many as all before it
FIRST_ENTRY = 2  # the round after which dear explainers enter
ALIKE = 16  # samples on which two explainers must have the same scores for one to stand for both
SAME = 1e-6  # relative: scores that differ by less are the same
RESERVE = 0.35  # the share of the budget that is kept for tuning and confirmation


@dataclass
class Course:
    """How the race went.

    scores     samples of the race x explainers, NaN where an explainer was not measured
    table      a row for each look and explainer: ``Race.table``
    left       explainer -> why it left the race: dropped, failed, equal to another, or the budget
    ended      why the race ended
    """

    scores: pd.DataFrame
    table: pd.DataFrame
    left: dict[str, str]
    remaining: list[str]
    ended: str = ""


@dataclass
class Rounds:
    """Runs the race of the candidates on the samples ``rows``.

    audit    measures a dear candidate for the first time, before it enters
    per_one  seconds and evaluations that scoring one sample of one explainer takes
    """

    measuring: Measuring
    headline: Headline
    rows: Sequence[int]
    candidates: dict[str, Candidate]
    late: list[str]
    audit: Callable[[Candidate], None]
    per_one: tuple[float, float]
    seconds_per_pass: float
    alpha: float
    say: Callable[[str], None]
    left: dict[str, str] = field(default_factory=dict)

    def run(self) -> Course:
        """Play rounds until one explainer is left, or samples or the budget are used up."""
        early = [name for name in self.candidates if name not in self.late]
        self.race = Race([*early, *self.late], bounds=self.headline.bounds, alpha=self.alpha, late=self.late)
        self.parts = self._parts()
        self.scores = pd.DataFrame(index=range(len(self.rows)), columns=[*early, *self.late], dtype=float)
        self.tables: dict[int, pd.DataFrame] = {}
        ended = "all samples of the race are used"
        for number, part in enumerate(self.parts):
            if not self._affordable(part, self.race.taking_part):
                ended = "the budget does not suffice for another round"
                break
            self._play(part)
            names = ", ".join(self._look(number)) or "none"
            seen, there = sum(self.race.blocks), len(self.race.taking_part)
            self.say(f"round {number + 1}, {seen} samples: {there} explainers left; dropped: {names}")
            if number + 1 >= FIRST_ENTRY:
                self._let_enter(number)
            if self._decided():
                ended = "one explainer is left"
                break
        self._leave_out_those_that_never_entered()
        table = pd.concat(self.tables.values(), ignore_index=True) if self.tables else pd.DataFrame()
        return Course(self.scores, table, self.left, list(self.race.taking_part), ended)

    def _parts(self) -> list[Part]:
        """The samples of each round."""
        parts, start, size = [], 0, FIRST_ROUND
        while start < len(self.rows):
            end = min(start + size, len(self.rows))
            if len(self.rows) - end < FIRST_ROUND // 2:  # a rest too small for a round of its own
                end = len(self.rows)
            parts.append(Part(f"race {start + 1}-{end}", tuple(self.rows[start:end])))
            start, size = end, end
        return parts

    def _play(self, part: Part) -> None:
        """Measure all that take part on the samples of a round, and let them bet."""
        names = list(self.race.taking_part)
        # Together, so that what no attribution decides is evaluated once for all.
        chosen = [self.candidates[name].chosen for name in names]
        measured = self.measuring.measure(part, chosen, self.headline.metrics)
        found = {name: self._scores_in(measured, name, part) for name in names}
        for name in names:
            if found[name] is None:
                self.race.withdraw(name)
        self.race.play({name: found[name] for name in self.race.taking_part})

    def _scores_in(self, measured: Measured, name: str, part: Part) -> np.ndarray | None:
        """An explainer's scores on the samples of a round; None, with the reason noted, if it has none."""
        scores = self.headline.scores(measured, name)
        if scores is None or not np.isfinite(scores).all():
            lacking = 0 if scores is None else int((~np.isfinite(scores)).sum())
            self.left[name] = measured.problem_of(name) or f"{lacking} samples have no score"
            self.say(f"{'':>9}{name} leaves the race: {self.left[name]}")
            return None
        self.scores.loc[self._places(part), name] = scores
        return scores

    def _places(self, part: Part) -> list[int]:
        first = list(self.rows).index(part.rows[0])
        return list(range(first, first + len(part)))

    def _look(self, number: int) -> list[str]:
        """Drop those that are shown to be worse, and those that another one stands for; the names of the former."""
        dropped = self.race.drop()
        for drop in dropped:
            self.left[drop.name] = f"worse than {drop.by} by {drop.difference:.2g} after {drop.samples} samples"
        self._merge_equal()
        self.tables[number] = pd.DataFrame(self.race.table()).assign(round=number + 1)
        return [each.name for each in dropped]

    def _merge_equal(self) -> None:
        """Of explainers whose scores are the same on all samples so far, the cheapest stands for all."""
        names = sorted(self.race.taking_part, key=lambda name: _cheapness(self.candidates[name]))
        for place, name in enumerate(names):
            own = self.scores[name].dropna().to_numpy()
            for other in names[:place]:
                its = self.scores[other].dropna().to_numpy()
                if other in self.left or len(own) < ALIKE or len(own) != len(its):
                    continue
                if (np.abs(own - its) <= SAME * np.maximum(np.abs(own), np.abs(its)) + 1e-12).all():
                    self.left[name] = f"scores the same as {other} on all {len(own)} samples, which stands for both"
                    self.race.withdraw(name)
                    break

    def _let_enter(self, number: int) -> None:
        """Let dear explainers enter, the cheapest first, as long as the budget suffices; they catch up at once."""
        replayed = number + 1 < len(self.parts) and self._known(self.parts[number + 1])
        for name in [each for each in self.late if each not in self.left]:
            entry = self.measuring.keeper.noted(f"entered {name}")
            if entry is None and (replayed or not self._can_enter(name, number)):
                continue
            if entry not in (None, number):
                continue
            self.measuring.keeper.note(f"entered {name}", number)
            self._enter(name, number)

    def _enter(self, name: str, number: int) -> None:
        candidate = self.candidates[name]
        self.late = [each for each in self.late if each != name]
        self.audit(candidate)
        if not candidate.takes_part:
            self.left[name] = candidate.reason
            self.race.withdraw(name)
            return
        self.say(f"{'':>9}{name} enters")
        for part in self.parts[: number + 1]:
            scores = None
            if self._affordable(part, [name]):
                measured = self.measuring.measure(part, [candidate.chosen], self.headline.metrics)
                scores = self._scores_in(measured, name, part)
            if scores is None:
                self.left.setdefault(name, "the budget did not suffice to catch up with the others")
                self.race.withdraw(name)
                return
            self.race.catch_up(name, scores)
            self._look(number)
            if name in self.left:
                return

    def _known(self, part: Part) -> bool:
        """Whether an earlier process has measured a round."""
        leader = self.race.leader
        return leader is not None and self.measuring.knows(part, self.candidates[leader].chosen, self.headline.metrics)

    def _can_enter(self, name: str, number: int) -> bool:
        """Whether the budget suffices for a first measurement and the first two rounds of a dear explainer."""
        candidate = self.candidates[name]
        samples = sum(len(part) for part in self.parts[:2]) + FIRST_ROUND
        seconds = (candidate.estimate * self.seconds_per_pass + self.per_one[0]) * samples
        evaluations = (candidate.estimate + self.per_one[1]) * samples
        return self.measuring.share_of_budget(seconds, evaluations) <= self.measuring.left - RESERVE

    def _affordable(self, part: Part, names: Sequence[str]) -> bool:
        """Whether the budget suffices for what is not known yet of these explainers on a part."""
        unknown = [
            self.candidates[name]
            for name in names
            if not self.measuring.knows(part, self.candidates[name].chosen, self.headline.metrics)
        ]
        if not unknown:
            return True
        seconds = sum(_known_or(each.seconds, 0.0) + self.per_one[0] for each in unknown) * len(part)
        evaluations = sum(_known_or(each.evaluations, each.estimate) + self.per_one[1] for each in unknown) * len(part)
        return self.measuring.share_of_budget(seconds, evaluations) <= self.measuring.left - RESERVE

    def _decided(self) -> bool:
        """Whether one explainer is left, and nobody can enter any more."""
        return len(self.race.taking_part) < 2 and not [name for name in self.late if name not in self.left]

    def _leave_out_those_that_never_entered(self) -> None:
        for name in self.late:
            self.left.setdefault(name, "not measured: it is dear, and the budget or the samples did not suffice")


def _cheapness(candidate: Candidate) -> tuple[float, str]:
    return _known_or(candidate.seconds, float("inf")), candidate.label


def _known_or(value: float, otherwise: float) -> float:
    return float(value) if np.isfinite(value) else otherwise
