"""RUN is a name, a path, latest or previous."""

import os

import pytest

from harness.errors import UserError
from harness.results.frames import find_run
from harness.results.store import Store


@pytest.fixture
def runs(tmp_path):
    for day, name in enumerate(("zeta", "alpha", "mid"), start=1):
        finished = f"2030-01-0{day}T00:00:00.000000+00:00"
        Store(tmp_path / name).append({"cell": "a", "status": "ok", "finished": finished})
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_latest_and_previous_go_by_the_last_row_written(runs):
    assert find_run("latest", runs) == runs / "mid"
    assert find_run("previous", runs) == runs / "alpha"
    Store(runs / "zeta").append({"cell": "b", "status": "failed", "finished": "2030-01-09T00:00:00.000000+00:00"})
    assert find_run("latest", runs) == runs / "zeta"
    assert find_run("previous", runs) == runs / "mid"


def test_copying_a_run_does_not_make_it_the_latest(runs):
    for path in (runs / "zeta" / "cells").iterdir():
        os.utime(path)
    assert find_run("latest", runs) == runs / "mid"


def test_a_torn_last_line_does_not_hide_the_row_before_it(runs):
    (path,) = Store(runs / "mid").files()
    with open(path, "ab") as file:
        file.write(b'{"cell": "b", "finished": "2020')
    assert find_run("latest", runs) == runs / "mid"


def test_a_run_is_found_by_name_and_by_path(runs, monkeypatch):
    assert find_run("alpha", runs) == runs / "alpha"
    monkeypatch.chdir(runs)
    assert find_run(runs / "alpha", "elsewhere") == runs / "alpha"
    assert find_run("alpha", "elsewhere").resolve() == runs / "alpha"


def test_a_missing_run_is_an_error_that_lists_what_there_is(runs):
    with pytest.raises(UserError, match="no run 'omega'.*mid, alpha, zeta"):
        find_run("omega", runs)


def test_without_runs_there_is_no_latest_and_with_one_no_previous(tmp_path):
    with pytest.raises(UserError, match="no runs"):
        find_run("latest", tmp_path / "nowhere")
    Store(tmp_path / "first").append({"cell": "a", "status": "ok"})
    with pytest.raises(UserError, match="no previous run: .* has first"):
        find_run("previous", tmp_path)
