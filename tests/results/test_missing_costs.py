"""A cost that was not measured: every table shows a word and the reason, never 0, and no order takes it for cheap."""

import io

import numpy as np
import pandas as pd
import pytest

from harness.cli.check_table import print_checks
from harness.cli.main import main
from harness.results.boards import boards_of, boards_of_run
from harness.results.frames import read, read_cells
from harness.results.leaderboard import print_table
from harness.results.rows import CELL_COLUMNS
from harness.results.store import Store
from harness.views.report import write_report

SHARED, NOT_MEASURED = "the device was shared with another run", "not measured"
COSTS = ("seconds_per_sample", "setup_seconds", "forward_passes", "backward_passes", "peak_memory_mb")
SECONDS = {"lime": 0.5, "gradient": 0.001, "random": 0.0, "shared": np.nan}  # a cost of 0 is measured


def row(explainer, metric, value, **more):
    cost = metric in COSTS
    config = {"protocol": {"seed": 0}, "explainer": {"name": explainer}, "metric": {"name": metric}}
    missing = not np.isfinite(value)
    return {
        **{"cell": f"{metric}-{explainer}", "model": "net", "dataset": "data", "explainer": explainer},
        **{"metric": metric, "better": "lower" if cost else "higher", "kind": "cost" if cost else "faithfulness"},
        **{"unit": "", "status": "ok", "stick": "s", "device": "cpu", "value": None if missing else value},
        **{"n": 0 if missing else 20, "n_invalid": 20 if missing else 0, "error": SHARED if missing else ""},
        **{"config": config, **more},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Explainers of equal quality, of which one has no costs because of another run, and one has no cells of cost."""
    folder = tmp_path_factory.mktemp("costs")
    store, samples = Store(folder / "r"), [f"s{place}" for place in range(20)]
    shifts = {"lime": 0.9, "gradient": 0.9, "shared": 0.9, "absent": 0.9, "random": 0.0}
    for place, (explainer, shift) in enumerate(shifts.items()):
        values = shift + 0.1 * np.random.default_rng(place).normal(size=20)
        store.write_scores(f"srg-{explainer}", {"sample": samples, "value": values - values.mean() + shift})
        store.append(row(explainer, "srg", shift, ci_low=shift - 0.1, ci_high=shift + 0.1))
    for metric in COSTS:
        for explainer, value in SECONDS.items():
            store.write_scores(f"{metric}-{explainer}", {"sample": samples, "value": np.full(20, value)})
            store.append(row(explainer, metric, value))
    return folder


@pytest.fixture(scope="module")
def board(run):
    return boards_of_run(run / "r")[0]


@pytest.mark.parametrize("metric", COSTS)
def test_a_missing_cost_has_a_word_and_a_reason_and_no_number_and_no_rank(board, metric):
    for explainer, reason in (("shared", SHARED), ("absent", "not measured in this run")):
        place = board.places[metric, explainer]
        assert place.text == NOT_MEASURED and reason in place.note and place.value is None and not place.rank
    ranks = [board.places[metric, name].rank for name in ("random", "gradient", "lime")]
    assert ranks == ["#1", "#2", "#3"], "a cost that is missing keeps no other from its rank"


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "report"])
def test_every_table_shows_the_word_and_the_reason(run, form):
    if form == "terminal":
        file = io.StringIO()
        print_table(*read(run / "r"), file=file, width=200)
        text = file.getvalue()
    elif form == "report":
        text = write_report([run / "r"], run / "r.html").read_text() + (run / "r.md").read_text()
    else:
        assert main(["table", "r", "--runs", str(run), f"--{form}", str(run / form)]) == 0
        text = (run / form).read_text()
    assert text.count(NOT_MEASURED) >= 2 * len(COSTS) and SHARED in " ".join(text.split())


def test_the_rows_say_why_a_cost_is_missing(run):
    main(["table", "r", "--runs", str(run), "--long", "--csv", str(run / "long.csv")])
    rows = pd.read_csv(run / "long.csv").query("kind == 'cost' and explainer == 'shared'")
    assert len(rows) == len(COSTS) and rows["value"].isna().all() and set(rows["why"]) == {f"{NOT_MEASURED}: {SHARED}"}


def test_without_a_headline_explainers_without_a_cost_come_after_those_with_one(run):
    cells = read_cells(run / "r")
    order = boards_of(cells[cells["kind"] == "cost"])[0].explainers
    assert order[:3] == ["gradient", "lime", "shared"]


def test_a_check_on_a_shared_device_gives_no_seconds_and_says_why():
    told = {"status": "ok", "error": "", "flags": [], "caveat": "", "model": "net", "dataset": "data"}
    rows = pd.DataFrame(
        [{**told, "explainer": "e", "seconds": np.nan, "forwards": 3.0, "unmeasured": f"seconds: {SHARED}"}]
    )
    file = io.StringIO()
    print_checks(rows, file)
    line = next(line for line in file.getvalue().splitlines() if line.startswith("e "))
    assert line.split()[-1] == "unknown" and SHARED in file.getvalue()


def test_a_cost_that_was_not_measured_hides_no_difference_of_devices():
    cells = pd.DataFrame([row("lime", "seconds_per_sample", 0.5), row("rise", "seconds_per_sample", 1, device="gpu")])
    frame = cells.reindex(columns=list(dict.fromkeys([*cells, *CELL_COLUMNS])))
    assert boards_of(frame)[0].places["seconds_per_sample", "lime"].unranked == "measured on different devices"
