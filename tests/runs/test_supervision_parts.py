"""Rounds and shards under supervision: each part is a run of its own; what ends a worker costs cells of one part."""

import itertools
import re

import pytest

import harness
from harness.cli.run import configs_of_shards
from harness.errors import NotMeasured
from harness.jobs.supervisor import Supervisor
from harness.results.frames import read
from harness.results.score_table import SCORE_COLUMNS
from harness.results.store import Store
from test_supervision import GOOD, TOTAL, cells_of, hostile, settings, supervised

SAMPLES, DEADLY = 40, 39  # the last sample is in the second part
PARTS = {"rounds": "rounds/{}", "shards": "shards/{}-of-2"}
ENDED = "the process ended itself with exit status 4 after"


def cut(kind, folder, explainers, metrics=TOTAL, **changes):
    """A block of 40 samples in two rounds, after which none are left, or in two shards that one command measures."""
    found = settings(folder, explainers, metrics, **({"shards": 2} if kind == "shards" else {}))
    protocol = {"explain_batch": 5} | ({"precision": 1e-9} if kind == "rounds" else {})
    return {**found, "dataset": {"name": "hostile:images", "count": SAMPLES}, "protocol": protocol, **changes}


def statuses_in(run, kind):
    """Of both parts, the status of each explainer's cell."""
    stores = [Store(run / PARTS[kind].format(number)) for number in range(2)]
    return [{row["explainer"]: row["status"] for row in store.latest().values()} for store in stores]


@pytest.fixture(scope="module", params=PARTS)
def in_parts(request, tmp_path_factory):
    """A run in parts, one explainer of which leaves threads, and one ends the process in the second part."""
    folder = tmp_path_factory.mktemp(request.param)
    dies = {**hostile("dies_at"), "sample": DEADLY, "count": SAMPLES}
    explainers = {"lingering": hostile("lingering"), "dies": dies, **GOOD}
    status = supervised(cut(request.param, folder, explainers))
    return request.param, folder, status


def test_an_explainer_that_ends_the_process_in_a_later_part_costs_its_cells_of_that_part(in_parts):
    kind, folder, status = in_parts
    ok = {"lingering": "ok", "before": "ok", "after": "ok"}
    assert statuses_in(folder / "night", kind) == [{**ok, "dies": "ok"}, {**ok, "dies": "failed"}] and status == 1


def test_the_run_has_the_other_scores_of_all_parts_and_says_why_one_is_lacking(in_parts, tmp_path):
    kind, folder, _ = in_parts
    cells, calm = cells_of(folder), harness.run(cut("whole", tmp_path, GOOD))
    assert re.match(f"failed: {ENDED}", cells.loc[("dies", "total"), "row"])
    assert set(cells["n"][cells["status"] == "ok"]) == {SAMPLES} and len(cells) == 4
    expected = read(calm)[0].set_index(["explainer", "metric"])["value"]
    for label in GOOD:
        assert cells.loc[(label, "total"), "value"] == pytest.approx(expected[(label, "total")], rel=1e-5)


@pytest.mark.parametrize("kind", PARTS)
def test_a_cell_that_ends_its_process_in_a_part_is_tried_by_a_command_once_and_in_all_twice(kind, tmp_path):
    block = cut(kind, tmp_path, {"dies": hostile("exit_status"), "after": GOOD["after"]})
    for attempt in (1, 2, 2):
        supervisor = Supervisor()
        try:  # as ``harness run`` does: each shard is a job of one command
            assert {supervisor.measure(each, in_sweep=False) for each in configs_of_shards(block)} == {1}
        finally:
            supervisor.end()
        assert statuses_in(tmp_path / "night", kind) == [{"dies": "failed", "after": "ok"}, {"after": "ok"}]
        cells = cells_of(tmp_path)
        assert cells.loc[("dies", "total"), "attempt"] == attempt and cells.loc[("after", "total"), "status"] == "ok"
        assert "the process ended itself" in cells.loc[("dies", "total"), "error"]


def test_commands_that_measure_a_shard_each_try_a_cell_that_ends_their_process_twice_in_all(tmp_path):
    block = cut("shards", tmp_path, {"dies": hostile("exit_status"), "after": GOOD["after"]})
    block["runtime"]["shards"] = 3
    for shard in range(3):
        assert supervised({**block, "runtime": {**block["runtime"], "shard": shard}}) == 1
    stores = [Store(tmp_path / "night" / f"shards/{number}-of-3") for number in range(3)]
    attempts = [{row["explainer"]: row["attempt"] for row in store.latest().values()} for store in stores]
    assert attempts == [{"dies": 1, "after": 1}, {"dies": 2, "after": 1}, {"after": 1}]
    assert cells_of(tmp_path)["status"].to_dict() == {("dies", "total"): "failed", ("after", "total"): "ok"}


def test_nothing_of_the_announcements_of_parts_is_left(in_parts):
    kind, folder, _ = in_parts
    assert not list(folder.rglob("working")) and len(list((folder / "night" / kind).iterdir())) == 2


def test_a_process_that_ends_while_a_later_part_is_loaded_leaves_the_rows_of_the_others(tmp_path):
    model = {**hostile("net_once"), "mark": str(tmp_path / "mark")}
    with pytest.raises(NotMeasured, match=f"could not be loaded: {ENDED}"):
        supervised(cut("rounds", tmp_path, GOOD, model=model))
    assert statuses_in(tmp_path / "night", "rounds") == [dict.fromkeys(GOOD, "ok"), dict.fromkeys(GOOD, "failed")]


def test_a_process_that_ends_while_a_model_is_loaded_leaves_older_scores_although_they_are_stale(tmp_path):
    model = {**hostile("net_once"), "mark": str(tmp_path / "mark")}
    block = cut("whole", tmp_path, GOOD, model=model)
    store = Store(harness.run(block))
    _, scores = read(store.directory)
    for row in store.latest().values():
        stale = {**row, "stick": "of other code"}
        columns = scores.loc[scores["cell"] == row["cell"], list(SCORE_COLUMNS[1:])]
        store.write_scores(row["cell"], columns, stale)
        store.append(stale)
    block["metric"] = {**TOTAL, "drop": {"name": "toys:drop"}}
    with pytest.raises(NotMeasured, match=f"could not be loaded: {ENDED}"):
        supervised(block)
    found = cells_of(tmp_path)["status"].to_dict()
    assert found == {
        (label, metric): "ok" if metric == "total" else "failed"
        for label, metric in itertools.product(GOOD, ("total", "drop"))
    }
