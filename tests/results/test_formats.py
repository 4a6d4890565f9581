"""The leaderboard as rows, Markdown and LaTeX: what is best, what is not shown to be worse, and what is a hole."""

import os
import re

import numpy as np
import pandas as pd
import pytest

from harness.cli.main import main
from harness.results.boards import boards_of
from harness.results.latex import COLUMN_GAP, TEXT_WIDTH, latex_boards, points
from harness.results.rows import CELL_COLUMNS
from harness.results.statistics import OTHER_SAMPLES
from harness.results.store import Store

SEED = int(os.environ["HARNESS_TEST_SEED"])
SAMPLES = 30
EVIL = "<script>alert(1)</script>|_&%"


def row(cell, explainer, metric, **more):
    config = {"protocol": {"seed": 0}, "explainer": {"name": explainer}, "metric": {"name": metric}}
    return {
        "cell": cell,
        "model": "net",
        "dataset": "data",
        "explainer": explainer,
        "metric": metric,
        "better": "higher",
        "kind": "faithfulness",
        "unit": "probability",
        "status": "ok",
        "stick": "s",
        "config": config,
        **more,
    }


@pytest.fixture
def run(tmp_path):
    """lime and rise alike and well above random, edge without one metric, one that failed, and a cost."""
    generator, store = np.random.default_rng(SEED), Store(tmp_path / "r")
    level = generator.normal(0.5, 0.2, SAMPLES)
    shifts = {"lime": 0.30, "rise": 0.29, "random": 0.0, EVIL: -0.3}
    for metric in ("srg", "irof"):
        for explainer, shift in shifts.items():
            values = level + shift + 0.05 * generator.normal(size=SAMPLES)
            cell = f"{metric}{list(shifts).index(explainer)}"
            store.write_scores(cell, {"sample": [f"p{i}" for i in range(SAMPLES)], "value": values})
            more = {"value": float(values.mean()), "ci_low": 0.1, "ci_high": 0.9, "n": SAMPLES, "n_invalid": 0}
            store.append(row(cell, explainer, metric, **more))
    store.append(row("failed", "edge", "srg", status="failed", error="boom"))
    store.append(row("not_applicable", "edge", "irof", status="not_applicable", error="needs masks"))
    return tmp_path


def table(run, *arguments):
    return main(["table", "r", "--runs", str(run), *arguments])


def test_each_row_says_how_the_explainer_stands_to_the_best_and_to_the_best_control(run):
    assert table(run, "--long", "--csv", str(run / "long.csv")) == 0
    rows = pd.read_csv(run / "long.csv").query("metric == 'srg'").set_index("explainer")
    best, other = rows["value"].idxmax(), {"lime": "rise", "rise": "lime"}[rows["value"].idxmax()]
    assert rows.loc[best, "rank"] == 1 and rows.loc[best, "best"] and np.isnan(rows.loc[best, "vs_best"])
    assert not rows.loc["random", "best"] and rows.loc["random", "p_best"] < 0.05
    assert rows.loc[other, "vs_control"] == pytest.approx(rows.loc[other, "value"] - rows.loc["random", "value"])
    assert rows.loc[other, "p_control"] < 0.05 and rows.loc[EVIL, "vs_control"] < 0
    assert not set(rows.loc["lime", "letters"]) & set(rows.loc["random", "letters"])
    assert rows.loc["edge", "why"] == "boom" and np.isnan(rows.loc["edge", "rank"])


def test_markdown_marks_the_best_and_shows_holes_as_holes(run):
    assert table(run, "--markdown", str(run / "t.md")) == 0
    text = (run / "t.md").read_text()
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    control = lines["random (control)"]
    assert "**0." in lines["lime"] + lines["rise"] and "**" not in control and "<u>" not in control
    assert "| failed | n/a |" in lines["edge (control)"] and "srg ↑" in lines["explainer"]
    assert "<script>" not in text and r"\|\_" in text


def test_latex_escapes_what_it_must_and_uses_booktabs(run):
    assert table(run, "--latex", str(run / "t.tex")) == 0
    text = (run / "t.tex").read_text()
    plain = text.replace(r"\allowbreak{}", "")
    assert r"\toprule" in text and r"\textbf{0." in text and r"\textbar{}\_\&\%" in plain
    for columns, body in tabulars(text):
        assert {line.count("&") - line.count(r"\&") + 1 for line in body if "multicolumn" not in line} == {columns}


