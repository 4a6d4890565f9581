"""Settings of a choice: what may be spent, in any form that can be meant, and what is refused in one line."""

import pytest

from harness.choosing.settings import REALTIME_SECONDS, Budget, Settings
from harness.errors import UserError

NUMBERS = {"1": 1.0, "90": 90.0, "2.5": 2.5, "007": 7.0, "10000000": 1e7}
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_time_is_so_many_seconds(number, unit):
    for text in (f"{number}{unit}", f" {number} {unit} "):
        budget = Budget.of(text)
        assert budget == Budget(seconds=NUMBERS[number] * UNITS[unit]) and budget.in_seconds


@pytest.mark.parametrize("given", [50000, "50000", 50000.0, "50000.0", " 50000 "])
def test_a_number_alone_is_evaluations(given):
    assert Budget.of(given) == Budget(evaluations=50000) and not Budget.of(given).in_seconds


def test_without_a_budget_nothing_is_limited():
    assert Budget.of(None) == Budget() == Budget(seconds=float("inf"), evaluations=float("inf"))


WRONG = ["", "soon", "10 minutes", "10d", "10M", "m", "-5m", "0", "0s", "2.5", "1e3", "5,000", "5m 30s", "nan", "٣m"]
WRONG += [0, -1, 2.5, float("inf"), True, []]


@pytest.mark.parametrize("given", WRONG, ids=map(repr, WRONG))
def test_any_other_budget_is_refused_in_one_line_that_shows_what_is_meant(given):
    with pytest.raises(UserError, match="budget is .*, expected a time such as budget=90s") as told:
        Settings(budget=given)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("purpose", "limit", "expected"),
    [(None, None, float("inf")), ("debug", None, float("inf")), ("realtime", None, REALTIME_SECONDS)]
    + [(purpose, 0.5, 0.5) for purpose in (None, "report", "realtime")],
)
def test_the_limit_of_time_is_that_which_is_given_or_that_of_the_purpose(purpose, limit, expected):
    assert Settings(purpose=purpose, max_seconds_per_sample=limit).time_limit == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"purpose": "fun"},
        {"alpha": 0.0},
        {"alpha": 0.6},
        {"alpha": "much"},
        {"max_seconds_per_sample": 0},
        {"max_seconds_per_sample": -1.0},
        {"tune": "perhaps"},
        {"budgets": "10m"},
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_by_its_name(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name) as told:
        Settings.of(wrong)
    assert "\n" not in str(told.value)


def test_settings_from_a_mapping_are_those_that_are_given():
    assert Settings.of({"alpha": 0.1, "budget": "5m"}) == Settings(budget="5m", alpha=0.1)
