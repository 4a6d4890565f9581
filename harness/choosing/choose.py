"""Chooses an explainer: audit, trust, race, tuning, confirmation, answer. Each step is a module of this folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.choosing.candidates import CHEAPER, COSTS, REFERENCE_NAMES, Candidate, candidates_of, heed_audit, mark_dear
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
from harness.choosing.headline import STEPS, headline_of
from harness.choosing.learnt import why_not_learnt
from harness.choosing.measuring import Measured, Measuring, Part
from harness.choosing.noise_ladder import LEVELS
from harness.choosing.power import Planned
from harness.choosing.prices import Prices, seconds_per_pass
from harness.choosing.rounds import FIRST_ROUND, Course, Rounds
from harness.choosing.settings import Settings
from harness.choosing.split import Split
from harness.choosing.trust import MetricTrust, trust_metrics
from harness.choosing.tune import LEAST_SAMPLES, Tuning, tune_finalists
from harness.choosing.verdict import Decision, decision_on
from harness.engine.selection import Chosen, choose_one
from harness.engine.stage import Stage
from harness.errors import UserError
from harness.registry import EXPLAINERS, METRICS
from harness.results.family import least_samples
from harness.results.numbers import significant

FINALISTS = 3  # explainers whose options are tuned
LEAST_TO_TUNE = 32  # samples of the race, or half of them where they are fewer, on which explainers are tuned
KEPT_WHILE_TUNING = 0.2  # the share of the budget that is kept for the confirmation
MOST_CHECKED = 5  # explainers of which conditions are checked
FIRST_LOOK = 4  # samples on which a dear explainer is audited


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
    audited: Measured | None = None
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
        self.prices = Prices(self.measuring, per_pass, (scoring * per_pass, scoring))
        found = candidates_of(self.stage, self.explainers, seconds_per_pass=per_pass, limit=limit)
        self.candidates = {each.label: each for each in found}
        self._check_budget()
        not_learnt = why_not_learnt(self.stage)
        if not_learnt:
            return self._none(f"{_upper(not_learnt)}: it is not shown to have learnt anything.")
        self._audit([each for each in self._taking_part() if not each.dear], self._trust_part())
        self._audit_dear_if_no_other_is_left()
        if not [each for each in self._taking_part() if not each.control]:
            return self._none(self._why_nobody())
        self._trust_metrics()
        if not self.trust.used:
            return self._none(self._why_no_metric())
        self.headline = self.headline.of(self.trust.used)
        decision = self._raced_and_confirmed()
        return Choice(self._evidence(decision), self.settings, self.stage, self._why_none(decision))

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

    def _check_budget(self) -> None:
        """UserError if the budget does not suffice for the explainers that are not dear: for the test of the metrics,
        the first round, and the fewest samples that can confirm."""
        own = [each for each in self._taking_part() if not each.dear]
        samples = len(self.split.trust) + FIRST_ROUND + least_samples(self.settings.alpha / 2)
        ladder = [own[0]] * len(LEVELS)
        known = zip(self.prices.of(own, samples), self.prices.of(ladder, len(self.split.trust)), strict=True)
        seconds, evaluations = map(sum, known)
        budget = self.measuring.budget
        if seconds > budget.seconds or evaluations > budget.evaluations:
            about = f"{significant(seconds)} s" if budget.in_seconds else f"{evaluations:,.0f} model evaluations"
            raise UserError(
                f"budget is {self.settings.budget}, which is too small to say anything: {len(own)} explainers need at "
                f"least about {about} to be tested, to race one round and to be confirmed; give more, or fewer "
                "candidates, such as candidates=[saliency,occlusion]"
            )

    def _trust_part(self) -> Part:
        return Part(f"trust 1-{len(self.split.trust)}", self.split.trust)

    def _audit(self, candidates: Sequence[Candidate], part: Part) -> None:
        """Measure candidates for the first time, on samples that test the metrics, with their self-checks."""
        costs = [choose_one(METRICS, name) for name in COSTS]
        before = self.measuring.keeper.spent()
        chosen = [each.chosen for each in candidates]
        audited = self.measuring.measure(part, chosen, [*self.headline.metrics, *costs], audited=True)
        spent = np.subtract(self.measuring.keeper.spent(), before)
        for each in candidates:
            others = {one.label for one in candidates if one.takes_part and one is not each}
            heed_audit(each, audited, self.headline.labels, self.settings.time_limit, others)
            if not each.takes_part:
                self.say(f"{'':>9}{each.label} is left out: {each.reason}")
        if part == self._trust_part():
            self.audited = audited
            if spent.any():
                self.prices = replace(self.prices, scoring=self._scoring_price(candidates, spent, len(part)))
            mark_dear(self._taking_part())

    def _audit_dear_if_no_other_is_left(self) -> None:
        """Where nothing but dear explainers and controls is left, the cheapest of them start the race."""
        while self._dear() and not [each for each in self._taking_part() if not each.control and not each.dear]:
            cheapest = min(each.estimate for each in self._dear())
            now = [each for each in self._dear() if each.estimate <= CHEAPER * cheapest]
            for each in now:
                each.dear = False
            own = [each for each in self._taking_part() if each.control] + now
            self._audit(own, self._trust_part())

    def _dear(self) -> list[Candidate]:
        return [each for each in self._taking_part() if each.dear]

    def _audit_dear(self, candidate: Candidate) -> None:
        """The first measurement of a dear explainer, on few samples."""
        rows = self.split.trust[:FIRST_LOOK]
        self._audit([candidate], Part(f"first look 1-{len(rows)}", rows))

    def _scoring_price(self, candidates: Sequence[Candidate], spent: np.ndarray, samples: int) -> tuple[float, float]:
        """Seconds and evaluations of scoring one sample of one explainer: what was spent less what explaining took."""
        explaining = np.nansum([(each.seconds, each.evaluations) for each in candidates], axis=0) * samples
        found = np.maximum(spent - explaining, 0) / max(1, len(candidates) * samples)
        return float(found[0]), float(found[1])

    def _trust_metrics(self) -> None:
        cheap = [each for each in self._taking_part() if each.label in self._looked_at()]
        references = self._references()
        sources = {each.label: each.chosen for each in cheap if not each.control} | references
        scores = self.headline.by_metric(self.audited, [*(each.label for each in cheap), *references])
        random = next((each.label for each in self.candidates.values() if each.chosen.entry.name == "random"), "")
        compared = min(len(sources), self._most_confirmed()) + sum(each.control for each in self._taking_part())
        planned = Planned(len(self.split.confirmation), compared, self.settings.alpha / 2)
        self.trust = trust_metrics(
            self.measuring,
            self._trust_part(),
            scores,
            sources,
            self.headline.metrics,
            random=random,
            planned=planned,
            smallest=self.headline.rounding(self.stage),
        )
        for each in self.trust.found:
            self.say(f"{each.metric} is {'used' if not each.reason else f'not used: {each.reason}'}")

    def _looked_at(self) -> set[str]:
        """Those that were measured on the samples that test the metrics."""
        return {name for name, _ in self.audited.values}

    def _references(self) -> dict[str, Chosen]:
        """Explainers that may be the source of a ladder beside the candidates: so a metric is not blamed for them."""
        there = {each.chosen.entry.name for each in self._taking_part() if each.label in self._looked_at()}
        known = [choose_one(EXPLAINERS, name) for name in REFERENCE_NAMES if name not in there]
        chosen = [replace(each, label=f"{each.label} (reference)") for each in known]
        chosen = [each for each in chosen if self.stage.units.modality in each.entry.modalities]
        found = self.measuring.measure(self._trust_part(), chosen, self.headline.metrics) if chosen else Measured()
        self.audited.values.update(found.values)
        return {each.label: each for each in chosen if any(name == each.label for name, _ in found.values)}

    def _why_no_metric(self) -> str:
        reasons = dict.fromkeys(each.reason for each in self.trust.found)
        return f"This model cannot be judged by {self.headline.name}, because {'; '.join(reasons)}."

    def _why_nobody(self) -> str:
        reasons = [f"{each.label}: {each.reason}" for each in self.candidates.values() if not each.control]
        if not reasons:
            return "Only controls came as candidates, which do not look at the model."
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        return f"No explainer can be used here: {'; '.join(reasons[:3])}{more}."

    def _most_confirmed(self) -> int:
        return most_confirmed(len(self.split.confirmation))

    def _race(self) -> None:
        self._without_scores_of_used_metrics()
        names = {each.label: each for each in self._taking_part()}
        late = [name for name, each in names.items() if each.dear]
        self.say(f"race: {len(names) - len(late)} explainers, {len(late)} dear ones may enter later")
        rounds = Rounds(
            self.measuring,
            self.headline,
            self.split.race,
            names,
            late,
            self._audit_dear,
            self.prices,
            self.settings.alpha / 2,
            self._most_confirmed(),
            self.say,
        )
        self.course = rounds.run()

    def _without_scores_of_used_metrics(self) -> None:
        """Leave out candidates that lack a score by one of the metrics that are used."""
        for each in self._taking_part():
            if not each.dear and self.headline.whole_scores(self.audited, each.label) is None:
                each.reason = self.audited.problem_of(each.label) or "samples have no score by a metric that is used"

    def _tune(self) -> None:
        finalists = survivors(self.course, self.candidates)[:FINALISTS] if self.settings.tune else []
        used = self.course.raced
        offered = min(LEAST_TO_TUNE, len(self.split.race) // 2)
        if offered >= LEAST_SAMPLES and any(each.chosen.entry.tunable for each in finalists):
            used = max(used, offered)
        self.taken = used
        affords = lambda candidates, samples: self.prices.affords(candidates, samples, kept=KEPT_WHILE_TUNING)
        rows, limit = self.split.race[:used], self.settings.time_limit
        self.tuning = tune_finalists(self.measuring, self.headline, finalists, rows, limit, affords, self.say)

    def _confirm(self) -> Decision:
        """Measure what is left on fresh samples, and decide."""
        worth = worth_confirming(self.course, self.candidates, self._most_confirmed())
        behind = [each.label for each in survivors(self.course, self.candidates) if each not in worth]
        own, controls = [*worth, *self.tuning.variants], controls_to_compare(self.course, self.candidates)
        compared, half = [*own, *controls], self.settings.alpha / 2
        count = affordable_samples(self.prices, compared, self.split, self.taken, half)
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
            affords = self.prices.affords(again, CHECKED_SAMPLES, kept=0.0)
            if (passed and len(self.conditions) >= MOST_CHECKED) or not affords:
                return None
            self.conditions[candidate.label] = check_conditions(self.measuring, candidate, self.split.confirmation)
        return self.conditions[candidate.label]

    def _why_none(self, decision: Decision) -> str:
        """Why no explainer is recommended; "" if one is."""
        if decision.recommended is not None:
            return ""
        if decision.best is None:
            return "No explainer has scores on the samples of the confirmation."
        if not any(each.beats for each in decision.members):
            return "controls"
        return "sanity"

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
        if self.audited is None:
            return float("nan")
        variants = self.tuning.variants if self.tuning is not None else []
        own = [each for each in self.candidates.values() if each.takes_part and each not in variants]
        return self.prices.of(own, self.stage.count)[1]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
