"""Runs side by side: the same verdicts as a comparison, a column for each run, and nothing where nothing repeats."""

import numpy as np
import pytest

from harness.results.comparison import CODE_CHANGED, compare_runs
from harness.results.report.blocks import blocks_of
from harness.results.report.side_by_side import ALONE, side_by_side
from harness.results.store import Store
from harness.views.report import write_report
from worlds import small_run, write_cell

BEFORE = {"lime": 0.6, "rise": 0.4, "random": 0.0}
AFTER = {"lime": 0.3, "rise": 0.6, "saliency": 0.2, "random": 0.0}


@pytest.fixture
def three_runs(tmp_path, seed):
    """Runs in which lime gets worse, rise better, and saliency is new."""
    names = {"monday": BEFORE, "tuesday": BEFORE, "wednesday": AFTER}
    return [small_run(tmp_path / name, seed + place, means=means) for place, (name, means) in enumerate(names.items())]


def test_a_block_of_several_runs_has_a_column_for_each_and_the_verdicts_of_the_comparison(three_runs):
    (found,) = side_by_side(blocks_of(three_runs))
    assert found.runs == ("monday", "tuesday", "wednesday") and found.metric == "srg ↑"
    rows = {row.label: row for row in found.rows}
    assert rows["lime"].change.verdict == "worse" and rows["rise"].change.verdict == "better"
    assert " worse [" in rows["lime"].change.words and " better [" in rows["rise"].change.words
    cells = compare_runs(three_runs[0], three_runs[-1]).cells
    for cell in cells[cells["metric"] == "srg"].to_dict("records"):
        assert rows[cell["explainer"]].change.verdict == ALONE.get(cell["verdict"], cell["verdict"])
    assert [place.text for place in rows["saliency"].scores[:2]] == ["·", "·"] and rows["saliency"].scores[2].value
    assert rows["random"].control and found.sentence.startswith("wednesday against monday")


def test_the_page_and_its_twin_show_it_with_seconds_before_and_after(three_runs):
    page = write_report(three_runs)
    html, twin = page.read_text(), page.with_suffix(".md").read_text()
    assert '<section id="runs"' in html and 'href="#runs"' in html
    assert "## Runs side by side" in twin
    assert (
        "| explainer | change monday → wednesday | monday | tuesday | wednesday | seconds monday → wednesday |" in twin
    )
    (line,) = [line for line in twin.splitlines() if line.startswith("| lime |") and "worse: " in line]
    assert line.count("[") >= 3 and "\\[" in line  # an interval in each of three runs


def test_what_is_not_comparable_says_why(tmp_path, seed):
    runs, generator = [tmp_path / "one", tmp_path / "two"], np.random.default_rng(seed)
    for run, stick in zip(runs, ("old", "new"), strict=True):
        for name in ("lime", "random"):
            write_cell(Store(run), name, "srg", generator.normal(0.5, 0.1, 12), stick=stick)
    (found,) = side_by_side(blocks_of(runs))
    assert {(row.change.verdict, row.change.reason) for row in found.rows} == {("not comparable", CODE_CHANGED)}
    assert CODE_CHANGED in write_report(runs).with_suffix(".md").read_text()


def test_nothing_is_side_by_side_in_one_run_or_where_model_or_data_differ(tmp_path, seed, run):
    store = Store(tmp_path / "other")
    for name in ("lime", "random"):
        write_cell(store, name, "srg", np.random.default_rng(seed).normal(size=12), dataset="elsewhere")
    assert side_by_side(blocks_of([run])) == [] and side_by_side(blocks_of([run, tmp_path / "other"])) == []
    page = write_report([run, tmp_path / "other"])
    assert "Runs side by side" not in page.read_text() + page.with_suffix(".md").read_text()
