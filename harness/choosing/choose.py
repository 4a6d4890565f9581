"""Chooses an explainer: audit, trust, race, tuning, confirmation, answer. Each step is a module of this folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.choosing.candidates import COSTS, Candidate, candidates_of, heed_audit
from harness.choosing.choice import Choice
from harness.choosing.confirmation import Conditions, Confirmation, check_conditions, confirm, parts_of
from harness.choosing.evidence import Evidence
from harness.choosing.headline import STEPS, headline_of
from harness.choosing.learnt import why_not_learnt
from harness.choosing.measuring import Measuring, Part
from harness.choosing.rounds import Course, Rounds
from harness.choosing.settings import Settings
from harness.choosing.trust import MetricTrust, trust_metrics
from harness.choosing.tune import Tuning, tune_finalists
from harness.choosing.verdict import Decision, decision_on
from harness.engine.selection import Chosen, choose_one
from harness.engine.stage import Stage
from harness.errors import UserError
from harness.registry import METRICS
from harness.results.family import least_samples

LEAST_FOR_TRUST, LEAST_FOR_RACE, LEAST_FOR_CONFIRMATION = 6, 6, 8
LEAST_SAMPLES = LEAST_FOR_TRUST + LEAST_FOR_RACE + LEAST_FOR_CONFIRMATION
TRUST_SHARE, CONFIRMATION_SHARE = 0.2, 0.3
MOST_FOR_TRUST, MOST_FOR_CONFIRMATION = 32, 400
FINALISTS = 3  # explainers whose options are tuned
MOST_CONFIRMED = 6  # explainers that are confirmed: the more there are, the less can be shown of each
MOST_CHECKED = 5  # explainers of which conditions are checked


@dataclass(frozen=True)
class Split:
    """The samples by what they are for; no sample is for two things."""

    trust: tuple[int, ...]
    race: tuple[int, ...]
    confirmation: tuple[int, ...]

    @classmethod
    def of(cls, count: int, seed: int) -> "Split":
        """A random split of ``count`` samples; UserError for too few."""
        if count < LEAST_SAMPLES:
            raise UserError(
                f"{count} {'sample' if count == 1 else 'samples'} came, choosing an explainer needs at least "
                f"{LEAST_SAMPLES}: {LEAST_FOR_TRUST} to test the metrics, {LEAST_FOR_RACE} for the race and "
                f"{LEAST_FOR_CONFIRMATION} to confirm"
            )
        order = tuple(map(int, np.random.default_rng([seed, count]).permutation(count)))
        trust = min(max(LEAST_FOR_TRUST, round(TRUST_SHARE * count)), MOST_FOR_TRUST)
        confirmation = min(max(LEAST_FOR_CONFIRMATION, round(CONFIRMATION_SHARE * count)), MOST_FOR_CONFIRMATION)
        return cls(order[:trust], order[trust : count - confirmation], order[count - confirmation :])


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
    trust: MetricTrust | None = None
    course: Course | None = None
    tuning: Tuning | None = None
    confirmation: Confirmation | None = None
    conditions: dict[str, Conditions] = field(default_factory=dict)

    def choose(self) -> Choice:
        """Take all steps, as far as they are needed for an answer."""
        self.split = Split.of(self.stage.count, self.stage.protocol.seed)
        self.headline = headline_of(self.stage, self.given)
        self.seconds_per_pass = self._seconds_per_pass()
        limit = self.settings.time_limit
        found = candidates_of(self.stage, self.explainers, seconds_per_pass=self.seconds_per_pass, limit=limit)
        self.candidates = {each.label: each for each in found}
        self._check_budget()
        not_learnt = why_not_learnt(self.stage)
        if not_learnt:
            return self._none(f"{_upper(not_learnt)}: it is not shown to have learnt anything.")
        self._audit([each for each in self._taking_part() if not each.dear])
        if not [each for each in self._taking_part() if not each.control and not each.dear]:
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
        """UserError if the budget does not suffice for the fewest samples of the explainers that are not dear."""
        own = [each for each in self._taking_part() if not each.dear]
        scoring = len(self.headline.metrics) * 2 * (STEPS - 1)
        evaluations = sum(each.estimate + scoring for each in own) * LEAST_SAMPLES
        budget = self.measuring.budget
        if evaluations * self.seconds_per_pass > budget.seconds or evaluations > budget.evaluations:
            about = f"{evaluations * self.seconds_per_pass:.2g} s" if budget.in_seconds else f"{evaluations:,}"
            raise UserError(
                f"budget is {self.settings.budget}, which is too small to say anything; {len(own)} explainers need at "
                f"least about {about}; give more, or fewer candidates: candidates=[saliency,occlusion]"
            )

    def _audit(self, candidates: Sequence[Candidate]) -> None:
        """Measure candidates for the first time, on the samples that test the metrics, with their self-checks."""
        part = Part(f"trust 1-{len(self.split.trust)}", self.split.trust)
        costs = [choose_one(METRICS, name) for name in COSTS]
        chosen = [each.chosen for each in candidates]
        before = self.measuring.keeper.spent()
        self.audited = self.measuring.measure(part, chosen, [*self.headline.metrics, *costs], audited=True)
        spent = np.subtract(self.measuring.keeper.spent(), before)
        for each in candidates:
            others = {one.label for one in candidates if one.takes_part and one is not each}
            heed_audit(each, self.audited, self.headline.labels, self.settings.time_limit, others)
            if not each.takes_part:
                self.say(f"{'':>9}{each.label} is left out: {each.reason}")
        if not hasattr(self, "per_one"):
            self.per_one = self._scoring_cost(candidates, spent, len(part))

    def _scoring_cost(self, candidates: Sequence[Candidate], spent: np.ndarray, samples: int) -> tuple[float, float]:
        """Seconds and evaluations of scoring one sample of one explainer: what was spent less what explaining took."""
        known = self.measuring.keeper.noted("scoring cost")
        if known is not None:
            return tuple(known)
        explaining = np.nansum([(each.seconds, each.evaluations) for each in candidates], axis=0) * samples
        found = np.maximum(spent - explaining, 0) / max(1, len(candidates) * samples)
        self.measuring.keeper.note("scoring cost", [float(each) for each in found])
        return float(found[0]), float(found[1])

    def _trust_metrics(self) -> None:
        sources = {each.label: each.chosen for each in self._taking_part() if not each.control and not each.dear}
        part = Part(f"trust 1-{len(self.split.trust)}", self.split.trust)
        measured = [each.label for each in self.candidates.values() if not each.dear and each.takes_part]
        scores = self.headline.by_metric(self.audited, measured)
        random = next((each.label for each in self.candidates.values() if each.chosen.entry.name == "random"), "")
        self.trust = trust_metrics(self.measuring, part, scores, sources, self.headline.metrics, random=random)
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
            lambda candidate: self._audit([candidate]),
            self.per_one,
            self.seconds_per_pass,
            self.settings.alpha / 2,
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
        used = int(self.course.scores[[each.label for each in self._survivors()]].notna().all(axis=1).sum())
        rows = self.split.race[:used]
        self.tuning = tune_finalists(
            self.measuring, self.headline, finalists, rows, self.settings.time_limit, self._affords, self.say
        )

    def _affords(self, candidates: Sequence[Candidate], samples: int, kept: float = 0.2) -> bool:
        """Whether the budget suffices to measure these on so many samples, with a share of it kept."""
        return self.measuring.share_of_budget(*self._price(candidates, samples)) <= self.measuring.left - kept

    def _price(self, candidates: Sequence[Candidate], samples: int) -> tuple[float, float]:
        """Seconds and evaluations that measuring these on so many samples takes."""
        known = lambda value, otherwise: value if np.isfinite(value) else otherwise
        seconds = sum(
            known(each.seconds, each.estimate * self.seconds_per_pass) + self.per_one[0] for each in candidates
        )
        evaluations = sum(known(each.evaluations, each.estimate) + self.per_one[1] for each in candidates)
        return seconds * samples, evaluations * samples

    def _confirm(self) -> Decision:
        """Measure what is left on fresh samples, and decide."""
        own = [*self._survivors()[:MOST_CONFIRMED], *self.tuning.variants]
        unconfirmed = [each.label for each in self._survivors()[MOST_CONFIRMED:]]
        controls = self._controls()
        alpha = self._level_of_confirmation()
        parts = parts_of(self.split.confirmation, self._confirmed_samples([*own, *controls], alpha))
        self.say(f"confirmation: {len(own)} explainers on {sum(map(len, parts))} samples that took no part")
        self.confirmation = confirm(self.measuring, self.headline, [*own, *controls], parts, alpha)
        for name, reason in self.confirmation.lacking.items():
            self.course.left[name] = reason
        self.candidates |= {each.label: each for each in self.tuning.variants}
        decision = decision_on(self.confirmation, [*own, *controls], self.settings, self._conditions)
        return replace(decision, unconfirmed=unconfirmed)

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
        least, most = least_samples(alpha), len(self.split.confirmation)
        affordable = [n for n in range(least, most + 1) if self._affords(candidates, n, kept=0.05)]
        known = self.measuring.keeper.noted("confirmed samples") or 0
        count = max(affordable, default=min(least, most))
        if known >= count:
            return int(known)
        self.measuring.keeper.note("confirmed samples", count)
        return count

    def _conditions(self, candidate: Candidate) -> Conditions | None:
        """The conditions of an explainer; None where the budget does not suffice, or enough have been checked."""
        if candidate.label not in self.conditions:
            again = 2 + 1 + 2 + 4  # explanations for one sample: random weights, other classes, noise
            if len(self.conditions) >= MOST_CHECKED or not self._affords([candidate] * again, 10, kept=0.0):
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
            self.split_sizes,
            self.trust,
            self.course,
            self.tuning,
            self.confirmation,
            self.conditions,
            seconds,
            evaluations,
            self._whole_grid(),
        )

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of samples for each step."""
        return {
            "trust": len(self.split.trust),
            "race": len(self.split.race),
            "confirmation": len(self.split.confirmation),
        }

    def _whole_grid(self) -> float:
        """The evaluations that measuring all candidates on all samples would have taken."""
        if not hasattr(self, "per_one"):
            return float("nan")
        own = [each for each in self.candidates.values() if each.takes_part]
        return self._price(own, self.stage.count)[1]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
