"""What ``harness compare`` and ``harness trend`` say first: a sentence that cannot be read the wrong way round."""

import os
from itertools import product

import numpy as np
import pandas as pd
import pytest

from compared_runs import SAMPLES, verdicts, write_run
from harness.cli.main import main
from harness.results.comparison import compare_runs
from harness.results.comparison_costs import LEAST_COST
from harness.results.comparison_words import comparison_sentence, unpaired_in_words
from harness.results.direction_words import change_in_words, interval_in_words, whole_change_in_words

SEED = int(os.environ["HARNESS_TEST_SEED"])
FAILED = {"status": "failed", "error": "boom"}
UNITS = ("probability", "seconds", "MB", "passes")
GOOD, BAD = {"better", "faster", "less", "fewer"}, {"worse", "slower", "more"}


def level(seed=0):
    return np.random.default_rng([SEED, seed]).normal(0.5, 0.1, SAMPLES)


def sentence_of(tmp_path, before, after):
    return comparison_sentence(verdicts(tmp_path, before, after)[1], ["before"], ["after"])


@pytest.mark.parametrize(("unit", "better", "change"), list(product(UNITS, ("higher", "lower", None), (-0.3, 0.3))))
def test_a_change_has_a_word_for_its_direction_and_no_sign(unit, better, change):
    better = "lower" if unit != "probability" else better
    words = change_in_words({"unit": unit, "better": better, "before": 1.0}, change)
    assert not set("+-−") & set(words)
    good = None if better is None else (change > 0) == (better == "higher")
    assert bool(GOOD & set(words.split())) == (good is True) and bool(BAD & set(words.split())) == (good is False)
    assert good is not None or words.endswith("higher" if change > 0 else "lower")


@pytest.mark.parametrize(
    ("low", "high", "better", "words"),
    [
        (-0.36, -0.11, "higher", "[0.110 to 0.360 worse]"),
        (-0.36, -0.11, "lower", "[0.110 to 0.360 better]"),
        (-0.1, 0.2, "higher", "[0.100 worse to 0.200 better]"),
        (-0.1, 0.2, "lower", "[0.200 worse to 0.100 better]"),
        (-0.1, 0.2, None, "[0.100 lower to 0.200 higher]"),
        (0.0, 0.2, "higher", "[0 to 0.200 better]"),
        (0.0, 0.0, "higher", ""),
        (np.nan, np.nan, "higher", ""),
    ],
)
def test_both_ends_of_an_interval_have_a_direction(low, high, better, words):
    assert interval_in_words({"low": low, "high": high, "better": better}) == words


def test_twice_the_time_is_slower_and_half_of_it_faster_by_the_same_factor():
    row = {"unit": "seconds", "better": "lower", "before": 1.0, "low": np.nan, "high": np.nan}
    assert whole_change_in_words(row | {"change": 1.0}) == "2.00 times slower"
    assert whole_change_in_words(row | {"change": -0.5}) == "2.00 times faster"
    assert whole_change_in_words(row | {"change": 0.0}) == "no change"


def test_equal_runs_are_said_to_be_equal(tmp_path):
    cells = {"a": (level(), {}), "b": (level(1), {})}
    expected = "after against before (1 run against 1, 40 samples): 2 scores are the same on every sample"
    assert sentence_of(tmp_path, cells, cells) == f"{expected}; costs were not measured."


def test_a_change_that_chance_can_explain_is_not_called_one(tmp_path):
    noise = np.random.default_rng(SEED).normal(0, 0.1, SAMPLES)
    noise -= noise.mean() - 0.02
    said = sentence_of(tmp_path, {"a": (level(), {})}, {"a": (level() + noise, {})})
    assert "no change is shown in 1 score; the largest, which chance can explain, is a by srg: 0." in said
    assert "0.0200 better [" in said and "worse to" in said


def test_losses_come_before_gains_and_the_largest_first(tmp_path):
    before = {name: (level(), {}) for name in "abcd"}
    apart = np.resize([-0.01, 0.01], SAMPLES)  # samples that all change alike have no interval
    after = {"a": level() + 0.2, "b": level() - 0.1, "c": level() - 0.3 + apart, "d": level()}
    _, whole = verdicts(tmp_path, before, {name: (values, {}) for name, values in after.items()})
    assert list(whole.cells["cell"]) == ["c", "b", "a", "d"]
    said = comparison_sentence(whole, ["before"], ["after"])
    assert said.index("2 of 4 scores got worse, most of all c by srg: ") < said.index(
        "1 of 4 scores got better, a by srg"
    )
    assert "0.300 worse [0.297 to 0.303 worse]" in said and "the chance of any false alarm is below 5 %" in said


