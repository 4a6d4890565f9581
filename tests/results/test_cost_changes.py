"""Costs of two sides: the machine's drift is divided out, calls are no runs, and what cannot be tested is said."""

import os
import runpy
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compared_runs import verdicts, write_run
from harness.results.comparison import compare_runs
from harness.results.comparison_costs import MOST_DRIFT, cost_of_run
from harness.results.cost_changes import LEAST_CELLS, divisible, net_changes, p_of_costs, p_of_divisions, without_drift

SEED = int(os.environ["HARNESS_TEST_SEED"])
CLAIMS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "claims_runs.py"))
COST = {"kind": "cost", "metric": "seconds_per_sample", "unit": "seconds", "better": "lower"}
NAMES = [f"e{number}" for number in range(12)]


def calls(generator, base, count=12):
    """The costs of samples of ``count`` calls, ten samples each."""
    return np.repeat(base * generator.uniform(0.97, 1.03, count), 10)


def costs_of(generator, factors, count=12):
    return {name: (calls(generator, factor, count), COST) for name, factor in zip(NAMES, factors, strict=False)}


@pytest.mark.parametrize("drift", CLAIMS["OWN_DRIFT"])
@pytest.mark.parametrize(("base", "new"), [(1, 1), (4, 4)])
def test_drift_of_the_machine_and_of_explainers_raises_no_alarm(drift, base, new):
    simulations = 150
    false = CLAIMS["false_cost_alarms"](drift, 12, base, new, simulations, SEED)
    assert false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / simulations)


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_faster_code_on_a_slower_machine_is_never_worse_and_an_eightfold_slowdown_always_is(runs):
    worse, _ = CLAIMS["seen_cost_change"]("normal, 5 %", 0.8, 20, runs, 50, seed=SEED)
    eightfold, _ = CLAIMS["seen_cost_change"]("normal, 5 %", 8.0, 20, runs, 50, seed=SEED)
    assert worse == 0 and eightfold >= 0.95


def test_five_runs_on_each_side_show_that_code_is_a_fifth_faster():
    assert CLAIMS["seen_cost_change"]("none but a hundredth", 0.8, 20, 5, 40, seed=SEED)[1] > 0.9


@pytest.mark.parametrize("count", [1, 2, 12])
def test_an_eightfold_slowdown_is_seen_whatever_the_number_of_calls(tmp_path, count):
    generator = np.random.default_rng(SEED)
    slow = np.where(np.arange(12) == 3, 8.0, 1.0) * generator.uniform(1.3, 1.5, 12)
    found, whole = verdicts(tmp_path, costs_of(generator, np.ones(12), count), costs_of(generator, slow, count))
    assert found.pop("e3") == "worse" and set(found.values()) <= {"same", "moved"}
    assert whole.drift["seconds_per_sample of net on data"] == pytest.approx(1.4, abs=0.1)
    assert whole.cells.set_index("cell").loc["e3", "change"] == pytest.approx(7, abs=1)


@pytest.mark.parametrize("cells", [1, 4])
def test_few_costs_of_single_runs_cannot_be_told_from_the_machine_unless_no_machine_drifts_so(tmp_path, cells):
    generator = np.random.default_rng(SEED)
    before, slower, far = (costs_of(generator, np.full(cells, factor)) for factor in (1.0, 2.0, 8.0))
    found, whole = verdicts(tmp_path / "a", before, slower)
    assert set(found.values()) == {"moved"} and whole.cells["note"].str.startswith("not tested").all()
    found, whole = verdicts(tmp_path / "b", before, far)
    assert set(found.values()) == {"worse"} and whole.cells["note"].str.contains(f"{MOST_DRIFT:g} times").all()


def test_calls_are_no_runs(tmp_path):
    generator = np.random.default_rng(SEED)
    before, after = costs_of(generator, [1.0], 100), costs_of(generator, [1.5], 100)
    assert verdicts(tmp_path, before, after)[0] == {"e0": "moved"}


def test_several_runs_on_each_side_need_no_other_explainers(tmp_path):
    generator = np.random.default_rng(SEED)
    sides = [
        [write_run(tmp_path / f"{side}{run}", costs_of(generator, [factor, 1.0])) for run in range(4)]
        for side, factor in (("base", 1.0), ("new", 1.5))
    ]
    cells = compare_runs(*sides).cells.set_index("cell")
    assert dict(cells["verdict"]) == {"e0": "worse", "e1": "same"} and cells.loc["e0", "p"] == pytest.approx(2 / 70)
    assert cells.loc["e0", "n"] == 4


def test_a_cost_of_another_device_or_below_the_resolution_of_the_clock_has_no_verdict(tmp_path):
    generator = np.random.default_rng(SEED)
    elsewhere = {"e0": (calls(generator, 3.0), {**COST, "device": "gpu"})}
    assert verdicts(tmp_path / "a", costs_of(generator, [1.0]), elsewhere)[0] == {"e0": "not comparable"}
    found, _ = verdicts(tmp_path / "b", costs_of(generator, np.full(8, 1e-5)), costs_of(generator, np.full(8, 1e-4)))
    assert set(found.values()) == {"same"}


def test_a_count_that_is_the_same_in_all_runs_needs_no_test(tmp_path):
    count = {"kind": "cost", "metric": "forward_passes", "unit": "passes", "better": "lower"}
    found, _ = verdicts(tmp_path, {"a": (np.full(20, 16.0), count)}, {"a": (np.full(20, 32.0), count)})
    assert found == {"a": "worse"}


def test_few_costs_keep_their_drift():
    logs = np.random.default_rng(SEED).normal(size=(LEAST_CELLS, 4))
    assert np.array_equal(without_drift(logs[:-1])[0], logs[:-1])
    shifted = logs + [0, 1, 2, 3]
    assert np.allclose(without_drift(shifted)[0], without_drift(logs)[0] + np.mean([0, 1, 2, 3]))


def test_the_test_of_divisions_is_the_share_of_all_divisions_that_are_as_far_apart():
    logs = np.random.default_rng(SEED).normal(size=(1, 7))
    logs[0, 3:] += 1

    def distance(base):
        sides = logs[0, list(base)], np.delete(logs[0], list(base))
        within = sum(((side - side.mean()) ** 2).sum() for side in sides)
        return abs(sides[0].mean() - sides[1].mean()) / (np.sqrt(within / 5) + 0.03)

    every = [distance(base) for base in combinations(range(7), 3)]
    assert p_of_divisions(logs, 3)[0] == pytest.approx(np.mean(np.array(every) >= distance((0, 1, 2)) - 1e-12))


def test_runs_can_be_divided_in_enough_ways_or_the_other_costs_are_the_yardstick():
    assert [divisible(*sides) for sides in ((3, 3), (3, 4), (4, 4), (1, 18), (1, 19))] == [0, 1, 1, 0, 1]
    assert np.isnan(p_of_costs([np.zeros((LEAST_CELLS - 1, 2))], 1)[0]).all()
    assert np.isfinite(p_of_costs([np.zeros((LEAST_CELLS, 2))], 1)[0]).all()
    assert p_of_costs([], 1) == [] and net_changes(np.array([[1.0, 3.0, 4.0]]), 1)[0] == 2.5


def test_a_short_last_call_does_not_decide_the_cost_of_a_run():
    """Ten samples in one call and two in another: the cost is that of the ten."""
    costs = pd.DataFrame({"value": [0.001] * 10 + [0.02] * 2})
    assert cost_of_run(({}, costs)) == 0.001 and np.isnan(cost_of_run(({}, costs * np.nan)))
