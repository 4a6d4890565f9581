"""One leaderboard: the terminal, Markdown, LaTeX, the long table and the report show the same of one odd run."""

import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from harness.results.boards import TESTED, boards_of, boards_of_run
from harness.results.first_screen import first_lines
from harness.results.formats import CONTROLS_ROW, long_table, markdown_boards
from harness.results.frames import read, read_cells
from harness.results.latex import latex_boards
from harness.results.leaderboard import print_table
from harness.results.store import Store
from harness.views.report import write_report as report
from odd_run import METRICS, odd_run

SEED = int(os.environ["HARNESS_TEST_SEED"])
HOLES = ("n/a", "failed", "undefined", "·", "unmeasured")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return odd_run(tmp_path_factory.mktemp("runs") / "odd", SEED)


@pytest.fixture(scope="module")
def boards(run):
    return boards_of_run(run)


def test_the_columns_that_tests_need_give_what_all_columns_give(run, boards):
    few = boards_of_run(run, TESTED)
    assert all(set(TESTED) <= set(board.scores) and "curve" not in board.scores for board in few)
    for shown in (markdown_boards, latex_boards, lambda each: "\n".join(first_lines(each, 200, False))):
        assert shown(few) == shown(boards)
    pd.testing.assert_frame_equal(long_table(few), long_table(boards))


def told(text):
    """What a cell of a table says: hole or mean, ends of the interval, rank, letters, star."""
    words = text.replace("[ ", "[").replace("*", " * ").replace("not measured", "unmeasured").split()
    if words[0] in HOLES:
        return words[0], (), "", "", "*" in words
    mean, interval = words[0], re.search(r"\[\s*([^,]+),\s*([^]]+)\]", text)
    rest = re.sub(r"\[.*\]", "", text.replace("*", " ")).split()[1:]
    rank = next((word for word in rest if word.startswith("#") or word == "–"), "")
    letters = next((word for word in rest if word.isalpha()), "")
    return mean, interval.groups() if interval else (), rank, letters, "*" in words


def expected(place):
    if place.hole:
        return place.text.replace("not measured", "unmeasured"), (), "", "", bool(place.star)
    interval = (place.low, place.high) if place.low else ()
    return place.text, interval, place.rank, place.letters, bool(place.star)


def in_terminal(run):
    """Per board, the cells of its panels by (metric, explainer), cut where the heads stand."""
    file = io.StringIO()
    print_table(*read(run), file=file, width=100_000)
    found = []
    for line in file.getvalue().splitlines():
        if re.match(r"net on data \(", line):
            found.append({})
        elif line.startswith("explainer"):
            continue
        elif "explainers that share" not in line and re.search(r" ↑| ↓", line):
            heads = [(each.start(), each[1]) for each in re.finditer(r"(\w+)(?: [↑↓])?", line)]
            ends = [start for start, _ in heads][1:] + [None]
        elif found and re.match(r"(n/a|failed|\*|–)", line):
            heads = []
        elif found and line and heads and not re.match(r"[─┄]", line):
            name = line[: heads[0][0]].strip()
            cells = {metric: line[start:end].strip() for (start, metric), end in zip(heads, ends, strict=True)}
            found[-1] |= {(metric, name): text for metric, text in cells.items()}
    return found