FALSE_ALARMS, NONE = "the chance of any false alarm is below 5 %", "is shown to be worse"


@pytest.mark.parametrize(("shift", "word"), [(-0.04, "worse"), (0.04, "better")])
def test_a_block_that_changed_as_a_whole_names_no_single_score_and_denies_none(tmp_path, shift, word):
    """Thirty noisy changes, none of which can be shown alone."""
    noise = np.random.default_rng([SEED, 7]).normal(0, 0.3, (30, SAMPLES))
    noise -= noise.mean(1, keepdims=True)
    before = {f"e{number}": (level(), {}) for number in range(30)}
    after = {name: (level() + shift + noise[number], {}) for number, name in enumerate(before)}
    found, whole = verdicts(tmp_path, before, after)
    assert set(found.values()) == {"moved"} and list(whole.blocks["verdict"]) == [word]
    said = comparison_sentence(whole, ["before"], ["after"])
    assert "the 30 scores of net on data together: " in said and "and no single one of them can be named" in said
    assert NONE not in said and FALSE_ALARMS in said


COST = {"kind": "cost", "unit": "seconds", "better": "lower", "metric": "seconds_per_sample"}
PASSES = COST | {"metric": "forward_passes", "unit": "passes"}


@pytest.mark.parametrize("tested", [False, True])
@pytest.mark.parametrize(
    ("cost", "said"), [(COST, "1 cost judged by a rule without a test"), (PASSES, "1 cost counted")]
)
def test_a_verdict_without_a_test_names_its_rule_and_no_rate_of_errors(tmp_path, cost, said, tested):
    before = {"slow": (np.full(SAMPLES, 1.0), cost), "b": (level(), {})}
    after = {"slow": (np.full(SAMPLES, 9.0), cost), "b": (level() - 0.2 * tested, {})}
    sentence = sentence_of(tmp_path, before, after)
    assert said in sentence and "among costs" not in sentence
    assert (f"{FALSE_ALARMS} among scores" in sentence) == tested and (FALSE_ALARMS in sentence) == tested


def test_what_broke_comes_first_with_its_reason(tmp_path):
    before, after = {"a": (level(), {}), "b": (level(), {})}, {"a": (None, FAILED), "b": (level(), {})}
    assert ": 1 cell broken, such as a by srg (failed: boom); 1 score is the same" in sentence_of(
        tmp_path, before, after
    )


def of_steps(steps):
    options = {"explainer": {"name": "lime", "steps": steps}, "protocol": {"samples": SAMPLES}}
    return {"explainer": "lime", "config": options}


def test_cells_without_a_partner_name_the_options_that_differ(tmp_path):
    before = {"old": (level(), of_steps(50)), "gone": (level(), {})}
    _, whole = verdicts(tmp_path, before, {"young": (level(), of_steps(4))})
    assert unpaired_in_words(whole) == [
        "1 cell only in the baseline run and 1 cell only in the new run (lime): explainer.steps 50 → 4",
        "1 cell only in the baseline run (gone)",
    ]


@pytest.fixture
def runs(tmp_path):
    """Runs x and y, of which y is worse in one cell and lacks one, and z, measured by other code but for one cell."""
    lost = level() - 0.2
    write_run(tmp_path / "x", {name: (level(), {"explainer": name, "metric": m}) for name, m in CELLS})
    write_run(tmp_path / "y", {n: (lost if n == "lime" else level(), {"explainer": n, "metric": m}) for n, m in CELLS})
    other = {name: (level(), {"explainer": name, "metric": m, "stick": "t"}) for name, m in CELLS[:2]}
    write_run(tmp_path / "z", other | {"rise": (level(), {"explainer": "rise", "metric": "aopc"})})
    return tmp_path


