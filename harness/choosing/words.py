"""The answer of a choice in words: at most fifteen lines, the first of which can stand alone."""

from dataclasses import dataclass

import numpy as np

from harness.choosing.evidence import Evidence
from harness.choosing.learnt import labels_tell
from harness.choosing.settings import Settings
from harness.choosing.verdict import Member, missing_purpose
from harness.choosing.why_none import CONTROLS, SANITY
from harness.engine.sample_words import names_of_columns
from harness.engine.stage import Stage
from harness.results.answer import (
    DOES,
    SAMPLES,
    UNITS,
    a_or_an,
    at_most_three,
    in_a_sentence,
    plain_form,
    samples_in_words,
)
from harness.results.numbers import significant, with_interval

MOST_LISTED = 6
# Of the step from the best maps to noise: the answer tells that smaller differences are not found.
LARGE_SHARE = 0.5


@dataclass(frozen=True)
class ChoiceWords:
    """The sentences about one choice; ``reason`` says why no explainer is recommended, "" if one is."""

    evidence: Evidence
    settings: Settings
    stage: Stage
    reason: str

    def sentences(self) -> list[str]:
        """The answer: what to use or why nothing, what may be as good, and what was done."""
        if self.reason in (CONTROLS, SANITY):
            return [self._none_is_better() if self.reason == CONTROLS else self._none_is_sane(), *self._effort()]
        if self.reason:
            return [f"None to recommend. {self.reason}", *self._effort()]
        return [self._use(), *self._as_good(), *self._purpose(), *self._effort()]

    def lines(self) -> list[str]:
        """A line for each explainer of the answer."""
        members = self.evidence.decision.members
        width = max((len(each.label) for each in members[:MOST_LISTED]), default=0)
        found = [f"  {each.label:<{width}}  {self._figures(each)}" for each in members[:MOST_LISTED]]
        more = len(members) - MOST_LISTED
        return [*found, f"  and {more} more"] if more > 0 else found

    def caveats(self) -> list[str]:
        """What the answer lacks, in at most four lines."""
        told = [
            self._metrics_that_disagree(),
            self._small_differences(),
            self._what_samples_lack(),
            self._not_compared_to_the_end(),
        ]
        return [each for each in told if each]

    def _what_samples_lack(self) -> str:
        """That all samples explain one class, and that no labels show whether the model has learnt anything."""
        told, targets = [], self.stage.targets.unique()
        if self.stage.output_count > 1 and len(targets) == 1:
            told.append(f"All samples explain {names_of_columns(self.stage)[int(targets[0])]}: the answer is about it.")
        if not labels_tell(self.stage):
            told.append("Without labels it is not tested whether the model has learnt anything.")
        return " ".join(told)

    def _metrics_that_disagree(self) -> str:
        """Which metrics are not used, and which of the used ones contradict each other."""
        trust = self.evidence.trust
        if trust is None or not trust.used:
            return ""
        unused = [each.metric for each in trust.found if each.reason]
        told = [f"Not used, since {_they(unused)} did not separate here: {in_a_sentence(unused)}."] if unused else []
        for first, second in trust.contradictions[:1]:
            told.append(f"{first} and {second} rank the explainers in opposite ways; their mean is the score.")
        return " ".join(told)

    def _small_differences(self) -> str:
        """Which differences are too small to be found, if these are more than half of what there is to find."""
        samples, smallest, drop = self.evidence.found_with_power() or (0, np.nan, np.nan)
        if not smallest > drop * LARGE_SHARE:
            return ""
        these = f"{samples} {self._noun(samples)}"
        if not np.isfinite(smallest):
            return f"{these} are too few to find any difference."
        return (
            f"With {these} only differences above {significant(smallest)} are found (80 % power); that is "
            f"{100 * smallest / drop:.0f} % of the step from the best maps to noise."
        )

    def _not_compared_to_the_end(self) -> str:
        """Which explainers might have been as good, and are not in the comparison."""
        told, behind, course = [], self.evidence.decision.unconfirmed, self.evidence.course
        if behind:
            names = in_a_sentence(at_most_three(behind))
            told.append(f"Not confirmed, since others were ahead or cheaper, but not shown to be worse: {names}.")
        alike = self.evidence.decision.alike
        if alike:
            pairs = [f"{name} (as {other})" for name, other in alike.items()]
            told.append(f"The same scores in the race: {in_a_sentence(at_most_three(pairs))}.")
        never = course.unmeasured if course else []
        if never:
            told.append(f"Not measured, too dear for the budget: {in_a_sentence(at_most_three(never))}.")
        return " ".join(told)

    def _use(self) -> str:
        member = self.evidence.decision.member(self.evidence.decision.recommended)
        control = self.evidence.decision.control
        price = f"at {self._seconds(member)}"
        if member.gain is None:
            return f"Use {member.label}: {self._score(member)} on {self._these()}, {price}. No control was compared."
        return (
            f"Use {member.label}: on {self._these()} it {self._does()} than the best control, "
            f"{control}, by {with_interval(*member.gain)}{self._unit()} ({self.evidence.headline.name}), {price}."
        )

    def _as_good(self) -> list[str]:
        decision = self.evidence.decision
        others = [each.label for each in decision.members if each.label != decision.recommended]
        if not others:
            return (
                [] if self._not_compared_to_the_end() else ["All others are shown to be worse, or cannot be used here."]
            )
        words = f"Not shown to be worse: {in_a_sentence(at_most_three(others))}"
        family = self.evidence.confirmation.family
        rival = decision.best if decision.best != decision.recommended else others[0]
        differences = family.differences(rival, decision.recommended)
        if not family.able or not np.ptp(differences) > 0:
            return [f"{words}."]
        needed = samples_in_words(differences, self._noun(), critical=family.critical_t)
        return [f"{words}; to tell {rival} and {decision.recommended} apart takes {needed}."]

    def _none_is_better(self) -> str:
        decision = self.evidence.decision
        best = decision.best
        family, control = self.evidence.confirmation.family, decision.control
        size = with_interval(family.difference(best, control), *family.interval(best, control))
        return (
            f"None to recommend: no explainer is shown to {plain_form(self._does())} than the controls on "
            f"{self._these()}. The best, {best}, differs from {control} by {size}{self._unit()}."
        )

    def _none_is_sane(self) -> str:
        names = [each.label for each in self.evidence.decision.members if each.beats]
        do = "beats the controls, but fails" if len(names) == 1 else "beat the controls, but fail"
        return f"None to recommend: {in_a_sentence(at_most_three(names))} {do} the sanity check."

    def _purpose(self) -> list[str]:
        words = missing_purpose(self.evidence.decision, self.settings)
        return [words] if words else []

    def _effort(self) -> list[str]:
        """What was measured, and what it took."""
        tuned = set() if self.evidence.tuning is None else {each.label for each in self.evidence.tuning.variants}
        own = [each for name, each in self.evidence.candidates.items() if not each.control and name not in tuned]
        words = "1 explainer was considered" if len(own) == 1 else f"{len(own)} explainers were considered"
        alike = sum(bool(each.stand_in) for each in own)
        out = sum(not each.takes_part for each in own) - alike
        words += f", {out} cannot be used here" if out else ""
        words += f", {alike} {'is' if alike == 1 else 'are'} equal to another" if alike else ""
        course = self.evidence.course
        if course is not None:
            dropped = sum(each.label in course.worse for each in own)
            words += f", {dropped} dropped as worse" if dropped else ""
        if tuned:
            words += f", {len(tuned)} tuned"
        spent, whole = self.evidence.evaluations, self.evidence.whole_grid
        if spent > 0:
            share = f", about {spent / whole:.0%} of what the whole grid takes" if whole > 0 else ""
            words += f"; {spent:,.0f} model evaluations{share}, {significant(self.evidence.seconds)} s"
        return [f"{words}."]

    def _figures(self, member: Member) -> str:
        score = f"{significant(member.score[0])}"
        gain = f"gain {with_interval(*member.gain)}" if member.gain else ""
        caveats = "; ".join(member.caveats)
        return "  ".join(part for part in (score, gain, self._seconds(member), caveats) if part)

    def _does(self) -> str:
        """What an explainer with a better score does better, by the kind of the metric."""
        return DOES[self.evidence.headline.metrics[0].entry.kind]

    def _score(self, member: Member) -> str:
        return f"{with_interval(*member.score)}{self._unit()}"

    def _seconds(self, member: Member) -> str:
        if not np.isfinite(member.seconds):
            return "a time that was not measured"
        return f"{significant(member.seconds)} s {a_or_an(self._noun(1))}"

    def _unit(self) -> str:
        unit = UNITS.get(self.evidence.headline.unit, "")
        return f" {unit}" if unit else ""

    def _these(self) -> str:
        count = self.evidence.confirmation.family.n if self.evidence.confirmation else self.stage.count
        return f"{count} fresh {self._noun(count)}"

    def _noun(self, number: int = 2) -> str:
        one, several = SAMPLES.get(self.stage.units.modality, ("sample", "samples"))
        return one if number == 1 else several


def _they(names: list[str]) -> str:
    return "it" if len(names) == 1 else "they"
