"""The page of harness trend: the sentence of the terminal, a plot of each cell that changed, and its table."""

import re

import numpy as np
import pytest

from harness.cli.main import main
from harness.results.report.step_plot import step_plot
from harness.results.steps import Level
from harness.results.store import Store
from worlds import about

RUNS = 12
BAD = "<script>alert(1)</script>"
SERIES = {  # explainer, metric: the values before and after the seventh run
    ("lime", "srg"): (0.6, 0.4),
    ("rise", "srg"): (0.5, 0.7),
    ("random", "srg"): (0.0, 0.0),
    ("lime", "deletion"): (0.2, 0.3),
    ("random", "deletion"): (0.8, 0.8),
}


def nights(folder, series=SERIES, **more):
    """Runs whose values repeat bit for bit but for one step; returns their names."""
    for number in range(RUNS):
        for (explainer, metric), values in series.items():
            Store(folder / f"night-{number:02}").append(
                about("net", "data", explainer, metric)
                | {"status": "ok", "kind": "faithfulness", "unit": "probability", "value": values[number >= 7]}
                | {"better": "lower" if metric == "deletion" else "higher", "finished": f"2026-01-{number + 1:02}"}
                | more
            )
    return [f"night-{number:02}" for number in range(RUNS)]


def written(folder, names, *flags):
    """The page of these runs; the command's result has to be 0."""
    out = folder / "pages" / "trend.html"
    assert main(["trend", *names, "--runs", str(folder), "--html", str(out), *flags]) == 0
    return out.read_text()


def test_the_page_begins_with_the_sentence_of_the_terminal_and_needs_no_network(tmp_path, capsys):
    page = written(tmp_path, nights(tmp_path))
    said = capsys.readouterr().out
    sentence = " ".join(said.partition("\n\n")[0].split())
    assert re.search(r'<p class="answer">(.*?)</p>', page)[1] == sentence
    assert "page: " in said and "verdict none" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert not re.findall(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", page)


def test_each_cell_that_changed_has_a_plot_the_headline_metric_first_and_the_others_folded(tmp_path):
    page = written(tmp_path, nights(tmp_path))
    before, folded = page.split("<summary>Other metrics: 1 cell</summary>")
    names = r"<title>(\w+ by \w+): "
    assert re.findall(names, before) == ["lime by srg", "rise by srg"]
    assert re.findall(names, folded) == ["lime by deletion"]
    assert page.count('class="level worse"') == 2 and page.count('class="level better"') == 1
    assert page.count('class="tick since"') == 3 and "night-07" in page
    table = page.partition('id="cells"')[2]
    assert table.count('scope="row"') == 3 and "0.600 → 0.400" in table and "Not in the table: 2 stable" in table


def test_a_filter_and_all_decide_what_the_page_has(tmp_path):
    names = nights(tmp_path)
    of_lime = written(tmp_path, names, "--explainer", "lime", "--metric", "deletion")
    assert re.findall(r"<title>(\w+ by \w+): ", of_lime) == ["lime by deletion"] and "<details" not in of_lime
    assert written(tmp_path, names, "--all").partition('id="cells"')[2].count('scope="row"') == len(SERIES)


def test_where_nothing_changed_there_is_the_sentence_alone(tmp_path):
    page = written(tmp_path, nights(tmp_path, {("lime", "srg"): (0.5, 0.5)}))
    assert "no change is shown" in page and 'id="changes"' not in page and "<table" not in page


def test_names_stay_text(tmp_path):
    page = written(tmp_path, nights(tmp_path, {(BAD, "srg"): (0.6, 0.4)}))
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_what_cannot_be_written_is_told_in_one_line(tmp_path, capsys):
    names = nights(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["trend", *names, "--runs", str(tmp_path), "--html", str(tmp_path / "file" / "trend.html")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("harness: cannot write") and error.count("\n") == 1


@pytest.mark.parametrize("count", [2, 9, 40])
@pytest.mark.parametrize("name", ["night-{:02}", "a-run-with-a-name-that-is-much-too-long-for-an-axis-{:02}-{:02}"])
def test_the_names_on_the_axis_do_not_overlap_and_that_of_the_change_is_there(count, name):
    runs = [name.format(place, place) for place in range(count)]
    levels = [Level(0, count - 1, 1.0), Level(count - 1, count, 2.0)]
    values = np.r_[np.ones(count - 1), 2.0]
    drawn = step_plot("cell", runs, values, levels, runs[-1], "better")
    texts = re.findall(
        r'<text x="([\d.]+)" y="[\d.]+" class="tick(?: since)?" text-anchor="middle">(.*?)</text>', drawn
    )
    spans = sorted((float(x) - 3 * len(text), float(x) + 3 * len(text)) for x, text in texts)
    assert all(left[1] < right[0] for left, right in zip(spans, spans[1:], strict=False))
    assert drawn.count('class="tick since"') == 1 and spans[0][0] >= 0 and spans[-1][1] <= 340


def test_runs_without_a_value_have_no_dot(tmp_path):
    values = np.array([1.0, np.nan, 1.0, 2.0, 2.0])
    drawn = step_plot("cell", list("abcde"), values, [Level(0, 3, 1.0), Level(3, 5, 2.0)], "d", "worse")
    assert drawn.count("<circle") == 4
