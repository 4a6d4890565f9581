"""The same command gives the same numbers, bit for bit: in another process, under load, resumed, and cell by cell."""

import pytest
import torch

import harness
from harness.results.frames import read


@pytest.fixture
def config(config):
    """A block of the net in ``repeated``, with explainers and metrics of every kind and no number of rows per pass."""
    del config["runtime"]["chunk"]
    config["runtime"]["threads"], before = 1, torch.get_num_threads()
    few = {"samples": 24}
    yield config | {
        "model": "repeated:net",
        "dataset": "repeated:images",
        "explainer": {
            "gradient": {},
            "integrated_gradients": {"steps": 6},
            "kernel_shap": few | {"segments": "grid:3"},
            "rise": few,
            "random": {},
        },
        "metric": {
            "deletion": {"steps": 12},
            "sensitivity_n": {"sizes": 3, "draws": 12},
            "faithfulness_correlation": {"draws": 20},
            "max_sensitivity": {"draws": 2},
        },
        "protocol": {"explain_batch": 2},
    }
    torch.set_num_threads(before)


def scores_of(directory):
    """Every score of a run as its exact number."""
    cells, scores = read(directory)
    assert set(cells["status"]) == {"ok"}
    return {(row.cell, row.sample): row.value.hex() for row in scores.itertuples()}


@pytest.fixture
def whole(config):
    """The scores of the block, measured at once and undisturbed."""
    return scores_of(harness.run({**config, "run": "whole"}))


def test_fresh_processes_at_once_with_other_hashes_give_the_numbers_of_this_one(config, whole, elsewhere, tmp_path):
    at_once = [elsewhere({**config, "run": f"fresh {seed}"}, PYTHONHASHSEED=str(seed)) for seed in range(2)]
    assert [each.wait(timeout=240) for each in at_once] == [0, 0], [each.stderr.read() for each in at_once]
    assert len(whole) == 5 * 4 * 5
    assert [scores_of(tmp_path / f"fresh {seed}") == whole for seed in range(2)] == [True, True]


def test_a_resumed_run_gives_the_numbers_of_an_undisturbed_one(config, whole, tmp_path):
    part = {**config, "explainer": {name: config["explainer"][name] for name in ("rise", "gradient")}}
    directory = harness.run(part)
    for damaged in ("scoring-0123456789abcdef.json", "scoring-.json"):  # older versions kept a calibration there
        (directory / "config" / damaged).write_text('{"variant": "eager", "chunk": -1')
    harness.run(config)
    assert scores_of(tmp_path / "night") == whole


def test_a_cell_measured_alone_has_the_numbers_that_it_has_in_the_block(config, whole):
    config["runtime"]["control"] = False
    metrics = list(config["metric"])
    for number, name in enumerate(config["explainer"]):
        metric = metrics[number % len(metrics)]
        only = {"explainer": {name: config["explainer"][name]}, "metric": {metric: config["metric"][metric]}}
        alone = scores_of(harness.run({**config, **only, "run": f"only {number}"}))
        assert len(alone) == 5 and alone.items() <= whole.items(), (name, metric)


def test_the_order_of_explainers_and_metrics_changes_no_number(config, whole):
    for kind in ("explainer", "metric"):
        config[kind] = dict(reversed(config[kind].items()))
    assert scores_of(harness.run(config)) == whole
