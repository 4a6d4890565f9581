"""Chooses an explainer: audit, trust, race, tuning, confirmation, answer. Each step is a module of this folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.choosing.candidates import Candidate, candidates_of
from harness.choosing.choice import Choice
from harness.choosing.confirmation import (
    CHECKED_SAMPLES,
    EXPLANATIONS,
    Conditions,
    Confirmation,
    check_conditions,
    confirm,
)
from harness.choosing.confirmation_plan import affordable_samples, level_of_answer, parts_of_confirmation
from harness.choosing.evidence import Evidence
from harness.choosing.finalists import controls_to_compare, most_confirmed, survivors, worth_confirming
from harness.choosing.first_look import FirstLook
from harness.choosing.headline import STEPS, headline_of
from harness.choosing.learnt import why_not_learnt
from harness.choosing.measuring import Measuring
from harness.choosing.power import Planned
from harness.choosing.prices import Prices, check_budget, seconds_per_pass
from harness.choosing.rounds import Course, Rounds
from harness.choosing.settings import Settings
from harness.choosing.split import Split
from harness.choosing.trust import MetricTrust, trust_metrics
from harness.choosing.tune import LEAST_SAMPLES, Tuning, tune_finalists
from harness.choosing.verdict import Decision, decision_on
from harness.choosing.why_none import why_no_metric, why_nobody_applies, why_none
from harness.engine.selection import Chosen
from harness.engine.stage import Stage

FINALISTS = 3  # explainers whose options are tuned
LEAST_TO_TUNE = 32  # samples of the race, or half of them where they are fewer, on which explainers are tuned
KEPT_WHILE_TUNING = 0.2  # the share of the budget that is kept for the confirmation
MOST_CHECKED = 5  # explainers of which conditions are checked


@dataclass
class Choosing:
    """The steps of one choice on one model and data; ``choose`` takes them all.

    explainers  those that can be chosen, and controls
    say         prints a line of progress
    given       the metric by which the user wants to judge; None for SRG under several baselines
    """

    measuring: Measuring
    explainers: Sequence[Chosen]
    settings: Settings
    say: Callable[[str], None]
    given: Chosen | None = None
    looked: FirstLook | None = None
    trust: MetricTrust | None = None
    course: Course | None = None
    tuning: Tuning | None = None
    confirmation: Confirmation | None = None
    conditions: dict[str, Conditions] = field(default_factory=dict)

    def choose(self) -> Choice:
        """Take all steps, as far as they are needed for an answer."""
        self.split = Split.of(self.stage.count, self.stage.protocol.seed)
        self.headline = headline_of(self.stage, self.given)
        per_pass, limit = seconds_per_pass(self.stage, self.measuring.keeper), self.settings.time_limit
        scoring = 2 * (STEPS - 1) * len(self.headline.metrics)  # two curves for each metric, before it is measured
        prices = Prices(self.measuring, per_pass, (scoring * per_pass, scoring))
        found = candidates_of(self.stage, self.explainers, seconds_per_pass=per_pass, limit=limit)
        self.candidates = {each.label: each for each in found}
        check_budget(prices, found, self.split, self.settings)
        not_learnt = why_not_learnt(self.stage)
        if not_learnt:
            return self._none(f"{_upper(not_learnt)}: it is not shown to have learnt anything.")
        rows = self.split.trust
        self.looked = FirstLook(self.measuring, self.headline, self.candidates, rows, limit, prices, self.say)
        self.looked.take()
        if not [each for each in self._taking_part() if not each.control]:
            return self._none(why_nobody_applies(self.candidates.values()))
        self._trust_metrics()
        if not self.trust.used:
            return self._none(why_no_metric(self.headline.name, self.trust))
        self.headline = self.looked.headline = self.headline.of(self.trust.used)
        decision = self._raced_and_confirmed()
        return Choice(self._evidence(decision), self.settings, self.stage, why_none(decision))

    def _raced_and_confirmed(self) -> Decision:
        """Race, tuning and confirmation: again, without it, if one that others were dropped for lacks a score at the
        end. What was measured is not measured again."""
        while True:
            self._race()
            self._tune()
            decision = self._confirm()
            lacking = {n: why for n, why in self.confirmation.lacking.items() if n in self.course.droppers}
            if not lacking:
                return decision
            for name, why in lacking.items():
                self.candidates[name].reason = why
                self.say(f"{'':>9}{name} is left out: {why}; the race is run again without it")

    @property
    def stage(self) -> Stage:
        """Model and data."""
        return self.measuring.stage

    def _taking_part(self) -> list[Candidate]:
        return [each for each in self.candidates.values() if each.takes_part]

    def _trust_metrics(self) -> None:
        cheap, references = self.looked.looked_at, self.looked.references()
        sources = {each.label: each.chosen for each in cheap if not each.control} | references
        scores = self.headline.by_metric(self.looked.seen, [*(each.label for each in cheap), *references])
        random = next((each.label for each in self.candidates.values() if each.chosen.entry.name == "random"), "")
        compared = min(len(sources), self._most_confirmed()) + sum(each.control for each in self._taking_part())
        planned = Planned(len(self.split.confirmation), compared, self.settings.alpha / 2)
        self.trust = trust_metrics(
            self.measuring,
            self.looked.part,
            scores,
            sources,
            self.headline.metrics,
            random=random,
            planned=planned,
            smallest=self.headline.rounding(self.stage),
        )
        for each in self.trust.found:
            self.say(f"{each.metric} is {'used' if not each.reason else f'not used: {each.reason}'}")

    def _most_confirmed(self) -> int:
        return most_confirmed(len(self.split.confirmation))

    def _race(self) -> None:
        self.looked.leave_out_without_scores(self.headline)
        names = {each.label: each for each in self._taking_part()}
        late = [name for name, each in names.items() if each.dear]
        self.say(f"race: {len(names) - len(late)} explainers, {len(late)} dear ones may enter later")
        rounds = Rounds(
            self.measuring,
            self.headline,
            self.split.race,
            names,
            late,
            self.looked.look_at_dear,
            self.looked.prices,
            self.settings.alpha / 2,
            self._most_confirmed(),
            self.say,
        )
        self.course = rounds.run()

    def _tune(self) -> None:
        finalists = survivors(self.course, self.candidates)[:FINALISTS] if self.settings.tune else []
        used = self.course.raced
        offered = min(LEAST_TO_TUNE, len(self.split.race) // 2)
        if offered >= LEAST_SAMPLES and any(each.chosen.entry.tunable for each in finalists):
            used = max(used, offered)
        self.taken = used
        affords = lambda candidates, samples: self.looked.prices.affords(candidates, samples, kept=KEPT_WHILE_TUNING)
        rows, limit = self.split.race[:used], self.settings.time_limit
        self.tuning = tune_finalists(self.measuring, self.headline, finalists, rows, limit, affords, self.say)

    def _confirm(self) -> Decision:
        """Measure what is left on fresh samples, and decide."""
        worth = worth_confirming(self.course, self.candidates, self._most_confirmed())
        behind = [each.label for each in survivors(self.course, self.candidates) if each not in worth]
        own, controls = [*worth, *self.tuning.variants], controls_to_compare(self.course, self.candidates)
        compared, half = [*own, *controls], self.settings.alpha / 2
        count = affordable_samples(self.looked.prices, compared, self.split, self.taken, half)
        answer = [self.taken, count, *sorted(each.label for each in compared)]
        alpha = level_of_answer(self.measuring.keeper, answer, half)
        self.say(f"confirmation: {len(own)} explainers on {count} samples that took no part")
        parts = parts_of_confirmation(self.split, self.taken, count)
        self.confirmation = confirm(self.measuring, self.headline, compared, parts, alpha)
        self.course.left.update(self.confirmation.lacking)
        self.candidates |= {each.label: each for each in self.tuning.variants}
        decision = decision_on(self.confirmation, compared, self.settings, self._conditions)
        return decision.with_unconfirmed([*behind, *self.course.partly], self.course.alike)

    def _conditions(self, candidate: Candidate) -> Conditions | None:
        """The conditions of an explainer; None where the budget does not suffice, or enough have been checked. A dear
        one is only checked if no cheaper one can be recommended, or if the purpose asks for conditions."""
        passed = any(each.sanity != "fail" for each in self.conditions.values())
        if candidate.dear and passed and self.settings.purpose != "report":
            return self.conditions.get(candidate.label)
        if candidate.label not in self.conditions:
            again = [candidate] * EXPLANATIONS
            affords = self.looked.prices.affords(again, CHECKED_SAMPLES, kept=0.0)
            if (passed and len(self.conditions) >= MOST_CHECKED) or not affords:
                return None
            self.conditions[candidate.label] = check_conditions(self.measuring, candidate, self.split.confirmation)
        return self.conditions[candidate.label]

    def _none(self, reason: str) -> Choice:
        """The answer that there is none."""
        return Choice(self._evidence(Decision()), self.settings, self.stage, reason)

    def _evidence(self, decision: Decision) -> Evidence:
        seconds, evaluations = self.measuring.keeper.spent()
        return Evidence(
            decision,
            self.headline,
            self.candidates,
            self.split.sizes,
            self.trust,
            self.course,
            self.tuning,
            self.confirmation,
            self.conditions,
            seconds,
            evaluations,
            self._whole_grid(),
        )

    def _whole_grid(self) -> float:
        """The evaluations that measuring all candidates on all samples would have taken; NaN before any is known."""
        if self.looked is None:
            return float("nan")
        variants = self.tuning.variants if self.tuning is not None else []
        own = [each for each in self.candidates.values() if each.takes_part and each not in variants]
        return self.looked.prices.of(own, self.stage.count)[1]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