def in_markdown(text):
    """The tables of a text in Markdown that have a column ``explainer``, by (metric, explainer)."""
    found, heads = [], []
    for line in text.replace("\\|", "¦").splitlines():
        cells = [re.sub(r"\\([\\`*_\[\]|~#<>])", r"\1", cell.strip()) for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            heads = []
        elif cells[0].strip() == "explainer":
            heads, found = [head.split(" ")[0] for head in cells[1:]], [*found, {}]
        elif heads and "---" not in line and CONTROLS_ROW not in line:
            found[-1] |= {(metric, cells[0]): text for metric, text in zip(heads, cells[1:], strict=True)}
    return found


class Tables(HTMLParser):
    """The leaderboards of a page by (metric, explainer); texts of one cell with a space between its parts."""

    def __init__(self, page):
        super().__init__()
        self.found, self.rows, self.inside = [], None, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "table" and "board" in (dict(attributes).get("class") or ""):
            self.rows, self.inside = [], True
        elif self.inside and tag == "tr":
            self.rows.append([])
        elif self.inside and tag in ("th", "td"):
            self.rows[-1].append([])

    def handle_data(self, data):
        if self.inside and self.rows and self.rows[-1]:
            self.rows[-1][-1].append(data)

    def handle_endtag(self, tag):
        if tag == "table" and self.inside:
            heads = [next(m for m in METRICS if "".join(cell).startswith(m)) for cell in self.rows[0][1:]]
            rows = [row for row in self.rows[1:] if len(row) > 1]  # the others are headings of a part
            names = ["".join(row[0]) for row in rows]
            self.found.append(
                {
                    (metric, name): " ".join(cell)
                    for name, row in zip(names, rows, strict=True)
                    for metric, cell in zip(heads, row[1:], strict=True)
                }
            )
            self.inside = False


def without_marks(text):
    return re.sub(r"\*\*|</?u>", "", text)


def test_every_renderer_shows_the_same_numbers_ranks_and_holes(run, boards, tmp_path):
    page = report(run, tmp_path / "page.html")
    shown = {
        "terminal": in_terminal(run),
        "Markdown": in_markdown(markdown_boards(boards)),
        "page": Tables(page.read_text()).found,
        # The first table has a row per explainer too; the leaderboards follow it.
        "twin": in_markdown(re.sub(r"(?s)### Answer.*?### Leaderboard", "", page.with_suffix(".md").read_text())),
    }
    assert len(boards) == 2
    for place, board in enumerate(boards):
        for (metric, label), entry in board.places.items():
            want = expected(entry)
            name = board.named(label)
            on_page = f"{label}library's row, not ranked" if label in board.with_caveat else label
            assert told(shown["terminal"][place][metric, name]) == want, (metric, label)
            # The rank stands before the mean; its matrix of pairs takes the place of letters.
            text = re.sub(r"^\s*(#\d+|–) (.*)", r"\2 \1", shown["page"][place][metric, on_page])
            assert told(text) == (*want[:3], "", want[4]), (metric, label)
            assert told(without_marks(shown["twin"][place][metric, name])) == want, (metric, label)
            in_file = told(without_marks(shown["Markdown"][place][metric, name]))  # it shows neither ranks nor stars
            assert in_file[:2] + in_file[3:4] == want[:2] + want[3:4], (metric, label)


def in_latex(text):
    """The lines of each board's tables as one table, the metrics of continued tables side by side, without controls'
    heading."""
    found = []
    for part in re.split(r"(?m)^% net on data", text)[1:]:
        lines = [line.removesuffix(r" \\").split(" & ") for line in part.splitlines() if line.endswith(r" \\")]
        lines = [line for line in lines if "multicolumn" not in line[0]]
        found.append(lines) if ", continued" not in part else [
            known.extend(line[1:]) for known, line in zip(found[-1], lines, strict=True)
        ]
    return found


def test_the_files_mark_the_same_best_and_order_as_the_board(boards):
    text, tex = in_markdown(markdown_boards(boards)), in_latex(latex_boards(boards))
    for board, tables, lines in zip(boards, text, tex, strict=True):
        labels = {board.named(label): label for label in board.explainers}
        order = list(dict.fromkeys((metric, labels[name]) for metric, name in tables))
        assert order == [(metric, label) for label in board.explainers for metric in board.metrics]
        names = [line[0].replace(r"\allowbreak{}", "").replace("\\_", "_") for line in lines[1:]]
        assert names == list(labels)
        for line, label in zip(lines[1:], board.explainers, strict=True):
            for cell, metric in zip(line[1:], board.metrics, strict=True):
                place, shown = board.places[metric, label], tables[metric, board.named(label)]
                assert (place.standing == "best") == ("**" in shown) == (r"\textbf" in cell)
                assert (place.standing == "near") == ("<u>" in shown) == (r"\underline" in cell)
                plain = re.sub(r"\\textsuperscript\{\w+\}|\\text\w+|\\underline|[{}]", "", cell)
                assert plain.replace(r"$\cdot$", "·") == f"{place.text} {place.interval}".strip()
                assert not place.letters or rf"\textsuperscript{{{place.letters}}}" in cell


def test_the_long_table_has_the_ranks_letters_and_reasons_of_the_board(boards, run):
    rows = long_table(boards)
    assert list(rows["metric"]) == list(read_cells(run)["metric"])
    by_protocol = {board.protocol: board for board in boards}
    labels = {(b.protocol, cell): label for b in boards for cell, label in b.cells[["cell", "label"]].to_numpy()}
    for row, cell in zip(rows.to_dict("records"), read_cells(run)["cell"], strict=True):
        place = by_protocol[row["protocol"]].places[row["metric"], labels[row["protocol"], cell]]
        if place.rank.startswith("#"):
            assert row["rank"] == int(place.rank[1:])
        else:
            assert pd.isna(row["rank"])
        assert (place.letters or None) == (row["letters"] if isinstance(row["letters"], str) else None)
        assert row["why"] == (place.unranked if row["status"] == "ok" else place.hole)


def test_ties_holes_and_controls_are_what_the_run_planted(boards):
    board = boards[0]
    srg = {label: board.places["srg", label] for label in board.explainers}
    assert board.controls == {"random", "edge"} and board.explainers[-2:] == ["random", "edge"]
    assert board.with_caveat == {"captum_saliency": "captum"}
    assert srg["lime"].rank == srg["rise"].rank == "#1" and srg["saliency"].rank == "#3"
    assert srg["lime"].standing == srg["rise"].standing == "best" and srg["lime"].letters == srg["rise"].letters
    assert srg["saliency"].star and not set(srg["saliency"].letters) & set(srg["random"].letters)
    twice = [label for label in board.explainers if label.startswith("smoothgrad ")]
    assert len(twice) == 2 and {board.places["aopc", label].rank for label in twice} == {"–"}
    assert srg["grad_cam"].text == "n/a" and srg["captum_saliency"].text == "·"
    assert board.places["deletion", "edge"].text == "failed" and board.places["infidelity", "lime"].text == "undefined"
    assert {board.places["deletion", name].rank for name in ("lime", "rise", "random")} == {"–"}
    sparse = {label: board.places["sparseness", label] for label in ("lime", "rise", "random", "captum_saliency")}
    assert sparse["random"].rank == "#1" and sparse["random"].standing == "near"  # a control is never the best
    assert {sparse["lime"].standing, sparse["rise"].standing} <= {"best", "near"}
    assert sparse["captum_saliency"].rank == sparse["captum_saliency"].letters == ""
    assert board.places["forward_passes", "lime"].text == "1,234"


def test_without_scores_means_and_ranks_are_the_same_and_nothing_is_tested(run, boards):
    for with_tests, without in zip(boards, boards_of(read_cells(run)), strict=True):
        assert not without.tests and not any(place.letters for place in without.places.values())
        assert with_tests.explainers == without.explainers and with_tests.metrics == without.metrics
        for key, place in without.places.items():
            other = with_tests.places[key]
            assert (place.text, place.interval, place.rank) == (other.text, other.interval, other.rank)


def test_samples_of_one_name_are_tested_by_their_place(tmp_path):
    store, generator = Store(tmp_path / "r"), np.random.default_rng(SEED)
    for place, explainer in enumerate(("lime", "random")):
        values = generator.normal(place, 0.1, 12)
        store.write_scores(explainer, {"sample": ["same"] * 12, "value": values})
        about = {"model": "m", "dataset": "d", "explainer": explainer, "metric": "srg", "better": "higher", "n": 12}
        store.append({"cell": explainer, "status": "ok", "value": float(values.mean()), "n_invalid": 0, **about})
    (board,) = boards_of_run(tmp_path / "r")
    assert len(board.matrices["srg"].complete) == 12 and board.places["srg", "lime"].letters == "b"


def test_a_missing_reason_is_no_reason_and_a_metric_has_the_facts_of_any_of_its_rows(run):
    cells, scores = read(run)
    lost = cells["explainer"] == cells["explainer"].iloc[0]
    older = cells.assign(error=cells["error"].where(cells["status"] == "failed"), better=cells["better"].mask(lost))
    for board in boards_of(older, scores):
        assert board.better("srg") == "higher" and board.headline == "srg"
        assert not {"nan", "None"} & {place.note for place in board.places.values()}


def test_one_explainer_alone_has_a_rank_and_no_letter(tmp_path):
    store = Store(tmp_path / "r")
    store.write_scores("a", {"sample": ["x", "y"], "value": [1.0, 2.0]})
    about = {"model": "m", "dataset": "d", "explainer": "lime", "metric": "srg", "better": "higher", "n": 2}
    store.append({"cell": "a", "status": "ok", "value": 1.5, "n_invalid": 0, **about})
    (board,) = boards_of_run(tmp_path / "r")
    assert board.places["srg", "lime"].rank == "#1" and board.places["srg", "lime"].letters == ""
