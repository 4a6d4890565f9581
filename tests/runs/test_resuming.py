"""A run may end at any moment: the same command goes on, and the table is that of an undisturbed run."""

import signal
import time

import pandas as pd
import pytest

import harness
from harness.jobs.plan import Plan
from harness.results.frames import read
from harness.results.store import Store

STEADY = ["model", "dataset", "explainer", "metric", "value", "std", "ci_low", "ci_high", "n", "n_invalid", "status"]


def results(directory):
    """What a reader of a run sees, without times and names of runs."""
    cells, scores = read(directory)
    cells = cells.sort_values("cell").set_index("cell")[STEADY]
    return cells, scores.sort_values(["cell", "sample"]).set_index(["cell", "sample"])[["value", "valid"]]


def assert_equal_results(first, second):
    for one, other in zip(results(first), results(second), strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-6, atol=1e-7)


def test_a_killed_run_resumes_loses_at_most_one_cell_and_ends_equal_to_an_undisturbed_one(config, elsewhere, tmp_path):
    config["metric"] = {
        "first": {"name": "toys:drop"},
        "second": {"name": "toys:slow_total"},
        "third": {"name": "toys:total", "scale": 3.0},
    }
    process = elsewhere(config)
    store = Store(tmp_path / "night")
    deadline = time.monotonic() + 120
    while not store.latest() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = store.latest()
    assert 0 < len(kept) < 6, "the kill was meant to hit the middle of the run"

    harness.run(config)
    assert {cell: store.latest()[cell]["finished"] for cell in kept} == {c: row["finished"] for c, row in kept.items()}
    undisturbed = harness.run({**config, "run": "calm"})
    assert_equal_results(tmp_path / "night", undisturbed)


def test_a_torn_last_line_costs_that_cell_only(config, tmp_path):
    directory = harness.run(config)
    calm = results(directory)
    (file,) = (directory / "cells").glob("*.jsonl")
    text = file.read_text()
    file.write_text(text[: text.rstrip("\n").rfind("\n") + 40])
    assert len(Store(directory).latest()) == 3
    harness.run(config)
    for one, other in zip(calm, results(directory), strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-6)


def test_two_writers_at_once_leave_one_whole_table(config, elsewhere, tmp_path):
    writers = [elsewhere(config), elsewhere(config)]
    assert [writer.wait(timeout=240) for writer in writers] == [0, 0], [w.stderr.read() for w in writers]
    undisturbed = harness.run({**config, "run": "calm"})
    assert_equal_results(tmp_path / "night", undisturbed)


def test_a_finished_run_loads_no_model(config, monkeypatch):
    harness.run(config)
    monkeypatch.setattr("harness.jobs.runner.load_stage", lambda *_: pytest.fail("a model was loaded"))
    harness.run(config)


def test_an_amended_command_measures_the_difference_only(config, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    config["explainer"] = {"counted": {"name": "toys:counted"}}
    config["runtime"]["warm_up"] = False
    directory = harness.run(config)
    before = Store(directory).latest()
    config["metric"]["more"] = {"name": "toys:total", "scale": 5.0}
    harness.run(config)
    after = Store(directory).latest()
    assert len(after) == len(before) + 1
    assert all(after[cell] == row for cell, row in before.items())
    # 8 samples, 3 a call: three calls, and one to see whether it uses the model; all of that twice
    assert (tmp_path / "calls").read_text() == "x" * 8


def test_scores_that_were_deleted_are_measured_again(config):
    directory = harness.run(config)
    victim = next((directory / "scores").glob("*.parquet"))
    victim.unlink()
    harness.run(config)
    assert victim.is_file()


@pytest.mark.parametrize("side", ["stick", "subject_code"])
def test_changed_code_makes_cells_stale(config, side, monkeypatch):
    harness.run(config)
    monkeypatch.setattr(Plan, side, lambda self, chosen: "changed")
    plan = Plan.of(config)
    rows = Store(plan.directory).latest()
    assert [plan.state(cell, rows[cell.id]) for cell in plan.cells] == ["stale"] * 4
    harness.run(config)
    rows = Store(plan.directory).latest()
    assert [plan.state(cell, rows[cell.id]) for cell in plan.cells] == ["done"] * 4


def test_other_weights_under_the_same_name_make_cells_stale_once_the_model_is_loaded(config, monkeypatch):
    directory = harness.run(config)
    before = {cell: row["value"] for cell, row in Store(directory).latest().items()}
    monkeypatch.setenv("RETRAINED", "1")
    config["metric"]["more"] = {"name": "toys:total", "scale": 5.0}
    harness.run(config)
    after = {cell: row["value"] for cell, row in Store(directory).latest().items()}
    assert all(after[cell] != value for cell, value in before.items())


def test_a_weights_file_of_other_content_makes_cells_stale_before_anything_is_loaded(config, tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"one")
    config["model"] = {"name": "toys:net", "weights": str(file)}
    plan = Plan.of(config)
    rows = Store(harness.run(config)).latest()
    assert not plan.pending(rows)
    file.write_bytes(b"two")
    assert len(Plan.of(config).pending(rows)) == 4
