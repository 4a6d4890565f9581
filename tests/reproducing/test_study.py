"""Parts of a study are kept exactly, and measured again when they have changed or are damaged."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from harness.reproducing.study import StudySetting, study

TABLE = pd.DataFrame(
    {
        "text": ["a", "b, c"],
        "number": [1e-18, float("nan")],
        "large": [float("inf"), 1 / 3],
        "whole": np.array([1, 2]),
        "yes": [True, False],
    }
)
CALLS = []


def part(factor=1):
    CALLS.append(factor)
    return TABLE.assign(number=TABLE["number"] * factor)


@pytest.fixture
def setting(tmp_path):
    CALLS.clear()
    return StudySetting("small", {}, tmp_path / "parts", None, lambda line: None)


def test_a_part_is_kept_as_it_is_and_measured_once(setting):
    for _ in range(2):
        pd.testing.assert_frame_equal(setting.kept("one part", part), TABLE)
    assert CALLS == [1]


def test_a_part_is_measured_again_if_what_it_is_given_changes(setting):
    setting.kept("part", part, factor=1)
    assert setting.kept("part", part, factor=2)["number"][0] == 2e-18
    assert CALLS == [1, 2]


def other():
    return TABLE.assign(text="other")


def test_parts_are_told_apart_by_name_and_by_what_makes_them(setting):
    names = ("a b", "a/b", "a,b")
    found = [setting.kept(name, make)["text"][0] for make in (part, other) for name in names]
    assert found == ["a"] * 3 + ["other"] * 3 and len(list(setting.folder.iterdir())) == 3
    assert all(json.loads(path.read_text())["seconds"] >= 0 for path in setting.folder.iterdir())


def test_a_part_whose_items_have_changed_is_measured_again(setting, monkeypatch):
    setting.kept("part", part)
    monkeypatch.setattr("harness.reproducing.study._code_of_items", lambda: "others")
    setting.kept("part", part)
    assert CALLS == [1, 1]


def dates():
    return pd.DataFrame({"when": [pd.Timestamp("2020-01-01")]})


def test_what_cannot_be_kept_is_named(setting):
    with pytest.raises(UserError, match="the part days holds Timestamp"):
        setting.kept("days", dates)


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"key": 1}'])
def test_a_damaged_part_is_measured_again(setting, damage):
    setting.kept("part", part)
    (path,) = setting.folder.iterdir()
    Path(path).write_text(damage)
    pd.testing.assert_frame_equal(setting.kept("part", part), TABLE)
    assert CALLS == [1, 1]


def test_a_part_that_cannot_be_written_is_told_in_one_line(setting):
    setting.folder.parent.mkdir(exist_ok=True)
    setting.folder.write_text("a file")
    with pytest.raises(UserError):
        setting.kept("part", part)


@pytest.mark.parametrize("name", ["nothing", "shared", "sanity_checks.nothing", ""])
def test_a_study_has_a_name(name):
    with pytest.raises(UserError, match=f"unknown study '{name}'") as refused:
        study(name)
    assert "shared" not in str(refused.value).partition("unknown study")[2].replace(f"'{name}'", "")
