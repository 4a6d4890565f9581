"""Steps over runs: found where they are planted, and not in noise."""

import os

import numpy as np
import pytest

from harness.cli.main import main
from harness.errors import UserError
from harness.results.steps import levels
from harness.results.store import Store
from harness.results.trend import trend

SEED = int(os.environ["HARNESS_TEST_SEED"])
NOISE = {
    "normal": lambda g, n: g.normal(size=n),
    "heavy": lambda g, n: g.standard_t(3, n),
    "two values": lambda g, n: g.integers(0, 2, n) * 1.0,  # as of two kinds of processor in turn
}


def test_a_step_of_a_tenth_in_three_percent_noise_is_found_to_the_run():
    generator = np.random.default_rng(SEED)
    right = 0
    for _ in range(40):
        series = np.r_[np.ones(50), np.full(50, 1.1)] + 0.03 * generator.normal(size=100)
        found = levels(series)
        right += len(found) == 2 and abs(found[1].start - 50) <= 1
    assert right >= 36


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("n", [8, 30, 120])
def test_flat_series_have_no_steps_but_a_few_by_chance(kind, n):
    generator = np.random.default_rng([SEED, n])
    false = np.mean([len(levels(1 + 0.03 * NOISE[kind](generator, n))) > 1 for _ in range(120)])
    assert false < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)


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
    assert [(level.start, level.value) for level in levels(np.r_[np.ones(10), np.full(10, 2.0)])] == [(0, 1), (10, 2)]


def test_missing_runs_are_passed_over():
    series = np.r_[np.ones(12), np.full(12, 2.0)] + 0.01 * np.random.default_rng(SEED).normal(size=24)
    series[[0, 5, 11, 12]] = np.nan
    assert [level.start for level in levels(series)] == [1, 13]


def test_a_constant_series_and_none_at_all():
    assert len(levels(np.ones(30))) == 1 and levels(np.full(4, np.nan)) == []


def write_runs(folder, series, **more):
    for number, value in enumerate(series):
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
            "finished": f"2026-01-{number + 1:02}T00:00:00",
            **more,
        }
        Store(folder / f"run{number:02}").append(row)
    return [folder / f"run{number:02}" for number in range(len(series))]


def test_a_loss_is_told_with_the_run_in_which_it_began(tmp_path, capsys):
    runs = write_runs(tmp_path, np.r_[np.full(8, 0.5), np.full(6, 0.4)])
    rows, values = trend(runs[::-1])  # in any order
    row = rows.iloc[0]
    assert row["verdict"] == "worse" and row["since"] == "run08" and row["change"] == pytest.approx(-0.2)
    assert list(values.columns) == [run.name for run in runs]
    command = ["trend", *(run.name for run in runs), "--runs", str(tmp_path)]
    assert main(command) == 0 and main([*command, "--fail-on", "worse"]) == 1
    assert "worse  net on data: lime, srg: 0.5 (run00) → 0.4 (run08)" in capsys.readouterr().out


def test_a_slow_slide_is_worse_than_the_best_level_before(tmp_path):
    series = np.repeat([0.50, 0.497, 0.494, 0.491], 5)
    assert trend(write_runs(tmp_path, series))[0].iloc[0]["verdict"] == "worse"


@pytest.mark.parametrize(("better", "verdict"), [("higher", "worse"), ("lower", "better"), (None, "moved")])
def test_the_metric_says_which_way_is_better(tmp_path, better, verdict):
    runs = write_runs(tmp_path, np.r_[np.full(6, 0.5), np.full(6, 0.3)], better=better)
    assert trend(runs)[0].iloc[0]["verdict"] == verdict


def test_three_runs_are_few(tmp_path):
    assert trend(write_runs(tmp_path, [1, 1, 2]))[0].iloc[0]["verdict"] == "few"


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
