"""Rows that another program or a disk has spoiled cost their own numbers, and nobody else's."""

import json
from types import SimpleNamespace

import pytest
import torch

from harness.batch import Scores
from harness.errors import UserError
from harness.jobs.recorders import RowRecorder, sample_frame
from harness.results.frames import REAL_COLUMNS, WHOLE_COLUMNS, configured, read, read_cells
from harness.results.store import Store

ABOUT = {"status": "ok", "model": "m", "dataset": "d", "explainer": "e", "metric": "srg"}


def write_rows(directory, *rows):
    (directory / "cells").mkdir(parents=True)
    (directory / "cells" / "w.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


ODD = {
    "text": "abc",
    "list": [1.0],
    "mapping": {"a": 1},
    "nothing": "",
    "infinite": float("inf"),
    "huge": 10**400,
    "half": 2.5,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", [*REAL_COLUMNS, *WHOLE_COLUMNS])
def test_a_row_with_what_is_no_number_is_named_and_no_row_and_the_others_stay(tmp_path, name, odd, caplog):
    write_rows(tmp_path, {"cell": "a", **ABOUT, name: odd}, {"cell": "b", **ABOUT, name: 3})
    cells = read_cells(tmp_path, without_scores=True).set_index("cell")
    readable = name in REAL_COLUMNS and odd in (2.5, float("inf"))
    assert ("a" in cells.index) == readable and cells[name]["b"] == 3
    reason = "it is not JSON: ValueError: a whole number of 401 digits" if odd == 10**400 else f"{name} is"
    assert (f"line 1 cannot be used: {reason}" in caplog.text) != readable
    assert str(cells[name].dtype) == ("float64" if name in REAL_COLUMNS else "Int64")


def test_a_long_seed_keeps_every_digit_beside_a_missing_one(tmp_path):
    write_rows(tmp_path, {"cell": "a", **ABOUT, "seed": 2**62 + 1}, {"cell": "b", **ABOUT})
    assert read_cells(tmp_path, without_scores=True)["seed"][0] == 2**62 + 1


@pytest.mark.parametrize("name", ABOUT)
def test_a_row_with_a_name_that_is_no_text_is_no_row(tmp_path, name):
    Store(tmp_path).write_scores("a", {"sample": ["s"], "value": [1.0]})
    Store(tmp_path).write_scores("b", {"sample": ["s"], "value": [2.0]})
    write_rows(tmp_path, {"cell": "a", **ABOUT, name: ["x"]}, {"cell": "b", **ABOUT})
    cells, scores = read(tmp_path)
    assert cells["cell"].tolist() == ["b"] and scores.set_index("cell")["value"].to_dict() == {"b": 2.0}


def test_a_configuration_that_is_no_configuration_has_no_sections():
    assert configured("abc", "protocol") == configured("[1]", "protocol") == configured("", "protocol") == {}


def test_scores_that_are_no_parquet_are_named_in_one_line_and_the_others_are_read(tmp_path, caplog):
    write_rows(tmp_path, {"cell": "a", **ABOUT}, {"cell": "b", **ABOUT})
    Store(tmp_path).write_scores("a", {"sample": ["s"], "value": [1.0]})
    Store(tmp_path).scores_path("b").write_bytes(b"junk that is no table")
    cells, scores = read(tmp_path)
    assert cells.set_index("cell")["status"].to_dict() == {"a": "ok", "b": "failed"} and set(scores["cell"]) == {"a"}
    (line,) = caplog.messages
    assert "b.parquet is damaged" in line and "\n" not in line


@pytest.mark.parametrize("written, expected", [(1, 2), (4, 5), ("x", 2), (None, 2), ([2], 2), (-3, 2)])
def test_an_attempt_that_is_no_number_counts_as_the_first(tmp_path, written, expected):
    before = {"c": {"stick": "s", "subject": "code-weights", "status": "failed", "attempt": written}}
    recorder = RowRecorder(None, Store(tmp_path), before, None)
    assert recorder._attempt(SimpleNamespace(id="c"), "s", "code") == expected


@pytest.mark.parametrize("ids, scores", [(2, 3), (3, 2)])
def test_ids_or_scores_of_the_wrong_number_are_an_error_in_one_line(ids, scores):
    stage = SimpleNamespace(count=3, data=SimpleNamespace(ids=["i"] * ids), targets=torch.zeros(3), predictions=None)
    with pytest.raises(UserError, match=f"{ids} ids and {scores} scores"):
        sample_frame(stage, Scores(torch.zeros(scores)))
