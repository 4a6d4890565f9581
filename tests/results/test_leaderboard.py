"""The table of a run reads well in a log: nothing is hidden, nothing is coloured, nothing wraps inside a cell."""

import io
import json
import os
import re

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from harness.results.frames import read, read_cells
from harness.results.numbers import count, significant
from harness.results.statistics import summarise
from harness.results.store import Store
from harness.results.tables import print_table, to_csv, to_parquet

SEED = int(os.environ["HARNESS_TEST_SEED"])
METRICS = {
    "srg": ("faithfulness", "probability", "higher"),
    "deletion": ("faithfulness", "probability", "lower"),
    "max_sensitivity": ("robustness", "relative change", "lower"),
    "effective_complexity": ("complexity", "units", None),
    "seconds_per_sample": ("cost", "seconds", "lower"),
    "forward_passes": ("cost", "passes", "lower"),
}
MEANS = {"lrp": 0.5, "saliency": 0.4, "grad_cam": 0.3, "random": 0.9}


def row(explainer, metric, mean=None, **more):
    kind, unit, better = METRICS[metric]
    values = np.random.default_rng(SEED).normal(size=20)
    mean = MEANS[explainer] if mean is None else mean
    about = {"cell": f"{explainer}-{metric}", "model": "m", "dataset": "d", "explainer": explainer, "metric": metric}
    about |= {"kind": kind, "unit": unit, "better": better, "status": "ok", "stick": "s", "flags": "", "device": "cpu"}
    return about | summarise(mean + 0.01 * (values - values.mean())) | more


def bare(explainer, metric, status, error):
    return row(explainer, metric, status=status, error=error, value=None, std=None, ci_low=None, ci_high=None, n=0)


def all_rows():
    return {(explainer, metric): row(explainer, metric) for explainer in MEANS for metric in METRICS}


@pytest.fixture
def table(tmp_path):
    """Write rows into a run and return its table as text."""

    def render(rows, **options):
        store = Store(tmp_path / "run")
        for each in rows.values():
            store.append(each)
        file = io.StringIO()
        print_table(read_cells(tmp_path / "run", without_scores=True), file=file, **options)
        return file.getvalue()

    return render


def lines_of(text, name):
    return [line for line in text.splitlines() if line.startswith(name)]


def test_headers_say_the_direction_and_the_unit(table):
    text = table(all_rows())
    assert "srg ↑" in text and "deletion ↓" in text
    assert re.search(r"effective_complexity(?! [↑↓])", text)
    assert "relative change" in text and "m on d: 20 samples, 4 explainers, 6 metrics" in text


def test_brackets_in_labels_are_shown(table):
    rows = {
        (explainer, metric): each | {"explainer": f"{explainer}[steps=4]", "metric": f"{metric}[baseline=zero]"}
        for (explainer, metric), each in all_rows().items()
    }
    shown = table(rows)
    assert "deletion[baseline=zero] ↓" in shown and lines_of(shown, "lrp[steps=4] ")


def test_a_cell_holds_mean_interval_and_rank(table):
    rows = all_rows()
    text = table(rows)
    low, high = (significant(rows["lrp", "srg"][name]) for name in ("ci_low", "ci_high"))
    assert f"0.500 [{low}, {high}] #2" in lines_of(text, "lrp")[0]
    assert "#1" in lines_of(text, "random (control)")[0]


def test_rows_are_in_the_order_of_srg_with_the_controls_last_under_a_line(table):
    lines = table(all_rows()).splitlines()
    place = lambda name: next(i for i, line in enumerate(lines) if line.startswith(name))
    places = [place(name) for name in ("lrp", "saliency", "grad_cam", "┄", "random")]
    assert places == list(range(places[0], places[0] + 5))


