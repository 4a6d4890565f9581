"""Scores of two sides: one family per block, controls as what no explainer changed, and samples of other seeds."""

import os
import re
import runpy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from compared_runs import SAMPLES, verdicts, write_run
from harness.cli.main import main
from harness.results.comparison import compare_runs
from harness.results.quality_changes import of_the_controls, p_of_block

SEED = int(os.environ["HARNESS_TEST_SEED"])
CLAIMS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "claims_runs.py"))
FAILED, AWAY = {"status": "failed", "error": "boom"}, {"status": "not_applicable", "error": "no"}


@pytest.mark.parametrize("noise", CLAIMS["SCORE_NOISE"])
@pytest.mark.parametrize("n", [10, 30])
def test_noise_raises_no_alarm_in_any_cell_or_in_the_block(noise, n):
    simulations = 100 if n == 10 else 40
    false = CLAIMS["false_score_alarms"](noise, n, 20, simulations, SEED)
    assert false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / simulations)


def test_a_loss_of_all_scores_is_seen_with_ten_samples():
    block, cells = CLAIMS["seen_score_change"](-0.3, 0.2, 10, 40, 40, SEED)
    assert block > 0.8 and cells > 0.15
    block, cells = CLAIMS["seen_score_change"](-0.3, 1.0, 10, 40, 40, SEED)
    assert block > 0.7 > 3 * cells  # too noisy to be seen in a cell, not in all of them together


def test_other_data_that_move_the_controls_raise_no_alarm():
    assert CLAIMS["false_alarms_of_other_data"](30, 20, 40, held=True, seed=SEED) < 0.15
    assert CLAIMS["false_alarms_of_other_data"](30, 20, 10, held=False, seed=SEED) > 0.5


def test_p_values_are_the_share_of_all_flips_with_a_cell_as_far_from_zero():
    differences = np.random.default_rng(SEED).normal(0.5, 1, (8, 3))
    scaled = differences / np.sqrt((differences**2).sum(0))
    largest = [np.abs(np.array(signs) @ scaled).max() for signs in product((1, -1), repeat=8)]
    expected = [np.mean(np.array(largest) >= abs(column.sum()) - 1e-12) for column in scaled.T]
    assert p_of_block(differences) == pytest.approx(expected)


def test_cells_that_cannot_be_tested_leave_the_family():
    differences = np.random.default_rng(SEED).normal(1, 1, (10, 40))
    differences[6:, 1:] = 0  # six samples changed: no sign pattern is rarer than 1 in 32
    p = p_of_block(differences)
    assert p[0] == p_of_block(differences[:, :1])[0] and np.isnan(p[1:]).all()


def test_controls_count_by_their_median_and_samples_without_one_as_unchanged():
    nan = np.nan
    changes = [np.array([1.0, nan, nan]), np.array([2.0, 5.0, nan]), np.array([9.0, 7.0, nan])]
    assert np.array_equal(of_the_controls(changes), [2, 6, 0])


@pytest.mark.parametrize("cells", [2, 3])
@pytest.mark.parametrize("changed", [0, 4, 6, 7])
def test_every_p_of_a_comparison_is_one_that_signs_can_have(tmp_path, cells, changed):
    """Each cell changes on other samples than the others, so that the whole can be tested where no cell can."""
    before = {f"e{place}": (scores(0, place), {}) for place in range(cells)}
    after = {}
    for place, (name, (values, _)) in enumerate(before.items()):
        change = np.zeros(SAMPLES)
        change[place * changed : (place + 1) * changed] = np.resize([0.3, -0.2], changed)
        after[name] = values + change, {}
    found, whole = verdicts(tmp_path, before, after)
    p = np.r_[whole.cells["p"], whole.blocks["p"]].astype(float)
    assert (p[np.isfinite(p)] >= 2.0 ** (1 - cells * changed)).all()
    assert whole.blocks["p"].notna().tolist() == [True] * (changed > 0)
    assert whole.cells["p"].notna().all() == (changed >= 7)
    assert set(found.values()) | set(whole.blocks["verdict"]) <= {"same", "moved"}


def scores(shift=0.0, seed=0, spread=0.02):
    generator = np.random.default_rng([SEED, seed])
    level = np.random.default_rng(SEED).normal(0.4, 0.2, SAMPLES)
    return level + shift + generator.normal(0, spread, SAMPLES)


def test_an_explainer_that_changed_as_the_controls_did_is_the_same_and_the_controls_are_told(tmp_path):
    names = ("lime", "rise", "random", "edge")
    before = {name: (scores(0, place), {}) for place, name in enumerate(names)}
    after = {name: (values + 0.2 - 0.3 * (name == "rise"), {}) for name, (values, _) in before.items()}
    found, whole = verdicts(tmp_path, before, after)
    assert found == {"lime": "same", "rise": "worse", "random": "moved", "edge": "moved"}
    rows = whole.cells.set_index("cell")
    assert rows.loc["rise", "change"] == pytest.approx(-0.3) and rows.loc["lime", "change"] == pytest.approx(0)
    assert "less the change of the controls" in rows.loc["rise", "note"]
    assert rows.loc["edge", "note"].startswith("a control changes with the data")


