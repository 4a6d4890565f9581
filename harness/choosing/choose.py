"""Chooses an explainer: audit, trust, race, tuning, confirmation, answer. Each step is a module of this folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from harness.choosing.candidates import COSTS, Candidate, candidates_of, heed_audit
from harness.choosing.choice import Choice
from harness.choosing.confirmation import PART, Conditions, Confirmation, check_conditions, confirm, parts_of
from harness.choosing.evidence import Evidence
from harness.choosing.headline import STEPS, headline_of
from harness.choosing.learnt import why_not_learnt
from harness.choosing.measuring import Measured, Measuring, Part
from harness.choosing.power import Planned
from harness.choosing.prices import Prices
from harness.choosing.rounds import FIRST_ROUND, Course, Rounds
from harness.choosing.settings import Settings
from harness.choosing.split import Split
from harness.choosing.trust import MetricTrust, trust_metrics
from harness.choosing.tune import Tuning, tune_finalists
from harness.choosing.verdict import Decision, decision_on
from harness.engine.selection import Chosen, choose_one
from harness.engine.stage import Stage
from harness.errors import UserError
from harness.registry import METRICS
from harness.results.family import least_samples

FINALISTS = 3  # explainers whose options are tuned
LEAST_TO_TUNE = 32  # samples of the race, or half of them where they are fewer, on which explainers are tuned
MOST_CONFIRMED = 6  # explainers that are confirmed: the more there are, the less can be shown of each
MOST_CHECKED = 5  # explainers of which conditions are checked
AHEAD = 1.0  # standard errors by which a dear explainer has to be ahead of the others to be confirmed
FIRST_LOOK = 8  # samples on which a dear explainer is audited


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
        self.prices = Prices(
            self.measuring, self._seconds_per_pass(), (0.0, 2 * (STEPS - 1) * len(self.headline.metrics))
        )
        limit, pass_ = self.settings.time_limit, self.prices.seconds_per_pass
        found = candidates_of(self.stage, self.explainers, seconds_per_pass=pass_, limit=limit)
        self.candidates = {each.label: each for each in found}
        self._check_budget()
        not_learnt = why_not_learnt(self.stage)
        if not_learnt:
            return self._none(f"{_upper(not_learnt)}: it is not shown to have learnt anything.")
        self._audit([each for each in self._taking_part() if not each.dear], self._trust_part())
        if not [each for each in self._taking_part() if not each.control]:
            return self._none("No explainer can be used here; the reasons are listed.")
        self._trust_metrics()
        if not self.trust.used:
            return self._none(self._why_no_metric())
        self.headline = self.headline.of(self.trust.used)
        self._race()
        self._tune()
        decision = self._confirm()
        return Choice(self._evidence(decision), self.settings, self.stage, self._why_none(decision))

    @property
    def stage(self) -> Stage:
        """Model and data."""
        return self.measuring.stage

    def _taking_part(self) -> list[Candidate]:
        return [each for each in self.candidates.values() if each.takes_part]

    def _seconds_per_pass(self) -> float:
        """The time that one input takes forward, in full batches: to judge declared costs by, and for nothing else."""
        known = self.measuring.keeper.noted("seconds per pass")
        if known is not None:
            return float(known)
        predictor, inputs = self.stage.predictor, self.stage.first()
        rows = inputs[: predictor.chunk]
        carried = {name: values[: len(rows)] for name, values in self.stage.first_carried().items()}
        predictor.logits(rows, carried)
        started = time.perf_counter()
        predictor.logits(rows, carried)
        taken = (time.perf_counter() - started) / len(rows)
        self.measuring.keeper.note("seconds per pass", taken)
        return taken

    def _check_budget(self) -> None:
        """UserError if the budget does not suffice for the explainers that are not dear: for the test of the metrics,
        the first round, and the fewest samples that can confirm."""
        own = [each for each in self._taking_part() if not each.dear]
        samples = len(self.split.trust) + FIRST_ROUND + least_samples(self.settings.alpha / 2)
        seconds, evaluations = self.prices.of(own, samples)
        budget = self.measuring.budget
        if seconds > budget.seconds or evaluations > budget.evaluations:
            about = f"{seconds:.2g} s" if budget.in_seconds else f"{evaluations:,.0f}"
            raise UserError(
                f"budget is {self.settings.budget}, which is too small to say anything; {len(own)} explainers need at "
                f"least about {about}; give more, or fewer candidates: candidates=[saliency,occlusion]"
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
        if self.audited is None:
            self.audited = audited
            self.prices = replace(self.prices, scoring=self._scoring_price(candidates, spent, len(part)))

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
        sources = {each.label: each.chosen for each in self._taking_part() if not each.control and not each.dear}
        measured = [each.label for each in self.candidates.values() if not each.dear and each.takes_part]
        scores = self.headline.by_metric(self.audited, measured)
        random = next((each.label for each in self.candidates.values() if each.chosen.entry.name == "random"), "")
        compared = min(len(sources), MOST_CONFIRMED) + sum(each.control for each in self._taking_part())
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

    def _why_no_metric(self) -> str:
        reasons = dict.fromkeys(each.reason for each in self.trust.found)
        return f"This model cannot be judged by {self.headline.name}, because {'; '.join(reasons)}."

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
            MOST_CONFIRMED,
            self.say,
        )
        self.course = rounds.run()

    def _without_scores_of_used_metrics(self) -> None:
        """Leave out candidates that lack a score by one of the metrics that are used."""
        for each in self._taking_part():
            scores = None if each.dear else self.headline.scores(self.audited, each.label)
            if not each.dear and (scores is None or not np.isfinite(scores).all()):
                each.reason = self.audited.problem_of(each.label) or "samples have no score by a metric that is used"

    def _survivors(self) -> list[Candidate]:
        """What the race has left, the best mean first, without controls."""
        own = [self.candidates[name] for name in self.course.remaining]
        means = self.course.scores.mean()
        return sorted((each for each in own if not each.control), key=lambda each: -means[each.label])

    def _tune(self) -> None:
        finalists = self._survivors()[:FINALISTS] if self.settings.tune else []
        used = int(self.course.scores[self.course.remaining].notna().all(axis=1).sum())
        if any(each.chosen.entry.tunable for each in finalists):
            used = max(used, min(LEAST_TO_TUNE, len(self.split.race) // 2))
        self.taken = used
        affords = lambda candidates, samples: self.prices.affords(candidates, samples, kept=0.2)
        rows, limit = self.split.race[:used], self.settings.time_limit
        self.tuning = tune_finalists(self.measuring, self.headline, finalists, rows, limit, affords, self.say)

    def _confirm(self) -> Decision:
        """Measure what is left on fresh samples, and decide."""
        worth = self._worth_confirming()
        own = [*worth, *self.tuning.variants]
        unconfirmed = [each.label for each in self._survivors() if each not in worth] + self.course.partly
        controls = self._controls()
        alpha = self._level_of_confirmation()
        parts = self._parts_of_confirmation(self._confirmed_samples([*own, *controls], alpha))
        self.say(f"confirmation: {len(own)} explainers on {sum(map(len, parts))} samples that took no part")
        self.confirmation = confirm(self.measuring, self.headline, [*own, *controls], parts, alpha)
        for name, reason in self.confirmation.lacking.items():
            self.course.left[name] = reason
        self.candidates |= {each.label: each for each in self.tuning.variants}
        decision = decision_on(self.confirmation, [*own, *controls], self.settings, self._conditions)
        return replace(decision, unconfirmed=unconfirmed)

    def _worth_confirming(self) -> list[Candidate]:
        """The best that the race has left, and of the dear ones those that are ahead of all others: a dear explainer
        that is level with a cheap one would not be recommended."""
        survivors = self._survivors()
        cheap = [each for each in survivors if not each.dear][:MOST_CONFIRMED]
        if not cheap:
            return survivors[:MOST_CONFIRMED]
        best = self.course.scores[cheap[0].label]
        ahead = lambda each: _in_standard_errors((self.course.scores[each.label] - best).dropna()) > AHEAD
        return cheap + [each for each in survivors if each.dear and ahead(each)][:MOST_CONFIRMED]

    def _controls(self) -> list[Candidate]:
        """The controls to compare with: those that the race has not dropped, the best, and random maps."""
        controls = [each for each in self._taking_part() if each.control]
        means = self.course.scores.mean()
        best = max(controls, key=lambda each: np.nan_to_num(means.get(each.label, np.nan), nan=-np.inf), default=None)
        stays = lambda each: each is best or each.chosen.entry.name == "random" or each.label in self.course.remaining
        return [each for each in controls if stays(each)]

    def _level_of_confirmation(self) -> float:
        """Half of alpha is for the race. A later answer of the same command, with a larger budget, looks once more: it
        gets half of the level of the answer before, so that all of them together keep theirs."""
        names = sorted(each.label for each in [*self._survivors(), *self.tuning.variants])
        this = [int(self.course.scores.notna().any(axis=1).sum()), *names]
        answers = self.measuring.keeper.noted("answers") or []
        if this not in answers:
            answers = [*answers, this]
            self.measuring.keeper.note("answers", answers)
        return self.settings.alpha / 2 / 2 ** answers.index(this)

    def _confirmed_samples(self, candidates: Sequence[Candidate], alpha: float) -> int:
        """How many samples can be paid for: all that there are, or as many as leave something for the conditions."""
        least, most = least_samples(alpha), len(self.split.fresh(self.taken))
        counts = [*range(-(-least // PART) * PART, most, PART), most]
        affordable = [n for n in counts if self.prices.affords(candidates, n, kept=0.05)]
        return max(affordable, default=counts[0])

    def _parts_of_confirmation(self, count: int) -> list[Part]:
        """The first ``count`` fresh samples, in parts that stay the same when more are added."""
        own = parts_of("confirmation", self.split.confirmation, count)
        left_over = self.split.fresh(self.taken)[len(self.split.confirmation) : count]
        return [*own, *parts_of(f"left over after {self.taken}", left_over, len(left_over))]

    def _conditions(self, candidate: Candidate) -> Conditions | None:
        """The conditions of an explainer; None where the budget does not suffice, or enough have been checked. A dear
        one is only checked if no cheaper one can be recommended, or if the purpose asks for conditions."""
        passed = any(each.sanity != "fail" for each in self.conditions.values())
        if candidate.dear and passed and self.settings.purpose != "report":
            return self.conditions.get(candidate.label)
        if candidate.label not in self.conditions:
            again = 2 + 2 + 2 + 4  # explanations for one sample: random weights, other classes, noise
            if len(self.conditions) >= MOST_CHECKED or not self.prices.affords([candidate] * again, 10, kept=0.0):
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
        own = [each for each in self.candidates.values() if each.takes_part]
        return self.prices.of(own, self.stage.count)[1]


def _in_standard_errors(differences: pd.Series) -> float:
    """A mean, in its standard errors; infinite where all numbers are one."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    mean = differences.mean()
    return float(mean / error) if error > 0 else float(np.copysign(np.inf, mean)) if mean else 0.0


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
