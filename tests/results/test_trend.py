"""Steps over runs: found where they are planted, and not in noise, nor in what wanders by itself."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main
from harness.errors import UserError
from harness.results.step_test import FEWEST_RUNS, contrasts, p_of_steps
from harness.results.steps import levels, repeats
from harness.results.store import Store
from harness.results.trend import steps_of_cells, trend

SEED = int(os.environ["HARNESS_TEST_SEED"])
NOISE = {
    "normal": lambda g, n: g.normal(size=n),
    "heavy": lambda g, n: g.standard_t(3, n),
    "two values": lambda g, n: g.integers(0, 2, n) * 1.0,  # as of two kinds of processor in turn
}


SERIES = 60
CLAIMS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "claims_runs.py"))


def levels_of(series):
    return steps_of_cells(np.asarray(series)[None])[0].levels


def test_a_step_of_a_tenth_in_three_percent_noise_is_found_to_the_run():
    generator = np.random.default_rng(SEED)
    right = 0
    for _ in range(20):
        series = np.r_[np.ones(50), np.full(50, 1.1)] + 0.03 * generator.normal(size=100)
        found = levels_of(series)
        right += len(found) == 2 and abs(found[1].start - 50) <= 1
    assert right >= 17


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("n", [8, 30, 60])
def test_flat_series_have_no_steps_but_a_few_by_chance(kind, n):
    generator = np.random.default_rng([SEED, n])
    false = np.mean([len(levels_of(1 + 0.03 * NOISE[kind](generator, n))) > 1 for _ in range(SERIES)])
    assert false < 0.05 + 3 * np.sqrt(0.05 * 0.95 / SERIES)


def test_several_steps_are_found_with_their_levels():
    series = np.repeat([1.0, 2.0, 0.5, 3.0], 20) + 0.05 * np.random.default_rng(SEED).normal(size=80)
    found = levels(series)
    assert [level.start for level in found] == [0, 20, 40, 60]
    assert [level.value for level in found] == pytest.approx([1, 2, 0.5, 3], abs=0.05)


def test_one_odd_run_is_no_step():
    series = 1 + 0.01 * np.random.default_rng(SEED).normal(size=40)
    series[17] = 5
    assert len(levels(series)) == 1


def test_a_slow_wave_in_noise_does_not_become_many_steps():
    wave = 1 + 0.03 * np.sin(np.linspace(0, 2 * np.pi, 120))
    assert len(levels(wave + 0.03 * np.random.default_rng(SEED).normal(size=120))) <= 4


def test_an_exact_step_without_noise_is_found():
    assert [(level.start, level.value) for level in levels_of(np.r_[np.ones(10), np.full(10, 2.0)])] == [
        (0, 1),
        (10, 2),
    ]


def test_missing_runs_are_passed_over():
    series = np.r_[np.ones(12), np.full(12, 2.0)] + 0.01 * np.random.default_rng(SEED).normal(size=24)
    series[[0, 5, 11, 12]] = np.nan
    assert [level.start for level in levels_of(series)] == [1, 13]


def test_a_constant_series_and_none_at_all():
    assert len(levels(np.ones(30))) == 1 and levels_of(np.full(4, np.nan)) == []


def write_runs(folder, series, names=None, **more):
    names = names or [f"run{number:02}" for number in range(len(series))]
    for name, value in zip(names, series, strict=True):
        row = {
            "cell": "c",
            "model": "net",
            "dataset": "data",
            "explainer": "lime",
            "metric": "srg",
            "unit": "probability",
            "kind": "faithfulness",
            "better": "higher",
            "status": "ok",
            "value": float(value),
            "stick": "s",
            "finished": f"2026-01-{int(name[3:]) + 1:02}T00:00:00",
            **more,
        }
        Store(folder / name).append(row)
    return [folder / name for name in names]


def test_a_loss_is_told_with_the_run_in_which_it_began(tmp_path, capsys):
    runs = write_runs(tmp_path, np.r_[np.full(8, 0.5), np.full(6, 0.4)])
    rows, values = trend(runs[::-1])  # in any order
    row = rows.iloc[0]
    assert row["verdict"] == "worse" and row["since"] == "run08" and row["change"] == pytest.approx(-0.2)
    assert list(values.columns) == [run.name for run in runs]
    command = ["trend", *(run.name for run in runs), "--runs", str(tmp_path)]
    assert main(command) == 0 and main([*command, "--fail-on", "worse"]) == 1
    said = capsys.readouterr().out
    sentence = (
        "14 runs, run00 to run13: 1 of 1 score got worse, lime by srg since run08: 0.500 → 0.400, 0.100 worse than its "
        "best level before (its values repeat bit for bit)."
    )
    assert " ".join(said.partition("\n\n")[0].split()) == sentence
    assert main([*command, "--all"]) == 0 and "    0.5 (run00) → 0.4 (run08)" in capsys.readouterr().out


def test_a_slow_slide_is_worse_than_the_best_level_before(tmp_path):
    series = np.repeat([0.50, 0.497, 0.494, 0.491], 5)
    assert trend(write_runs(tmp_path, series))[0].iloc[0]["verdict"] == "worse"


@pytest.mark.parametrize(("better", "verdict"), [("higher", "worse"), ("lower", "better"), (None, "moved")])
def test_the_metric_says_which_way_is_better(tmp_path, better, verdict):
    runs = write_runs(tmp_path, np.r_[np.full(6, 0.5), np.full(6, 0.3)], better=better)
    assert trend(runs)[0].iloc[0]["verdict"] == verdict


def test_three_runs_whose_values_vary_are_few(tmp_path, capsys):
    assert trend(write_runs(tmp_path, [1, 1.1, 2]))[0].iloc[0]["verdict"] == "few"
    assert main(["trend", "run00", "run01", "run02", "--runs", str(tmp_path)]) == 0
    assert "1 cell with values that vary over fewer than 8 runs" in " ".join(capsys.readouterr().out.split())


def test_runs_of_another_measurement_do_not_count(tmp_path):
    write_runs(tmp_path, np.full(6, 0.9), stick="old")
    runs = write_runs(tmp_path / "later", np.full(5, 0.5), finished="2026-02-01T00:00:00")
    for run in runs:
        run.rename(tmp_path / f"later-{run.name}")
    every = sorted(tmp_path.glob("*run*"))
    row = trend(every)[0].iloc[0]
    assert row["runs"] == 5 and row["verdict"] == "stable"


def test_one_run_is_no_trend(tmp_path):
    with pytest.raises(UserError, match="at least two"):
        trend(write_runs(tmp_path, [1]))


@pytest.mark.parametrize("wandering", CLAIMS["WANDERING"])
@pytest.mark.parametrize("n", [8, 30])
def test_what_wanders_by_itself_has_no_steps_but_a_few_by_chance(wandering, n):
    false = CLAIMS["false_steps"](wandering, n, 1, SERIES, SEED)
    assert false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / SERIES)


def test_false_steps_are_corrected_over_all_cells():
    assert CLAIMS["false_steps"]("random walk", 14, 20, 40, SEED) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


@pytest.mark.parametrize(("series", "verdict"), [([1, 1, 2], "better"), ([1, 1], "stable"), ([1, 2], "few")])
def test_values_that_repeat_bit_for_bit_need_no_test(tmp_path, series, verdict):
    (row,) = trend(write_runs(tmp_path, series))[0].to_dict("records")
    assert row["verdict"] == verdict and np.isnan(row["p"])


@pytest.mark.parametrize(
    ("series", "expected"),
    [([1, 1, 1, 2], 1), ([1, 1, 2, 2, 3, 3], 1), ([1, 2, 1, 2], 0), ([1, 1, 2, 1, 1], 0), ([1, 1.1, 1.2], 0), ([1], 0)],
)
def test_a_series_repeats_if_most_runs_equal_the_one_before_and_no_value_returns(series, expected):
    assert repeats(np.array(series, dtype=float)) == expected


def test_the_contrast_is_that_of_shao_and_zhang():
    """The definition: G = max_k T(k)^2 / V(k) of the CUSUM process and its wandering before and behind k."""
    series, n = np.random.default_rng(SEED).normal(size=12), 12
    expected = np.zeros(n)
    for k in range(2, n - 1):
        cusum = (series[:k].sum() - k / n * series.sum()) / np.sqrt(n)
        before = [(series[:t].sum() - t / k * series[:k].sum()) ** 2 for t in range(1, k + 1)]
        behind = [(series[t - 1 :].sum() - (n - t + 1) / (n - k) * series[k:].sum()) ** 2 for t in range(k + 1, n + 1)]
        expected[k] = cusum**2 / ((sum(before) + sum(behind)) / n**2)
    assert contrasts(series[None])[0] == pytest.approx(expected)


def test_fewer_than_eight_runs_are_not_tested():
    assert np.isnan(p_of_steps([np.arange(FEWEST_RUNS - 1.0)])[0]).all() and p_of_steps([]) == []


def test_drift_that_all_costs_share_is_no_step_and_one_that_stands_out_is(tmp_path):
    generator = np.random.default_rng(SEED)
    shared = np.where(np.arange(30) >= 15, 2.0, 1.0)
    own = {"e3": np.where(np.arange(30) >= 20, 3.0, 1.0)}
    for run in range(30):
        for name in (f"e{number}" for number in range(8)):
            cost = shared[run] * own.get(name, np.ones(30))[run] * np.exp(0.02 * generator.normal())
            about = {"cell": name, "explainer": name, "metric": "seconds_per_sample", "unit": "seconds", "kind": "cost"}
            write_runs(tmp_path, [cost], names=[f"run{run:02}"], **about, better="lower")
    rows = trend(sorted(tmp_path.iterdir()))[0].set_index("cell")
    assert rows.loc["e3", "verdict"] == "worse" and set(rows["verdict"].drop("e3")) == {"stable"}
    assert rows.loc["e3", "since"] == "run20" and rows.loc["e3", "p"] <= 0.05
