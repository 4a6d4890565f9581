"""Which explainers are left, and which of them is recommended: the rule, applied to what was confirmed.

Left are those that are not shown to be worse than the best, or than another one of these. Recommended can be one that
is shown to beat every control and fails no sanity check: the one that the purpose prefers, of these the cheapest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.choosing.candidates import Candidate
from harness.choosing.confirmation import Conditions, Confirmation
from harness.choosing.settings import Settings
from harness.results.statistics import interval

SAME_TIME = 1.5  # times that differ by a smaller factor are equal


@dataclass(frozen=True)
class Member:
    """One explainer of the answer.

    score    its mean on the samples of the confirmation, as the metric gives it, with its own 95 % interval
    gain     mean difference to the best control, with the interval that holds for all pairs together; None without one
    beats    whether it is shown to beat every control
    fits     whether it is what the purpose asks for
    caveats  what speaks against it, in words
    """

    label: str
    score: tuple[float, float, float]
    gain: tuple[float, float, float] | None
    seconds: float
    beats: bool
    fits: bool
    conditions: Conditions | None
    caveats: tuple[str, ...] = ()

    @property
    def sane(self) -> bool:
        """Whether it was checked and did not fail."""
        return self.conditions is not None and self.conditions.sanity != "fail"


@dataclass(frozen=True)
class Decision:
    """The outcome.

    members      the explainers that are left, the recommended one first
    recommended  its label; None if none is
    best         the explainer with the best mean
    control      the control with the best mean; None without one
    worse        those shown to be worse in the confirmation -> than which
    unconfirmed  those that the race has left beside the ones that were confirmed: not shown to be worse either
    alike        explainer -> the one in the answer that has had the same scores
    """

    members: list[Member] = field(default_factory=list)
    recommended: str | None = None
    best: str | None = None
    control: str | None = None
    worse: dict[str, str] = field(default_factory=dict)
    unconfirmed: list[str] = field(default_factory=list)
    alike: dict[str, str] = field(default_factory=dict)

    def member(self, label: str) -> Member:
        """The member with a label."""
        return next(each for each in self.members if each.label == label)

    def with_unconfirmed(self, unconfirmed: Sequence[str], alike: Mapping[str, str]) -> "Decision":
        """The same with those that were not confirmed, and with those that have had the scores of one in the answer."""
        there = {each.label for each in self.members} | set(unconfirmed)
        return replace(self, unconfirmed=list(unconfirmed), alike={n: o for n, o in alike.items() if o in there})


def decision_on(
    confirmation: Confirmation,
    candidates: Sequence[Candidate],
    settings: Settings,
    check: Callable[[Candidate], Conditions | None],
) -> Decision:
    """Apply the rule; ``check`` gives the conditions of an explainer, or None where the budget does not suffice."""
    family = confirmation.family
    by_label = {each.label: each for each in candidates if each.label in family.names}
    own = [name for name in family.names if not by_label[name].control]
    controls = [name for name in family.names if by_label[name].control]
    best, control = family.best(own), family.best(controls)
    if best is None:
        return Decision(control=control)
    worse = {name: best for name in own if family.better(best, name)}
    near = [name for name in own if name not in worse]
    worse |= {name: other for name in near for other in near if family.better(other, name)}
    near = [name for name in near if name not in worse]
    cheapness = _ranks_by_price(near, confirmation.seconds, {n: by_label[n].evaluations for n in near}).get
    may_fit = lambda name: _may_fit_purpose(by_label[name], confirmation.seconds.get(name, np.nan), settings)
    members = []
    # Conditions are checked as long as the budget lasts: first of those that may be what the purpose asks for.
    for name in sorted(near, key=lambda name: (not may_fit(name), cheapness(name))):
        beats = bool(controls) and all(family.better(name, each) for each in controls)
        conditions = check(by_label[name]) if beats else None
        members.append(_member(name, by_label[name], confirmation, control, beats, conditions, settings))
    # Nothing is recommended unchecked where others were checked: they have all failed.
    checked = any(each.conditions is not None for each in members)
    fit = lambda each: each.beats and (each.sane or not checked)
    members.sort(key=lambda each: (not fit(each), not each.fits, cheapness(each.label)))
    first = members[0].label if members and fit(members[0]) else None
    return Decision(members, first, best, control, worse)


def _ranks_by_price(
    names: Sequence[str], seconds: Mapping[str, float], evaluations: Mapping[str, float]
) -> dict[str, int]:
    """Name -> place from the cheapest. Times that differ by less than a half are equal: evaluations decide, then names,
    so that two runs agree."""
    known = lambda values, name: values[name] if np.isfinite(values.get(name, np.nan)) else np.inf
    left, order = sorted(names, key=lambda name: (known(seconds, name), name)), []
    while left:
        fastest = known(seconds, left[0])
        alike = [name for name in left if known(seconds, name) == fastest or known(seconds, name) < SAME_TIME * fastest]
        order += sorted(alike, key=lambda name: (known(evaluations, name), name))
        left = [name for name in left if name not in alike]
    return {name: place for place, name in enumerate(order)}


def _member(
    name: str,
    candidate: Candidate,
    confirmation: Confirmation,
    control: str | None,
    beats: bool,
    conditions: Conditions | None,
    settings: Settings,
) -> Member:
    family = confirmation.family
    values = family.values[:, family.names.index(name)]
    gain = None
    if control is not None:
        gain = (family.difference(name, control), *family.interval(name, control))
    seconds = confirmation.seconds.get(name, float("nan"))
    caveats = [] if beats else ["not shown to beat the controls"]
    caveats += _caveats_of(candidate, conditions) if beats else []
    fits = _fits_purpose(candidate, conditions, seconds, settings)
    turned = confirmation.sign * values
    score = (float(turned.mean()), *interval(turned))
    return Member(name, score, gain, seconds, beats, fits, conditions, tuple(caveats))


def _caveats_of(candidate: Candidate, conditions: Conditions | None) -> list[str]:
    entry = candidate.chosen.entry
    found = [] if entry.signed else ["unsigned"]
    found += ["one map for all classes"] if not entry.per_class else []
    if conditions is None:
        return [*found, "sanity not checked"]
    said = {"fail": "fails the sanity check", "undecided": "sanity undecided", "not done": "sanity not checked"}
    found += [said[conditions.sanity]] if conditions.sanity in said else []
    if conditions.stable == "fail":
        found.append("unstable under small noise")
    return found


def _may_fit_purpose(candidate: Candidate, seconds: float, settings: Settings) -> bool:
    """Whether an explainer is what the purpose asks for, as far as its declarations and its time tell."""
    entry = candidate.chosen.entry
    if settings.purpose == "debug":
        return entry.signed and entry.complete_to is not None
    if settings.purpose == "report":
        return entry.per_class
    return seconds <= settings.time_limit if settings.purpose == "realtime" else True


def _fits_purpose(candidate: Candidate, conditions: Conditions | None, seconds: float, settings: Settings) -> bool:
    """Whether an explainer is what the purpose asks for; a report needs maps that are shown to depend on the class, if
    there are several, and to be stable."""
    if settings.purpose == "report":
        shown = conditions is not None and conditions.per_class in ("pass", "not applicable")
        shown = shown and conditions.stable == "pass" and conditions.sanity != "fail"
        return shown and _may_fit_purpose(candidate, seconds, settings)
    return _may_fit_purpose(candidate, seconds, settings)


def missing_purpose(decision: Decision, settings: Settings) -> str:
    """A sentence if the recommended explainer is not what the purpose asks for; "" if it is."""
    if decision.recommended is None or settings.purpose is None or decision.member(decision.recommended).fits:
        return ""
    wants: Mapping[str, str] = {
        "debug": "has signed maps that add up to the output",
        "report": "is shown to depend on the class and to be stable",
        "realtime": f"takes at most {settings.time_limit:g} s a sample",
    }
    return f"None of the explainers that are left {wants[settings.purpose]}, which purpose={settings.purpose} wants."