def test_a_block_that_lost_as_a_whole_is_worse_and_fails_the_command(tmp_path, capsys):
    generator = np.random.default_rng(SEED)
    names = [f"e{number}" for number in range(30)]
    level = {name: generator.normal(1, 0.3, 10) for name in names}
    noisy = {name: (values * 0.7 + generator.normal(0, 0.6, 10), {}) for name, values in level.items()}
    _, whole = verdicts(tmp_path, {name: (values, {}) for name, values in level.items()}, noisy)
    (block,) = whole.blocks.to_dict("records")
    assert block["verdict"] == "worse" and block["p"] < 0.05
    assert block["change"] == pytest.approx(-0.3, abs=0.1) and block["low"] < block["change"] < block["high"]
    assert main(["compare", "before", "after", "--runs", str(tmp_path), "--fail-on", "worse"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"the 30 scores of net on data together: \S+ % worse \[\S+ to \S+ worse\]", said)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (AWAY, FAILED, "broken"),
        (FAILED, AWAY, "moved"),
        (AWAY, AWAY, "same"),
        ({}, AWAY, "broken"),
        (AWAY, {}, "fixed"),
    ],
)
def test_a_change_of_status_is_told(tmp_path, before, after, verdict):
    assert verdicts(tmp_path, {"a": (scores(), before)}, {"a": (scores(), after)})[0] == {"a": verdict}


def test_a_control_that_was_drawn_with_another_seed_is_no_yardstick(tmp_path):
    drawn = scores(0.0, 5)  # the control's other draws
    before = {"zero": (scores(), of_seed(0)), "control": (scores(), of_seed(0) | {"explainer": "random"})}
    after = {"one": (scores(), of_seed(1)), "other": (drawn, of_seed(1) | {"explainer": "random"})}
    rows = verdicts(tmp_path, before, after)[1].cells.set_index("explainer")
    assert rows.loc["lime", "change"] == 0 and rows.loc["lime", "verdict"] == "same"
    assert rows.loc["random", "change"] != 0 and "controls" not in rows.loc["lime", "note"]


def of_seed(seed):
    return {"config": {"protocol": {"seed": seed}}, "explainer": "lime"}


def test_another_seed_is_compared_by_the_samples_that_are_the_same(tmp_path):
    before, after = {"zero": (scores(), of_seed(0))}, {"one": (scores(0.2, 1), of_seed(1))}
    found, whole = verdicts(tmp_path, before, after)
    (row,) = whole.cells.to_dict("records")
    assert row["verdict"] == "better" and row["n"] == SAMPLES and whole.compared == 1
    assert row["note"] == "seed 0 and seed 1, by the samples that both have"


def test_seeds_that_a_run_has_several_of_are_not_mixed(tmp_path):
    before = {"zero": (scores(), of_seed(0)), "one": (scores(), of_seed(1))}
    found, _ = verdicts(tmp_path, before, {"two": (scores(), of_seed(2))})
    assert sorted(found.values()) == ["missing", "missing", "new"]


def test_scores_of_several_runs_are_averaged_by_sample(tmp_path):
    runs = [write_run(tmp_path / f"r{place}", {"a": (scores(place), {})}) for place in range(4)]
    row = compare_runs(runs[:2], runs[2:]).cells.iloc[0]
    assert row["change"] == pytest.approx(2) and row["verdict"] == "better" and row["n"] == SAMPLES


def test_a_cell_that_failed_in_one_of_several_runs_is_broken(tmp_path):
    good, bad = {"a": (scores(), {})}, {"a": (None, FAILED)}
    runs = [write_run(tmp_path / f"r{place}", cells) for place, cells in enumerate((good, good, bad))]
    assert compare_runs(runs[0], runs[1:]).cells.iloc[0]["verdict"] == "broken"


def test_runs_with_nothing_to_compare_fail_and_several_runs_need_a_word_between_the_sides(tmp_path, capsys):
    for name, cells in (("x", {"a": (scores(), {})}), ("y", {"b": (scores(), {})}), ("z", {"a": (scores(), {})})):
        write_run(tmp_path / name, cells)
    at = ["--runs", str(tmp_path)]
    assert main(["compare", "x", "y", *at]) == 1
    assert "only 0 cells could be compared, expected at least 1" in capsys.readouterr().out
    assert main(["compare", "x", "y", "--min-compared", "0", *at]) == 0
    assert main(["compare", "x", "z", *at]) == 0 and main(["compare", "x", "z", "--min-compared", "2", *at]) == 1
    assert main(["compare", "x", "--to", "y", "z", *at]) == 0
    assert main(["compare", "x", "y", "z", *at]) == 2
    assert "3 runs came without --to" in capsys.readouterr().err


def test_many_samples_are_tested_as_the_t_test_does_where_differences_are_normal():
    differences = np.random.default_rng(SEED).normal(0.15, 1, (200, 5))
    expected = stats.ttest_1samp(differences, 0).pvalue
    found = np.concatenate([p_of_block(differences[:, [place]]) for place in range(5)])
    assert np.abs(found - expected).max() < 0.02


@pytest.mark.parametrize("n", [8, 60])
def test_no_more_than_five_percent_of_single_tests_of_nothing_claim_something(n):
    nothing = np.random.default_rng([SEED, n]).standard_t(4, (n, 2000))
    found = np.concatenate([p_of_block(nothing[:, [place]]) for place in range(2000)])
    assert (found < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_the_scale_of_the_differences_changes_no_p_value():
    differences = np.random.default_rng(SEED).normal(0.2, 1, (50, 3))
    for scale in (1e-200, 1e200):
        np.testing.assert_allclose(p_of_block(differences * scale), p_of_block(differences))


def test_no_drawn_p_is_zero():
    assert p_of_block(np.ones((40, 1)))[0] == pytest.approx(1 / 10_000)