def tabulars(text):
    """The number of columns and the rows of each table of a LaTeX text; everything that is opened is closed."""
    assert all(text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") for name in ("tabular",))
    bare = re.sub(r"\\[{}]|%.*", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    for part in text.split(r"\begin{tabular}{")[1:]:
        head, body = part.split("\n", 1)
        lines = [line for line in body.split(r"\end{tabular}")[0].splitlines() if line.endswith(r"\\")]
        yield len(re.sub(r"@\{\}|p\{[^}]*\}", lambda found: "p" * found[0].startswith("p"), head[:-1])), lines


@pytest.mark.parametrize("explainers", [["lime", "rise"], ["a_name_without_end_" * 12, "漢" * 40, "W" * 90]])
@pytest.mark.parametrize("metrics", [["srg"], [f"deletion[order=lerf, steps={steps}]" for steps in range(9)]])
def test_no_latex_table_is_wider_than_the_text(explainers, metrics):
    cells = [
        {
            "cell": f"{metric}{label}",
            "explainer": label,
            "metric": metric,
            "value": 0.123,
            "ci_low": 0.1,
            "ci_high": 0.2,
        }
        for metric in metrics
        for label in [*explainers, "random"]
    ]
    fixed = {"model": "net", "dataset": "data", "kind": "faithfulness", "unit": "logit", "better": "higher"}
    frame = pd.DataFrame(cells).assign(**fixed, status="ok", n=20, n_invalid=0, stick="s")
    boards = boards_of(frame.reindex(columns=[*dict.fromkeys([*frame, *CELL_COLUMNS])]))
    text, shown = latex_boards(boards), []
    for columns, body in tabulars(text):
        rows = [line.removesuffix(r"\\") for line in body]
        cells = [row.split(" & ") for row in rows if "multicolumn" not in row]
        assert all(len(row) == columns for row in cells) and sum("controls" in row for row in rows) == 1
        shown += [points_of_column(column) for column in zip(*cells, strict=True)][1:]
        widths = [points_of_column(column) + COLUMN_GAP for column in zip(*cells, strict=True)]
        first = re.search(r"\{@\{\}p\{(\d+)pt\}", text)
        widths[0] = float(first[1]) if first else widths[0]
        assert sum(widths) <= TEXT_WIDTH + COLUMN_GAP
    assert len(shown) == len(metrics) and r"\textbf" not in "".join(r for r in text.splitlines() if "random" in r)


def points_of_column(texts):
    """The widest line of a column of a table, its marks taken off."""
    lines = [line for text in texts for line in re.sub(r"\\shortstack\[r\]", "", text).split(r"\\")]
    bare = (
        re.sub(r"\\allowbreak\{\}|\\textbf|\\textsuperscript|\\underline|\$\\(\w+)\$|[{}\\]", "", each)
        for each in lines
    )
    return max(points(each.strip()) for each in bare)


def test_controls_stand_apart_in_markdown_and_latex(run):
    table(run, "--markdown", str(run / "t.md"), "--latex", str(run / "t.tex"))
    for name, sign in (("t.md", "| *controls* |"), ("t.tex", r"{\textit{controls}}")):
        before, after = (run / name).read_text().replace(r"\allowbreak{}", "").split(sign, 1)
        assert "| lime" in before or "\nlime" in before
        assert "random" not in before and "random (control)" in after
    assert before.splitlines()[-2] == r"\midrule"


@pytest.mark.parametrize("first", ["[a=1]", "*best"])
def test_no_row_of_a_table_is_taken_for_an_argument_of_the_line_before_it(first):
    cells = pd.DataFrame(
        {
            "cell": ["c0", "c1"],
            "model": "net",
            "dataset": "data",
            "explainer": [first, "lime"],
            "metric": "srg",
            "kind": "faithfulness",
            "unit": "probability",
            "better": "higher",
            "value": [0.5, 0.4],
            "status": "ok",
            "n": 20,
            "stick": "s",
        }
    )
    frame = cells.reindex(columns=[*dict.fromkeys([*cells, *CELL_COLUMNS])])
    lines = latex_boards(boards_of(frame)).splitlines()
    assert any(first in line for line in lines) and not any(line.startswith(("[", "*")) for line in lines)


def test_the_terminal_shows_the_letters_behind_the_ranks(run, capsys):
    assert table(run, "--all") == 0
    said = capsys.readouterr().out
    assert "explainers that share a letter" in said.replace("\n", " ") and "#1 a" in said


def test_explainers_over_unequal_samples_are_not_ranked_and_who_has_few_is_not_tested(run):
    store = Store(run / "r")
    store.write_scores("few", {"sample": ["p0", "p1"], "value": [0.1, 0.2]})
    store.append(row("few", "few", "srg", value=0.15, n=2, n_invalid=0))
    assert table(run, "--long", "--csv", str(run / "long.csv")) == 0
    rows = pd.read_csv(run / "long.csv").query("metric == 'srg' and status == 'ok'")
    assert rows["rank"].isna().all() and set(rows["why"]) == {OTHER_SAMPLES}
    assert rows.set_index("explainer")["letters"].isna()["few"] and rows["letters"].notna().sum() == len(rows) - 1


@pytest.mark.parametrize(
    ("flag", "columns"),
    [
        ("--reliability", {"metric", "alpha", "enough", "needed", "separated"}),
        ("--agreement", {"first", "second", "tau", "low", "high"}),
        ("--across", {"metric", "explainer", "mean_rank", "note"}),
    ],
)
def test_what_metrics_are_worth_is_a_table_too(run, flag, columns):
    assert table(run, flag, "--csv", str(run / "x.csv")) == 0
    assert columns <= set(pd.read_csv(run / "x.csv").columns)


def test_metrics_that_are_copies_of_each_other_agree(run):
    table(run, "--agreement", "--csv", str(run / "x.csv"))
    assert pd.read_csv(run / "x.csv")["tau"].iloc[0] >= 0.6


def test_variance_is_split_between_samples_and_seeds(run):
    generator, store = np.random.default_rng(SEED), Store(run / "r")
    level = generator.normal(size=200)
    for seed in range(4):
        values = level + 0.5 * generator.normal(size=200)
        store.write_scores(f"s{seed}", {"sample": [f"p{i}" for i in range(200)], "value": values})
        more = {"config": {"protocol": {"seed": seed}}, "value": float(values.mean()), "n": 200, "n_invalid": 0}
        store.append(row(f"s{seed}", "noisy", "srg") | more)
    assert table(run, "--seeds", "--csv", str(run / "x.csv")) == 0
    (found,) = pd.read_csv(run / "x.csv").to_dict("records")
    assert found["explainer"] == "noisy" and found["seeds"] == 4 and found["n"] == 200
    assert found["sd_samples"] == pytest.approx(1, abs=0.2) and found["sd_seeds"] == pytest.approx(0.5, abs=0.1)
    assert found["seed_of_mean"] < 0.15


def test_other_tables_have_no_markdown_and_say_so(run, capsys):
    assert table(run, "--agreement", "--markdown", str(run / "x.md")) == 2
    assert "Markdown and LaTeX are for the leaderboard" in capsys.readouterr().err


def test_protocols_have_titles_of_their_own_and_no_cell_is_dropped(tmp_path):
    store = Store(tmp_path / "r")
    for place, (seed, steps, mean) in enumerate([(0, 8, 0.25), (0, 16, 0.5), (1, 8, 0.75)]):
        config = {"protocol": {"seed": seed}, "explainer": {"name": "lime", "steps": steps}, "metric": {"name": "srg"}}
        store.write_scores(f"c{place}", {"sample": ["a", "b"], "value": [mean, mean]})
        store.append(row(f"c{place}", "lime", "srg", value=mean, n=2, n_invalid=0) | {"config": config})
    assert table(tmp_path, "--markdown", str(tmp_path / "t.md"), "--latex", str(tmp_path / "t.tex")) == 0
    for name in ("t.md", "t.tex"):
        text = (tmp_path / name).read_text()
        assert "net on data (seed=0)" in text and "net on data (seed=1)" in text
        assert all(f"{label}" in text for label in ("lime c0", "lime c1", "0.250", "0.500", "0.750"))


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_the_notes_of_a_file_are_of_what_it_shows(run, tmp_path, form):
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert table(run, f"--{form}", str(whole)) == 0
    assert table(run, f"--{form}", str(part), "--explainer", "lime,rise") == 0
    assert "boom" in whole.read_text() and "boom" not in part.read_text() and "rise" in part.read_text()
