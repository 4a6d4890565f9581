"""All that a choice rests on, as tidy tables."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.choosing.candidates import Candidate
from harness.choosing.confirmation import Conditions, Confirmation
from harness.choosing.headline import Headline
from harness.choosing.power import Planned
from harness.choosing.rounds import Course
from harness.choosing.trust import MetricTrust
from harness.choosing.tune import Tuning
from harness.choosing.verdict import Decision


@dataclass(frozen=True)
class Evidence:
    """All that a choice rests on. What was not reached is None or empty.

    split              how many samples were for which step
    seconds, evaluations   what was spent, by all processes of this choice
    whole_grid         the evaluations that measuring all candidates on all samples takes (estimated); NaN if not known
    """

    decision: Decision
    headline: Headline
    candidates: Mapping[str, Candidate]
    split: Mapping[str, int]
    trust: MetricTrust | None
    course: Course | None
    tuning: Tuning | None
    confirmation: Confirmation | None
    conditions: Mapping[str, Conditions]
    seconds: float
    evaluations: float
    whole_grid: float

    def tables(self) -> dict[str, pd.DataFrame]:
        """The evidence as tidy tables, by name; those of steps that were not taken are left out."""
        found = {"candidates": self._candidates()}
        if self.trust is not None:
            found |= {"ladder": self.trust.table(), "agreement": self.trust.agreement()}
        if self.course is not None:
            found["race"] = self.course.table
        if self.tuning is not None and len(self.tuning.outcomes):
            found |= {"tuning": self.tuning.rungs, "held_out": self.tuning.outcomes}
        if self.confirmation is not None and self.confirmation.family.names:
            found["confirmation"] = self._confirmation()
        if self.conditions:
            found["conditions"] = pd.concat([each.rows for each in self.conditions.values()], ignore_index=True)
        return found

    def found_with_power(self) -> tuple[int, float, float] | None:
        """The number of samples that confirm, the smallest difference that they find with a probability of 80 %, and
        the step from the best maps to noise; None where no metric is used."""
        if self.trust is None or self.trust.step is None:
            return None
        taken = self.trust.planned
        if self.confirmation is not None and self.confirmation.family.names:
            family = self.confirmation.family
            taken = Planned(family.n, len(family.names), family.alpha)
        return taken.samples, self.trust.step.detectable(taken), self.trust.step.drop

    def _candidates(self) -> pd.DataFrame:
        left = {} if self.course is None else self.course.left
        rows = [
            {
                "explainer": each.label,
                "control": each.control,
                "left_out": each.reason,
                "left_race": left.get(each.label, "") if each.takes_part else "",
                "in_answer": each.label in (*self.decision.unconfirmed, *self.decision.alike)
                or each.label in [member.label for member in self.decision.members],
                "declared_evaluations": each.estimate,
                "evaluations": each.evaluations,
                "seconds_per_sample": each.seconds,
            }
            for each in self.candidates.values()
        ]
        return pd.DataFrame(rows)

    def _confirmation(self) -> pd.DataFrame:
        family, decision = self.confirmation.family, self.decision
        members = {each.label: each for each in decision.members}
        rows = []
        for name in family.names:
            against = decision.control if decision.control not in (None, name) else None
            low, high = family.interval(name, against) if against else (np.nan, np.nan)
            member = members.get(name)
            rows.append(
                {
                    "explainer": name,
                    "control": self.candidates[name].control,
                    "mean": self.confirmation.sign * family.values[:, family.names.index(name)].mean(),
                    "samples": family.n,
                    "against": against or "",
                    "gain": family.difference(name, against) if against else np.nan,
                    "gain_low": low,
                    "gain_high": high,
                    "seconds_per_sample": self.confirmation.seconds.get(name, np.nan),
                    "in_answer": name in members,
                    "recommended": name == decision.recommended,
                    "worse_than": decision.worse.get(name, ""),
                    "caveats": "; ".join(member.caveats) if member else "",
                }
            )
        return pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True)