CELLS = (("lime", "srg"), ("saliency", "srg"), ("rise", "aopc"))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("x y", 0),
        ("x y --fail-on worse", 1),
        ("x y --fail-on worse --metric srg --explainer lime", 1),
        ("x y --fail-on worse --metric aopc", 0),
        ("x y --fail-on worse --explainer saliency,rise", 0),
        ("x y --min-compared 4", 1),
        ("x z", 0),
        ("x z --min-compared 2", 3),
        ("x z --min-compared 4", 1),
        ("x z --metric srg", 3),
        ("x z --metric srg --fail-on worse", 3),
        ("x z --metric srg --fail-on 'not comparable'", 1),
        ("x y --metric srgg", 2),
        ("x y --metric aopc --explainer lime", 2),
    ],
)
def test_the_exit_status_tells_a_loss_from_nothing_to_compare(runs, arguments, status, capsys):
    words = [word.strip("'") for word in arguments.replace("not comparable", "not_comparable").split()]
    assert main(["compare", *words, "--runs", str(runs)]) == status
    said = capsys.readouterr().out
    assert ("exit status 3: no loss was found, but the measuring code has changed" in said) == (status == 3)


def test_a_night_after_all_measuring_code_changed_is_told_in_words(runs, capsys):
    assert main(["compare", "x", "z", "--metric", "srg", "--runs", str(runs)]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(
        "z against x: nothing can be compared; 2 cells not comparable (lime, saliency): the measuring"
    )
    assert "the next run with this code can be compared with z." in said and "got worse" not in said


def test_filters_come_after_the_tests(runs, tmp_path, capsys):
    """A choice of cells changes no verdict and no p-value, so that nobody can choose what is significant."""
    whole = compare_runs(runs / "x", runs / "y").cells.set_index("cell")["p"]
    assert main(["compare", "x", "y", "--metric", "srg", "--csv", str(tmp_path / "c.csv"), "--runs", str(runs)]) == 0
    said = capsys.readouterr().out
    assert "2 of 3 cells, by --metric srg; tests are corrected over all of them" in said and "together" not in said
    shown = pd.read_csv(tmp_path / "c.csv").set_index("cell")["p"]
    assert list(shown.index) == ["lime", "saliency"] and shown["lime"] == pytest.approx(whole["lime"])


def test_a_screen_holds_what_is_printed_of_many_cells(tmp_path, capsys):
    names = [f"e{number}" for number in range(200)]
    write_run(tmp_path / "x", {name: (level(), {}) for name in names})
    write_run(tmp_path / "y", {name: (level() - 0.1 * (number % 2), {}) for number, name in enumerate(names)})
    assert main(["compare", "x", "y", "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 24 and "not listed: 88 worse, 100 same" in said


def write_night(folder, name, day, values):
    about = {"finished": f"2026-01-{day:02}T00:00:00"}
    return write_run(folder / name, {cell: (value, more | about) for cell, (value, more) in values.items()})


def test_a_trend_says_what_does_not_count_and_what_has_ended(tmp_path, capsys):
    here, there = {"explainer": "lime"}, {"explainer": "rise", "metric": "aopc"}
    for day in range(1, 5):
        code = {"stick": "old" if day < 3 else "s"}
        cells = {"a": (level(), here | code)} | ({"b": (level(), there | code)} if day < 4 else {})
        write_night(tmp_path, f"n{day}", day, cells)
    command = ["trend", "n1", "n2", "n3", "n4", "--runs", str(tmp_path)]
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 runs, n1 to n4: no change is shown in 1 score: all repeat bit for bit" in said
    assert "1 cell without a value in the last run, such as rise by aopc" in said
    assert "up to 2 runs left out for 2 cells, because the measuring code has changed since" in said
    assert main([*command, "--explainer", "lime", "--csv", str(tmp_path / "c.csv")]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 cells, by --explainer lime; tests are corrected" in said and "1 rows: " in said
    assert main([*command, "--explainer", "lyme"]) == 2


@pytest.mark.parametrize("metric", LEAST_COST)
def test_a_trend_of_costs_below_what_a_clock_resolves_is_stable(tmp_path, metric, capsys):
    for day, size in enumerate((0.2, 0.2, 0.9), 1):
        cost = {"metric": metric, "kind": "cost", "unit": "seconds", "better": "lower"}
        write_night(tmp_path, f"n{day}", day, {"a": (np.full(SAMPLES, size * LEAST_COST[metric]), cost)})
    assert main(["trend", "n1", "n2", "n3", "--runs", str(tmp_path), "--fail-on", "worse"]) == 0
    assert "no change is shown in 1 cost: all changed by no more than" in " ".join(capsys.readouterr().out.split())
