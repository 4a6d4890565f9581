"""Whatever happens to a file of a run, commands name it in one line and go on, and the next run restores the table."""

import importlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import damages
import harness
from harness.cli.main import main
from harness.places import process_mark
from harness.results.frames import read
from harness.results.rows import CELL_COLUMNS
from harness.results.store import Store

STEADY = ["model", "dataset", "explainer", "metric", "value", "std", "ci_low", "ci_high", "n", "n_invalid", "status"]
CASES = [(kind, damage) for kind in damages.KINDS for damage in damages.DAMAGES if not damages.harmless(kind, damage)]
DOCS = Path(__file__).parents[2] / "docs"
READ_BY_A_TABLE = ("rows", "scores", "table")
GONE = 2**22 + 1  # a number that no process has
each_case = pytest.mark.parametrize(("kind", "damage"), CASES, ids=lambda name: name.replace(" ", "_"))


def config_of(folder, **runtime):
    return {
        "model": {"name": "toys:net", "label": "toys"},
        "dataset": "toys:images",
        "explainer": {"gradient": {"name": "toys:gradient_map"}, "tabled": {"name": "toys:tabled"}},
        "metric": {"total": {"name": "toys:total"}, "drop": {"name": "toys:drop"}},
        "run": "night",
        "runtime": {"runs": str(folder), "quiet": True, "lease": "share", "sheet": 3, "warm_up": False, **runtime},
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with every kind of file, whose writer has ended."""
    folder = tmp_path_factory.mktemp("whole")
    directory = harness.run(config_of(folder))
    (rows,) = (directory / "cells").iterdir()
    rows.rename(rows.with_name(f"000001-{process_mark(GONE)}.jsonl"))
    return directory


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "night")


def table_of(directory):
    cells, scores = read(directory)
    scores = scores.astype({"cell": str}).set_index(["cell", "sample"])["value"]
    return cells.set_index("cell")[STEADY].sort_index(), scores.sort_index()


def assert_restored(run, whole):
    for mine, its in zip(table_of(run), table_of(whole), strict=True):
        compare = pd.testing.assert_frame_equal if isinstance(mine, pd.DataFrame) else pd.testing.assert_series_equal
        compare(mine, its, rtol=1e-6, atol=1e-7)


def lines_that_name(path, text):
    return [line for line in text.splitlines() if path.name in line]


def called(capsys, *words):
    """The exit status of a verb, and what it printed."""
    status = main(list(words))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return status, printed.out + printed.err


def test_a_whole_run_is_verified_in_one_line(run, capsys):
    status, text = called(capsys, "verify", "night", "--runs", str(run.parent))
    count = sum(len(list(run.glob(kind.pattern))) for kind in damages.KINDS.values())
    assert status == 0 and text == f"{run}: {count} files checked, nothing is damaged\n"


@each_case
def test_verify_and_table_name_the_file_in_one_line(kind, damage, run, whole, capsys, caplog):
    path = damages.damaged_file(run, kind, damage)
    status, text = called(capsys, "verify", "night", "--runs", str(run.parent))
    assert status == 1 and len(lines_that_name(path, text)) == 1 and len(text.splitlines()) == 2, text
    if kind in READ_BY_A_TABLE:
        assert called(capsys, "table", "night", "--runs", str(run.parent))[0] == 0
    assert len(lines_that_name(path, "\n".join(caplog.messages))) == (kind in READ_BY_A_TABLE)


@pytest.mark.parametrize(
    ("damage", "rows"),
    [*((damage, False) for damage in damages.DAMAGES), *((damage, True) for damage in [*damages.DAMAGES][:6:2])],
)
def test_the_next_run_names_all_files_and_restores_the_table(damage, rows, run, whole, capsys, caplog):
    kinds = [kind for kind in damages.KINDS if (kind == "rows") == rows]  # without its row, no file of a cell is read
    paths = [damages.damaged_file(run, kind, damage) for kind in kinds]
    harness.run(config_of(run.parent))
    for path in paths:
        assert len(lines_that_name(path, "\n".join(caplog.messages))) == 1, (path, caplog.messages)
    assert_restored(run, whole)
    status, text = called(capsys, "verify", "night", "--runs", str(run.parent))
    assert status == 0, text


@pytest.mark.parametrize("damage", ["cut off", "a folder", "text that is no Unicode"])
def test_report_compare_trend_and_view_go_on_with_the_rest(damage, run, whole, capsys, caplog):
    names = {kind: damages.damaged_file(run, kind, damage) for kind in damages.KINDS if kind not in ("rows", "table")}
    at = ("--runs", str(run.parent))
    shutil.copytree(whole, run.with_name("calm"))
    for words in (("report", "night"), ("compare", "calm", "night"), ("trend", "calm", "night")):
        status, _ = called(capsys, *words, *at)
        assert status in (0, 1), words
    assert called(capsys, "view", "night", "--what", "curves,importances", *at)[0] == 0
    text = "\n".join(caplog.messages)
    for kind in ("scores", "index", "environment"):
        assert len(lines_that_name(names[kind], text)) == 1, text


@pytest.mark.parametrize("kind", ["map", "inputs"])
def test_a_report_names_damaged_maps(kind, run, capsys, caplog):
    path = damages.damaged_file(run, kind, "content of another")
    assert called(capsys, "report", "night", "--runs", str(run.parent))[0] == 0
    assert len(lines_that_name(path, "\n".join(caplog.messages))) == 1


def test_pages_have_the_tables_of_the_tests(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    reliability = importlib.import_module("reliability")
    for page in reliability.TABLES:
        written = (DOCS / page).read_text(encoding="utf-8")
        assert reliability.with_tables(page) == written, "run python docs/reliability.py"


def as_an_older_version_wrote(run, column=None):
    """Rows without seals, and without a column, in a file whose name has no number."""
    (path,) = (run / "cells").iterdir()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name not in ("seal", column)} for row in rows]
    path.with_name("20260101T000000.000000-host-1-abcdef.jsonl").write_text("\n".join(map(json.dumps, kept)) + "\n")
    path.unlink()


@pytest.mark.parametrize("column", CELL_COLUMNS)
def test_rows_without_a_column_end_in_no_traceback(column, run, capsys):
    as_an_older_version_wrote(run, column)
    at = ("--runs", str(run.parent))
    for words in (("table", "night"), ("table", "night", "--long"), ("compare", "night", "night"), ("verify", "night")):
        assert called(capsys, *words, *at)[0] in (0, 1, 2), words


@pytest.mark.parametrize("column", ["kind", "config", "better", "model", "n", "finished"])
def test_a_report_of_rows_without_a_column_ends_in_no_traceback(column, run, capsys):
    as_an_older_version_wrote(run, column)
    assert called(capsys, "report", "night", "--runs", str(run.parent))[0] in (0, 2)


def test_files_of_an_older_version_are_read_and_counted_and_only_sound_ones_are(run, whole, capsys, caplog):
    as_an_older_version_wrote(run)
    for path in (run / "scores").iterdir():
        pd.read_parquet(path).to_parquet(path, index=False)
    harness.run(config_of(run.parent))
    assert not caplog.messages and len(list((run / "cells").iterdir())) == 1
    status, text = called(capsys, "verify", "night", "--runs", str(run.parent))
    assert status == 0 and "carry no checksum" in text
    first, *_, last = sorted((run / "scores").iterdir())
    first.write_bytes(last.read_bytes())
    doubled = pd.concat([pd.read_parquet(last)] * 2)
    doubled.to_parquet(last, index=False)
    status, text = called(capsys, "verify", "night", "--runs", str(run.parent))
    assert status == 1 and "scores of another cell" in text and "16 rows, expected 8" in text
    harness.run(config_of(run.parent))
    assert_restored(run, whole)


def test_temporary_files_of_killed_runs_are_cleared_and_those_of_live_ones_stay(run, capsys):
    killed = subprocess.Popen(["true"])
    killed.wait()
    mine = run / "scores" / f".harness-{process_mark()}.tmp"
    gone = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{killed.pid}-"))
    foreign = mine.with_name(f".harness-other.1-{killed.pid}-abcdef12.tmp")
    for path in (mine, gone, foreign):
        path.write_bytes(b"half")
    status, text = called(capsys, "verify", "night", "--runs", str(run.parent))
    assert status == 0 and "1 temporary files of killed runs" in text
    harness.run(config_of(run.parent))
    assert mine.exists() and foreign.exists() and not gone.exists()


def test_rows_from_a_clock_in_the_future_do_not_keep_their_cells_pending(run, whole):
    (path,) = (run / "cells").iterdir()
    row = next(iter(Store(run).latest().values()))
    Store(run).append({**row, "stick": "older", "finished": "2999-01-01T00:00:00+00:00"})
    harness.run(config_of(run.parent))
    number = len(list((run / "cells").iterdir()))
    harness.run(config_of(run.parent))
    assert len(list((run / "cells").iterdir())) == number == 3
    assert_restored(run, whole)
