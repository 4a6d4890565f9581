"""Which explainer is recommended: the cheapest of the best that beats the controls and fits the purpose."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

import harness
from harness.choosing.choice import Choice
from harness.choosing.confirmation import Conditions, Confirmation
from harness.choosing.evidence import Evidence
from harness.choosing.power import Planned, Step
from harness.choosing.rounds import Course
from harness.choosing.settings import Settings
from harness.choosing.trust import MetricTrust, Trusted
from harness.choosing.verdict import decision_on, missing_purpose
from harness.results.family import all_pairs
from harness.results.matrices import Matrix
from planted_scores import HEADLINE, candidate_called, measuring_of

NO_ROWS = pd.DataFrame()
PASSED = Conditions("pass", "pass", "pass", NO_ROWS)


def decided(means, *, seconds=None, capabilities=None, conditions=None, spread=0.05, samples=40, **settings):
    """The decision on explainers with these planted means; those called ``random`` or ``edge`` are controls.

    ``seconds``, ``capabilities`` and ``conditions`` are those that are not 1 s, none and all passed. Returned are also
    the names of those whose conditions were checked, the confirmation and the candidates.
    """
    seconds, capabilities, conditions = seconds or {}, capabilities or {}, conditions or {}
    scores = {name: mean + spread * torch.randn(samples).numpy() for name, mean in means.items()}
    family = all_pairs(Matrix({"metric": "srg"}, pd.DataFrame(scores), "higher"), alpha=0.025)
    kind = lambda name: {"control": name in ("random", "edge"), **capabilities.get(name, {})}
    candidates = [candidate_called(name, **kind(name)) for name in means]
    confirmation = Confirmation(family, {name: seconds.get(name, 1.0) for name in means}, {})
    checked = []

    def check(candidate):
        checked.append(candidate.label)
        return conditions.get(candidate.label, PASSED)

    decision = decision_on(confirmation, candidates, Settings(**settings), check)
    return decision, checked, confirmation, candidates


THREE = {"a": 0.5, "b": 0.5, "c": 0.5, "random": 0.0}


def test_of_those_that_tie_the_cheapest_is_recommended_and_those_shown_to_be_worse_are_out():
    decision, *_ = decided(THREE | {"worse": 0.2}, seconds={"a": 3.0, "b": 0.1, "c": 2.0, "worse": 0.001})
    assert [each.label for each in decision.members] == ["b", "c", "a"] and decision.recommended == "b"
    assert list(decision.worse) == ["worse"] and decision.control == "random"
    member = decision.member("b")
    assert member.beats and member.fits and member.gain[1] < 0.5 < member.gain[2] and not member.caveats


def test_an_unknown_time_is_dearer_than_any_known_one():
    decision, *_ = decided(THREE, seconds={"a": float("nan"), "b": 9.0, "c": float("nan")})
    assert [each.label for each in decision.members] == ["b", "a", "c"]


FITS = {
    "debug": (
        {"a": {"signed": False, "complete_to": "baseline"}, "b": {"complete_to": "output"}, "c": {"signed": True}},
        {},
    ),
    "report": (
        {"a": {"per_class": False}},
        {"c": Conditions("pass", "pass", "undecided", NO_ROWS)},
    ),
    "realtime": ({}, {}),
}


@pytest.mark.parametrize("purpose", FITS)
def test_each_purpose_puts_first_what_fits_it_though_others_are_cheaper(purpose):
    capabilities, conditions = FITS[purpose]
    seconds = {"a": 0.5, "b": 0.09, "c": 0.2} if purpose == "realtime" else {"a": 0.01, "b": 3.0, "c": 0.1}
    settings = {"purpose": purpose}
    decision, *_ = decided(THREE, seconds=seconds, capabilities=capabilities, conditions=conditions, **settings)
    assert [each.label for each in decision.members if each.fits] == ["b"]
    assert decision.recommended == "b" and missing_purpose(decision, Settings(**settings)) == ""
    rest = [each.label for each in decision.members[1:]]
    assert rest == sorted(rest, key=seconds.get)


NOT_SHOWN = {
    "class not checked": Conditions("pass", "not done", "pass", NO_ROWS),
    "class undecided": Conditions("pass", "undecided", "pass", NO_ROWS),
    "class ignored": Conditions("pass", "fail", "pass", NO_ROWS),
    "stability undecided": Conditions("pass", "pass", "undecided", NO_ROWS),
    "unstable": Conditions("pass", "pass", "fail", NO_ROWS),
}


@pytest.mark.parametrize("kind", NOT_SHOWN)
def test_a_report_wants_what_is_shown(kind):
    decision, *_ = decided({"a": 0.5, "random": 0.0}, conditions={"a": NOT_SHOWN[kind]}, purpose="report")
    assert decision.recommended == "a" and not decision.members[0].fits
    single = Conditions("pass", "not applicable", "pass", NO_ROWS)  # of a model with one output
    assert decided({"a": 0.5, "random": 0.0}, conditions={"a": single}, purpose="report")[0].members[0].fits


WANTS = {
    "debug": "has signed maps that add up to the output",
    "report": "is shown to depend on the class and to be stable",
    "realtime": "takes at most 0.1 s a sample",
}


@pytest.mark.parametrize("purpose", WANTS)
def test_where_none_fits_the_purpose_that_is_said_and_the_cheapest_is_recommended(purpose):
    unstable = {name: Conditions("pass", "pass", "fail", NO_ROWS) for name in "abc"}
    decision, *_ = decided(THREE, seconds={"a": 3.0, "b": 0.5, "c": 2.0}, conditions=unstable, purpose=purpose)
    words = f"None of the explainers that are left {WANTS[purpose]}, which purpose={purpose} wants."
    assert decision.recommended == "b" and missing_purpose(decision, Settings(purpose=purpose)) == words


@pytest.mark.parametrize("purpose", [None, *FITS])
def test_who_fails_the_sanity_check_is_never_recommended(purpose):
    failed = Conditions("fail", "pass", "pass", NO_ROWS)
    fit = {"complete_to": "output"}
    decided_on = lambda conditions: decided(
        THREE, seconds={"a": 0.01}, capabilities={"a": fit}, conditions=conditions, purpose=purpose
    )[0]
    sane = Conditions("undecided", "pass", "pass", NO_ROWS)
    decision = decided_on({"a": failed, "b": sane})
    assert decision.recommended == "b" and decision.members[-1].label in ("a", "c")
    assert "fails the sanity check" in decision.member("a").caveats
    assert decided_on(dict.fromkeys("abc", failed)).recommended is None
    unchecked = dict.fromkeys("abc", None)
    assert decided_on(unchecked | {"a": failed}).recommended is None  # of three, the one that was checked has failed
    assert decided_on(unchecked).recommended is not None  # nothing could be checked: it is a caveat


def test_nobody_is_recommended_who_does_not_beat_every_control():
    decision, checked, *_ = decided({"a": 0.5, "random": 0.0, "edge": 0.5})
    assert decision.recommended is None and not checked and decision.control == "edge"
    assert decision.members[0].caveats == ("not shown to beat the controls",)
    assert decided({"random": 0.0, "edge": 0.5})[0].best is None


def test_conditions_are_checked_first_of_those_that_may_fit():
    seconds, complete = {"a": 0.1, "b": 0.2, "c": 9.0}, {"c": {"complete_to": "output"}}
    assert decided(THREE, seconds=seconds, capabilities=complete, purpose="debug")[1] == ["c", "a", "b"]
    assert decided(THREE, seconds=seconds)[1] == ["a", "b", "c"]


def test_caveats_say_what_speaks_against_an_explainer():
    capabilities = {"a": {"signed": False, "per_class": False}}
    conditions = {"a": Conditions("undecided", "pass", "fail", NO_ROWS), "b": None}
    conditions |= {"c": Conditions("not done", "pass", "pass", NO_ROWS)}
    decision, *_ = decided(THREE, capabilities=capabilities, conditions=conditions)
    assert decision.member("a").caveats == (
        "unsigned",
        "one map for all classes",
        "sanity undecided",
        "unstable under small noise",
    )
    assert decision.member("b").caveats == decision.member("c").caveats == ("sanity not checked",)


# What is said


def said(means, *, drop=0.5, spread=0.05, behind=(), unused=(), **more):
    """The whole answer by planted means; ``drop`` is the step from the best maps to noise that trust has found."""
    decision, _, confirmation, candidates = decided(means, spread=spread, **more)
    decision = replace(decision, unconfirmed=list(behind))
    step, nan = Step(drop, spread * 2**0.5, 20), float("nan")
    found = [
        Trusted(name, nan, (nan,) * 5, (nan,) * 3, (nan,) * 2, step, "it did not fall" if name in unused else "")
        for name in ("srg blur", "srg noise", *unused)
    ]
    trust = MetricTrust(found, Planned(12, 8, 0.025), {("srg blur", "srg noise"): -1.0 if unused else 1.0}, step)
    course = Course(pd.DataFrame(), pd.DataFrame(), {}, [], unmeasured=list(behind))
    taken = (confirmation, {}, 1.0, 100.0, nan)
    by_label = {each.label: each for each in candidates}
    evidence = Evidence(decision, HEADLINE, by_label, {}, trust, course, None, *taken)
    data = harness.Data(torch.randn(8, 3), labels=torch.zeros(8, dtype=torch.long), task="classes")
    stage = measuring_of(torch.nn.Linear(3, 2).eval(), data, target="label").stage
    return Choice(evidence, Settings(), stage, "" if decision.recommended else "controls")


def test_what_is_too_small_to_be_found_is_said_where_that_is_much():
    few = said({"a": 0.5, "random": 0.0}, spread=0.2, samples=10)
    (told,) = [each for each in few.caveats if "80 % power" in each]
    assert told.startswith("With 10 rows only differences above 0.") and told.endswith("from the best maps to noise.")
    share = float(told.split("that is ")[1].split(" %")[0])
    smallest = float(told.split("above ")[1].split(" ")[0])
    assert 50 < share == pytest.approx(100 * smallest / 0.5, abs=1)
    assert not [each for each in said({"a": 0.5, "random": 0.0}, spread=0.2, samples=200).caveats if "power" in each]
    (told,) = [each for each in said({"a": 0.5, "random": 0.0}, samples=5).caveats if "too few" in each]
    assert told == "5 rows are too few to find any difference."


def test_an_answer_with_every_caveat_has_fifteen_lines():
    names = {f"explainer_{number}": 0.5 for number in range(8)}
    behind, unused = [f"slow_{number}" for number in range(5)], ["srg zero", "srg mean"]
    choice = said(names | {"random": 0.0}, spread=0.3, samples=60, behind=behind, unused=unused, purpose="debug")
    assert len(choice.caveats) == 4 and len(str(choice).splitlines()) <= 15
    assert all(each in str(choice) for each in choice.caveats)
    assert "Not confirmed" in choice.caveats[-1] and "too dear" in choice.caveats[-1]
