"""Every planned cell has a row; whatever went wrong, the row says what, and the other cells are whole."""

import errno
import os

import pytest

import harness
from harness.errors import NotMeasured, UserError
from harness.jobs.plan import Plan
from harness.results.frames import read
from harness.results.store import Store


def cells_of(directory):
    return read(directory)[0].set_index(["explainer", "metric"])


def test_one_failing_explainer_leaves_the_others_whole(config, monkeypatch, tmp_path):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    alone = cells_of(harness.run({**config, "run": "alone"}))
    config["explainer"] = {"fragile": {"name": "toys:fragile"}, **config["explainer"]}
    directory = harness.run(config)
    cells = cells_of(directory)
    assert (cells.loc["fragile", "status"] == "failed").all()
    assert (cells.loc["fragile", "stage"] == "explain").all()
    assert cells.loc[("fragile", "drop"), "error"] == "RuntimeError: not mended yet"
    assert "Traceback" in (directory / "errors" / f"{cells.loc[('fragile', 'drop'), 'cell']}.txt").read_text()
    assert cells.loc["gradient", "value"].equals(alone.loc["gradient", "value"])


def test_a_failed_cell_is_tried_twice_and_no_more_until_its_code_changes(config, monkeypatch, tmp_path):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    config["explainer"] = {"fragile": {"name": "toys:fragile"}}
    for expected_attempt in (1, 2, 2):
        directory = harness.run(config)
        assert set(cells_of(directory)["attempt"]) == {expected_attempt}
    (tmp_path / "mended").touch()
    assert set(cells_of(harness.run(config))["status"]) == {"failed"}
    config["runtime"]["retry"] = True
    assert set(cells_of(harness.run(config))["status"]) == {"ok"}


def test_a_cell_that_failed_once_is_retried_and_mended(config, monkeypatch, tmp_path):
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    config["explainer"] = {"fragile": {"name": "toys:fragile"}}
    harness.run(config)
    (tmp_path / "mended").touch()
    cells = cells_of(harness.run(config))
    assert set(cells["status"]) == {"ok"} and set(cells["attempt"]) == {2}


def test_attributions_that_are_not_finite_are_counted_and_said(config):
    config["explainer"] = {"half": {"name": "toys:half_finite"}}
    directory = harness.run(config)
    cells, scores = read(directory)
    first_pixels = __import__("toys").images().inputs[:, 0, 0, 0]
    invalid = int((first_pixels < 0.5).sum())
    assert 0 < invalid < 8
    assert set(cells["n_invalid"]) == {invalid} and set(cells["n"]) == {8 - invalid}
    assert cells["error"].str.contains(f"{invalid} of 8 attributions hold NaN").all()
    assert scores.groupby("metric")["valid"].sum().eq(8 - invalid).all()
    assert scores.loc[~scores["valid"], "value"].isna().all()


def test_a_declined_cell_is_not_a_failure(config):
    config["explainer"] = {"shy": {"name": "toys:not_for_you"}}
    cells = cells_of(harness.run(config))
    assert set(cells["status"]) == {"not_applicable"} and set(cells["error"]) == {"needs wings"}


def test_an_explainer_that_spoils_the_model_fails_and_the_next_sees_the_model_whole(config):
    alone = cells_of(harness.run({**config, "run": "alone"}))
    config["explainer"] = {"vandal": {"name": "toys:vandal"}, **config["explainer"]}
    cells = cells_of(harness.run(config))
    assert cells.loc["vandal", "error"].str.contains("changed the model: the values of 0.weight").all()
    assert cells.loc["gradient", "value"].equals(alone.loc["gradient", "value"])


def test_a_metric_without_any_value_is_not_applicable_for_its_reason(config):
    config["metric"] = {"undefined": {"name": "toys:undefined"}}
    cells = cells_of(harness.run(config))
    assert set(cells["status"]) == {"not_applicable"} and cells["error"].str.contains("nothing to measure").all()


def test_equal_maps_of_two_explainers_are_flagged(config):
    config["explainer"]["again"] = {"name": "toys:gradient_map", "factor": 1.0 + 1e-9}
    cells = cells_of(harness.run(config))
    assert list(cells.loc["again", "flags"]) == [["equal to gradient"]] * 2
    assert list(cells.loc["gradient", "flags"]) == list(cells.loc["twice", "flags"]) == [[], []]


def test_data_that_the_model_does_not_take_makes_every_cell_not_applicable(config):
    cells = cells_of(harness.run({**config, "dataset": "toys:tables"}))
    assert set(cells["status"]) == {"not_applicable"} and len(cells) == 4
    assert cells["error"].str.contains("does not take inputs of shape").all()


def test_a_mistake_in_the_command_is_one_line_and_leaves_no_row(config):
    with pytest.raises(UserError, match="the data set is empty, expected at least one sample"):
        harness.run({**config, "dataset": "toys:empty"})
    assert not Plan.of(config).directory.exists()


def test_a_model_that_cannot_be_loaded_leaves_rows_that_are_tried_again(config, monkeypatch):
    def broken(*_):
        raise OSError("no such host")

    with monkeypatch.context() as patched:
        patched.setattr("harness.jobs.runner.load_stage", broken)
        with pytest.raises(NotMeasured, match="could not be loaded: OSError: no such host"):
            harness.run(config)
    plan = Plan.of(config)
    rows = Store(plan.directory).latest()
    assert {row["stage"] for row in rows.values()} == {"load"}
    assert len(plan.pending(rows)) == 4


def test_a_full_disk_is_one_line_and_loses_no_finished_cell(config, monkeypatch):
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len([t for t in calls if str(t).endswith(".parquet")]) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(UserError, match="No space left on device"):
            harness.run(config)
    plan = Plan.of(config)
    assert len(Store(plan.directory).latest()) == 2
    harness.run(config)
    assert len(Store(plan.directory).latest()) == 4
