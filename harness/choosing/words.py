"""The answer of a choice in words: at most fifteen lines, the first of which can stand alone."""

from dataclasses import dataclass

import numpy as np

from harness.choosing.evidence import Evidence
from harness.choosing.settings import Settings
from harness.choosing.verdict import Member, missing_purpose
from harness.engine.sample_words import names_of_columns
from harness.engine.stage import Stage
from harness.results.answer import SAMPLES, a_or_an, at_most_three, in_a_sentence, samples_in_words
from harness.results.numbers import significant, with_interval

MOST_LISTED = 6
UNITS = {"probability": "of the class probability"}


@dataclass(frozen=True)
class ChoiceWords:
    """The sentences about one choice; ``reason`` says why no explainer is recommended, "" if one is."""

    evidence: Evidence
    settings: Settings
    stage: Stage
    reason: str

    def sentences(self) -> list[str]:
        """The answer: what to use or why nothing, what may be as good, and what was done."""
        if self.reason in ("controls", "sanity"):
            return [self._none_is_better() if self.reason == "controls" else self._none_is_sane(), *self._effort()]
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
        """What the answer lacks."""
        found = []
        if self.evidence.trust is not None and self.evidence.trust.used:
            unused = [each.metric for each in self.evidence.trust.found if each.reason]
            if unused:
                found.append(f"Not used, since {_they(unused)} did not separate here: {in_a_sentence(unused)}.")
            for first, second in self.evidence.trust.contradictions[:1]:
                found.append(f"{first} and {second} rank the explainers in opposite ways; their mean is the score.")
        targets = self.stage.targets.unique()
        if self.stage.output_count > 1 and len(targets) == 1:
            found.append(
                f"All samples explain {names_of_columns(self.stage)[int(targets[0])]}: the answer is about it."
            )
        behind = self.evidence.decision.unconfirmed
        if behind:
            names = in_a_sentence(at_most_three(behind))
            found.append(f"Behind in the race, but not shown to be worse, and not confirmed: {names}.")
        never = [
            n for n, why in (self.evidence.course.left if self.evidence.course else {}).items() if "not measured" in why
        ]
        if never:
            found.append(f"Not measured, too dear for the budget: {in_a_sentence(at_most_three(never))}.")
        return found

    def _use(self) -> str:
        member = self.evidence.decision.member(self.evidence.decision.recommended)
        control = self.evidence.decision.control
        price = f"at {self._seconds(member)}"
        if member.gain is None:
            return f"Use {member.label}: {self._score(member)} on {self._these()}, {price}. No control was compared."
        return (
            f"Use {member.label}: on {self._these()} it finds what the model uses better than the best control, "
            f"{control}, by {with_interval(*member.gain)}{self._unit()} ({self.evidence.headline.name}), {price}."
        )

    def _as_good(self) -> list[str]:
        decision = self.evidence.decision
        others = [each.label for each in decision.members if each.label != decision.recommended]
        if not others:
            return ["All others are shown to be worse, or cannot be used here."]
        words = f"Not shown to be worse: {in_a_sentence(at_most_three(others))}"
        family = self.evidence.confirmation.family
        rival = decision.best if decision.best != decision.recommended else others[0]
        scores = {name: family.values[:, family.names.index(name)] for name in (decision.recommended, rival)}
        differences = scores[rival] - scores[decision.recommended]
        if not family.able or not np.ptp(differences) > 0:
            return [f"{words}."]
        needed = samples_in_words(differences, self._noun(), critical=family.critical)
        return [f"{words}; to tell {rival} and {decision.recommended} apart takes {needed}."]

    def _none_is_better(self) -> str:
        decision = self.evidence.decision
        best = decision.best
        family, control = self.evidence.confirmation.family, decision.control
        size = with_interval(family.difference(best, control), *family.interval(best, control))
        return (
            f"None to recommend: no explainer is shown to find what the model uses better than the controls on "
            f"{self._these()}. The best, {best}, differs from {control} by {size}{self._unit()}."
        )

    def _none_is_sane(self) -> str:
        names = [each.label for each in self.evidence.decision.members if each.beats]
        fails = "fails" if len(names) == 1 else "fail"
        return (
            f"None to recommend: {in_a_sentence(at_most_three(names))} beat the controls, but {fails} the sanity check."
        )

    def _purpose(self) -> list[str]:
        words = missing_purpose(self.evidence.decision, self.settings)
        return [words] if words else []

    def _effort(self) -> list[str]:
        """What was measured, and what it took."""
        candidates = [each for each in self.evidence.candidates.values() if not each.control]
        out = sum(not each.takes_part for each in candidates)
        words = f"{len(candidates)} explainers were considered, {out} cannot be used here"
        if self.evidence.course is not None:
            dropped = [n for n, why in self.evidence.course.left.items() if why.startswith("worse")]
            words += f", {len([n for n in dropped if not self.evidence.candidates[n].control])} left the race"
        spent, whole = self.evidence.evaluations, self.evidence.whole_grid
        if spent > 0:
            share = (
                f", {spent / whole:.0%} of what the whole grid takes" if np.isfinite(whole) and whole > spent else ""
            )
            words += f"; {spent:,.0f} model evaluations{share}, {significant(self.evidence.seconds)} s"
        return [f"{words}."]

    def _figures(self, member: Member) -> str:
        score = f"{significant(member.score[0])}"
        gain = f"gain {with_interval(*member.gain)}" if member.gain else ""
        caveats = "; ".join(member.caveats)
        return "  ".join(part for part in (score, gain, self._seconds(member), caveats) if part)

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
