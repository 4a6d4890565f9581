"""The first screen of a run: the answer in words, and a row per explainer with its gain as a picture."""

import numpy as np
import pytest

from harness.cli.main import main
from harness.results.boards import boards_of_run
from harness.results.family import all_pairs
from harness.results.first_screen import FOREST, LINE, MOST_ROWS, POINT, ZERO, _Scale, first_lines
from harness.results.first_table import FirstRow
from harness.results.store import Store
from worlds import write_cell


def run_of(directory, levels, *, n=30, models=("net",), costs=(), seed=0):
    """A run of one metric, with a common part and noise of each explainer around its level."""
    store, rng = Store(directory), np.random.default_rng(seed)
    for model in models:
        common = rng.normal(0, 0.2, n)
        for name, level in levels.items():
            write_cell(store, name, "srg", level + common + rng.normal(0, 0.05, n), model=model)
        for name, seconds in dict(costs).items():
            write_cell(store, name, "seconds_per_sample", np.full(n, seconds), model=model)
    return directory


def screen(directory, width=120, **shown):
    return "\n".join(first_lines(boards_of_run(directory, **shown), width, False))


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
    return line


@pytest.fixture
def small(tmp_path):
    return run_of(tmp_path / "r", {"lime": 0.5, "rise": 0.1, "random": 0.2, "edge": 0.0}, costs={"lime": 2.0})


def test_it_begins_with_the_answer_and_fits_the_width(small):
    text = screen(small)
    assert text.startswith("Use lime: on these 30 samples it finds what the model uses better than the best control, ")
    assert all(len(line) <= 120 for line in text.splitlines())
    assert row(text, "lime").endswith("2.00   use this") and "not measured" in row(text, "rise")
    assert row(text, "rise").endswith("worse than the control") and row(text, "edge").endswith("control")
    assert row(text, "random").endswith("best control")


def test_the_picture_has_the_point_on_the_side_of_zero_where_the_gain_is(small):
    text = screen(small)
    heading = next(line for line in text.splitlines() if f"{ZERO}" in line)
    zero = heading.index(ZERO)
    assert row(text, "lime").index(POINT) > zero > row(text, "rise").index(POINT)
    assert row(text, "random")[zero] == ZERO and POINT not in row(text, "random")
    assert row(text, "lime").index(POINT) - row(text, "edge").index(POINT) <= FOREST


def test_a_narrow_screen_has_no_picture_but_all_words(small):
    text = screen(small, width=90)
    assert POINT not in text and row(text, "lime").endswith("use this")


def test_many_explainers_are_cut_and_counted_controls_first(tmp_path):
    levels = {f"e{place:02}": 0.01 * place for place in range(24)} | {"random": 0.0, "edge": 0.1, "center": 0.05}
    text = screen(run_of(tmp_path / "r", levels))
    shown = [line for line in text.splitlines() if line.startswith(("e", "random ", "center ")) and "[" in line]
    assert len(shown) == MOST_ROWS - 1 and f"… and {len(levels) - MOST_ROWS} more" in text
    assert "best control" in row(text, "edge") and not any(line.startswith("center") for line in text.splitlines())


def test_several_models_have_an_answer_each_and_many_have_a_row_each(tmp_path):
    levels = {"lime": 0.5, "random": 0.0}
    two = screen(run_of(tmp_path / "two", levels, models=("a", "b")))
    assert two.count("Use lime:") == 2 and "a on data" in two
    many = screen(run_of(tmp_path / "many", levels, models=("a", "b", "c")))
    assert many.startswith(
        "3 of 3 blocks (a model on a data set under one protocol) have an explainer that is shown to"
    )
    assert row(many, "b on data").split()[3] == "lime"


def test_what_is_shown_does_not_change_the_tests(small, capsys):
    whole, part = screen(small), screen(small, explainers=["rise", "random"])
    assert row(part, "rise").split("[")[0] == row(whole, "rise").split("[")[0] and "\nlime " not in part
    assert part.splitlines()[0] == whole.splitlines()[0]
    assert main(["table", "r", "--runs", str(small.parent), "--explainer", "ries"]) == 2
    assert "did you mean 'rise'?" in capsys.readouterr().err


def test_another_metric_becomes_the_headline_when_it_is_asked_for(small):
    store = Store(small)
    for name, level in {"lime": 0.1, "rise": 0.6, "random": 0.3}.items():
        write_cell(store, name, "max_sensitivity", np.full(30, level) + np.arange(30) / 1e3, kind="robustness")
    text = screen(small, metrics=["max_sensitivity"])
    assert text.startswith(
        "First by max_sensitivity is rise: on these 30 samples it scores better than the best control"
    )
    assert "max_sensitivity alone does not tell which explainer to use." in text.replace("\n", " ")


def test_without_a_control_there_is_no_gain_and_the_answer_says_so(tmp_path):
    text = screen(run_of(tmp_path / "r", {"lime": 0.5, "rise": 0.1}))
    assert "No control was compared" in text and "gain" not in text


def test_a_label_is_shown_as_it_is(tmp_path):
    text = screen(run_of(tmp_path / "r", {"lime[a=b]": 0.5, "[red]rise": 0.1, "random": 0.0}))
    assert row(text, "lime[a=b]") and row(text, "[red]rise")


@pytest.mark.parametrize("low", [-1.0, -0.3, -0.05, -0.01, -1e-4, 0.0, 1e-4, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("wide", [1e-4, 0.02, 0.5])
@pytest.mark.parametrize("others", [(-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0)])
def test_a_picture_is_as_wide_as_every_other_and_touches_zero_only_if_its_interval_does(low, wide, others):
    drawn_row = lambda gain, low, high: FirstRow("e", 0.0, 0.0, 0.0, gain, low, high, None, "", "near")
    row = drawn_row(low + wide / 2, low, low + wide)
    scale = _Scale.of([row, drawn_row(sum(others) / 2, *others)])
    picture, zero = scale.drawn(row), scale.place(0.0)
    assert len(picture) == FOREST and picture.count(POINT) == 1
    beside = picture[max(0, zero - 1) : zero] + picture[zero + 1 : zero + 2]
    if low > 0 or low + wide < 0:
        assert LINE not in beside


def test_the_first_screen_computes_the_family_of_its_metric_alone(small, monkeypatch):
    store = Store(small)
    for name in ("lime", "rise", "random"):
        write_cell(store, name, "deletion", np.arange(30.0))
    asked = []
    monkeypatch.setattr("harness.results.board.all_pairs", lambda matrix: asked.append(matrix) or all_pairs(matrix))
    screen(small)
    assert [matrix.names["metric"] for matrix in asked] == ["srg"]