@pytest.mark.parametrize("width", [*range(100, 124), 160])
def test_no_line_is_wider_than_asked_and_every_panel_names_the_explainers(table, width):
    text = table(all_rows(), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert len(lines_of(text, "lrp")) == len(lines_of(text, "random (control)")) == len(lines_of(text, "explainer"))


def test_a_log_has_no_colour_codes_and_no_blanks_at_line_ends(table):
    text = table(all_rows() | {("lrp", "srg"): bare("lrp", "srg", "failed", "x")})
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_terminal_gets_colours(table, tmp_path):
    table(all_rows())

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    file = Terminal()
    print_table(read_cells(tmp_path / "run", without_scores=True), file=file)
    assert "\x1b[1m" in file.getvalue()


def test_costs_have_their_own_panel_and_counts_no_interval(table):
    text = table(all_rows() | {("lrp", "forward_passes"): row("lrp", "forward_passes", mean=1234, value=1234.0)})
    panel = next(block for block in text.split("\n\n") if "seconds_per_sample" in block)
    assert "srg" not in panel
    assert re.search(r"lrp .*\] #\d +1,234 #4$", panel, re.M)


def test_a_reason_for_n_a_is_said_once_for_the_whole_explainer(table):
    rows = all_rows()
    rows |= {("grad_cam", m): bare("grad_cam", m, "not_applicable", "needs a spatial layer") for m in METRICS}
    text = table(rows)
    assert lines_of(text, "n/a") == ["n/a: grad_cam: needs a spatial layer"]
    assert all("n/a" in line for line in lines_of(text, "grad_cam"))


def test_a_metric_that_serves_nobody_is_named_once_beside_an_explainer_that_does_not_apply(table):
    rows = all_rows() | {(e, "srg"): bare(e, "srg", "not_applicable", "needs object masks") for e in MEANS}
    rows |= {("grad_cam", m): bare("grad_cam", m, "not_applicable", "needs a spatial layer") for m in METRICS}
    expected = ["n/a: grad_cam: needs a spatial layer", "n/a: srg: needs object masks"]
    assert sorted(lines_of(table(rows), "n/a")) == expected


def test_failures_are_told_apart_from_n_a_and_name_explainer_and_metric(table):
    text = table(all_rows() | {("lrp", "deletion"): bare("lrp", "deletion", "failed", "RuntimeError: boom")})
    assert "failed: lrp (deletion): RuntimeError: boom" in text
    assert "failed" in lines_of(text, "lrp")[0]


def test_a_reason_shared_by_some_explainers_of_a_metric_is_said_once_for_the_metric(table):
    rows = {(name, "srg"): bare(name, "srg", "not_applicable", "x") for name in ("lrp", "random")}
    assert lines_of(table(all_rows() | rows), "n/a") == ["n/a: srg (lrp, random): x"]


def test_the_heading_counts_samples_of_cells_that_have_scores(table):
    assert "m on d: 20 samples," in table(all_rows() | {("lrp", "srg"): bare("lrp", "srg", "failed", "x")})


def test_a_cell_that_is_not_there_is_a_dot(table):
    rows = all_rows()
    del rows["lrp", "deletion"]
    assert " ·" in lines_of(table(rows), "lrp")[0]


def test_unequal_numbers_of_valid_samples_take_the_ranks_away_and_say_why(table):
    text = table(all_rows() | {("lrp", "srg"): row("lrp", "srg", n=18, n_invalid=2, error="all zero")})
    assert "–*" in lines_of(text, "lrp")[0]
    assert "* without a valid score: srg: lrp 2 of 20: all zero" in text
    assert "– no rank: srg: explainers have scores on different samples" in text


def test_a_check_shows_its_scores_without_a_rank_and_says_why(table):
    rows = {(name, "srg"): row(name, "srg", kind="check") for name in MEANS}
    text = table(rows)
    assert "srg ↑" in text and "0.500" in lines_of(text, "lrp")[0] and "#" not in lines_of(text, "lrp")[0]
    assert "– no rank: srg: a check of whether a property holds" in " ".join(text.split())


def test_a_mean_that_is_undefined_is_said_to_be(table):
    nothing = {name: None for name in ("value", "std", "ci_low", "ci_high")}
    text = table(all_rows() | {("lrp", "srg"): row("lrp", "srg", n=0, n_invalid=20, error="no variance", **nothing)})
    assert "undefined*" in lines_of(text, "lrp")[0]


@pytest.mark.parametrize("flags", ["hook never fired; equal to gradient", ["hook never fired", "equal to gradient"]])
def test_flags_are_marked_and_said(table, flags):
    text = table(all_rows() | {("lrp", "srg"): row("lrp", "srg", flags=flags)})
    assert "* flag: lrp: hook never fired" in text and "* flag: lrp: equal to gradient" in text
    assert "#2*" in lines_of(text, "lrp")[0]


def test_protocols_are_blocks_of_their_own_headed_by_what_differs(table):
    rows = {}
    for samples in (20, 50):
        config = json.dumps({"protocol": {"samples": samples, "seed": 0}})
        for key, each in all_rows().items():
            rows[*key, samples] = {**each, "cell": f"{each['cell']}{samples}", "config": config}
    text = table(rows)
    assert "m on d (samples=20):" in text and "m on d (samples=50):" in text and "seed" not in text


def test_cells_under_one_name_are_all_shown_and_not_ranked(table):
    text = table(all_rows() | {"again": row("lrp", "srg", cell="123456789")})
    assert lines_of(text, "lrp 123456") and "– no rank: srg: an explainer has several cells" in text


def test_a_row_of_an_older_version_is_shown(tmp_path):
    (tmp_path / "cells").mkdir()
    old = {"cell": "a", "model": "m", "dataset": "d", "explainer": "e", "metric": "srg", "status": "ok", "value": 0.5}
    (tmp_path / "cells" / "1.jsonl").write_text(json.dumps(old) + "\n")
    file = io.StringIO()
    print_table(read_cells(tmp_path, without_scores=True), file=file)
    assert "0.500" in lines_of(file.getvalue(), "e  ")[0] and "nan" not in file.getvalue()


def test_a_run_without_rows_says_so(tmp_path):
    file = io.StringIO()
    print_table(read_cells(tmp_path, without_scores=True), file=file)
    assert file.getvalue() == "no cells yet\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.41234, "0.412"),
        (-0.012345, "-0.0123"),
        (12, "12.0"),
        (123.4, "123"),
        (999.6, "1,000"),
        (1234.5, "1,230"),
        (0.5, "0.500"),
        (0.0, "0"),
        (-0.0, "0"),
        (4.56e-7, "4.56e-07"),
        (1.5e9, "1.50e+09"),
        (100, "100"),
        (0.9996, "1.00"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(("value", "text"), [(1024.0, "1,024"), (50.5, "50.5"), (0.0, "0"), (123456.0, "123,456")])
def test_counts_are_written_in_full(value, text):
    assert count(value) == text


def test_without_a_file_the_table_goes_to_the_standard_output(tmp_path, capsys):
    Store(tmp_path).append(row("lrp", "srg"))
    print_table(read_cells(tmp_path, without_scores=True))
    assert "lrp" in capsys.readouterr().out


def test_cells_and_scores_are_written_as_csv_and_parquet(tmp_path):
    store = Store(tmp_path)
    for each in all_rows().values():
        samples = {"sample": ["x", "y"], "value": [1.0, 2.0], "valid": [True, True], "curve": np.ones((2, 3))}
        store.write_scores(each["cell"], samples)
        store.append({**each, "config": {"metric": {"name": each["metric"]}}, "flags": ["a"]})
    for name, frame in zip(("cells", "scores"), read(tmp_path), strict=False):
        to_csv(frame, tmp_path / f"{name}.csv")
        to_parquet(frame, tmp_path / f"{name}.parquet")
        both = pd.read_csv(tmp_path / f"{name}.csv"), pd.read_parquet(tmp_path / f"{name}.parquet")
        assert all(list(back.columns) == list(frame.columns) and len(back) == len(frame) for back in both)
    cells, scores = pd.read_csv(tmp_path / "cells.csv"), pd.read_parquet(tmp_path / "scores.parquet")
    assert json.loads(cells["config"][0]) == {"metric": {"name": "srg"}} and json.loads(cells["flags"][0]) == ["a"]
    assert list(scores["curve"][0]) == [1, 1, 1] and len(scores) == 2 * len(cells)


@pytest.mark.parametrize("write", [to_csv, to_parquet])
def test_a_table_that_cannot_be_written_is_told_in_one_line(tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write(pd.DataFrame({"value": [1.0]}), tmp_path / "file" / "table")
