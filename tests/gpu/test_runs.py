"""Whole evaluations and runs on the device: their rows, what they cost, and the precision they were asked for."""

import tempfile
from dataclasses import replace

import pandas as pd
import pytest
import torch

import gpu_worlds
import harness
from gpu_worlds import net, noise
from harness.jobs.environment import device_name
from harness.results.store import Store

EXPLAINERS = {
    "gradient": {},
    "integrated_gradients": {"steps": 8},
    "grad_cam": {},
    "occlusion": {"window": 8, "stride": 4},
    "kernel_shap": {"samples": 64, "segments": "grid:3"},
    "random": {},
}
METRICS = {
    "srg": {"steps": 8},
    "road": {"percents": "20 60"},
    "sensitivity_n": {"sizes": 2, "draws": 8},
    "max_sensitivity": {"draws": 4},
    "parameter_randomization": {"stages": 2},
    "relevance_mass": {},
}
COSTS = ["seconds_per_sample", "forward_passes", "backward_passes", "peak_memory_mb"]


def evaluated(device, explainers=EXPLAINERS, metrics=METRICS, **options):
    """The rows of an evaluation on a device, in a fixed order."""
    data = replace(noise(), targets=noise().labels)
    rows = harness.evaluate(net().to(device), data, explainers=explainers, metrics=metrics, **options)
    return rows.sort_values(["explainer", "metric", "sample"], ignore_index=True)


def assert_same(rows, expected, rtol=1e-3, atol=1e-3):
    pd.testing.assert_series_equal(rows["value"], expected["value"], rtol=rtol, atol=atol)


def test_an_evaluation_gives_the_rows_of_the_cpu(device):
    rows, expected = evaluated(device), evaluated(torch.device("cpu"))
    assert set(rows["status"]) == {"ok"}, rows["error"].unique()
    assert_same(rows, expected)


def test_a_repeated_evaluation_gives_the_same_rows(device):
    assert_same(evaluated(device), evaluated(device), rtol=1e-5, atol=1e-6)


def test_the_tuned_copy_of_the_model_scores_as_the_model_does(device):
    assert_same(evaluated(device, tuned=True), evaluated(device), rtol=1e-2, atol=2e-3)


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Runs explainers and metrics on a device that no other run is on; gives the rows of the cells."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the devices' locks lie

    def rows(device, explainers, metrics, name="run"):
        return Store(
            harness.run(
                {
                    "model": "gpu_worlds:net",
                    "dataset": "gpu_worlds:noise",
                    "explainer": explainers,
                    "metric": metrics,
                    "run": name,
                    "runtime": {"runs": str(tmp_path), "device": str(device), "quiet": True, "sheet": 2},
                }
            )
        ).latest()

    return rows


def test_every_cost_is_a_number_and_none_is_negative(device, ran):
    rows = ran(device, EXPLAINERS, COSTS).values()
    assert {row["status"] for row in rows} == {"ok"} and all(row["value"] >= 0 for row in rows)
    assert all(row["value"] > 0 for row in rows if row["metric"] == "seconds_per_sample")
    gradient = {row["metric"]: row["value"] for row in rows if row["explainer"] == "gradient"}
    assert gradient["forward_passes"] == gradient["backward_passes"] == 1


def test_the_time_of_an_explanation_includes_work_that_the_device_does_later(device, ran):
    (row,) = ran(device, {"slow": {"name": "gpu_worlds:slow"}}, ["seconds_per_sample"]).values()
    last = gpu_worlds.took[-2]  # the measured call; one after it looks whether the explainer reads weights
    worked = last if isinstance(last, float) else last[0].elapsed_time(last[1]) / 1000
    assert row["value"] * row["n"] >= 0.99 * worked > 0


def test_the_memory_of_an_explanation_includes_what_it_lets_go(device, ran):
    (row,) = ran(device, {"greedy": {"name": "gpu_worlds:greedy"}}, ["peak_memory_mb"]).values()
    assert row["value"] >= 0.9 * gpu_worlds.MEGABYTES


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_reaches_the_model_and_hardly_changes_the_scores(dtype, device):
    seen = set()

    def watched():
        model = net().to(device)
        model[-1].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        return model

    data, options = (
        replace(noise(), targets=noise().labels),
        {"explainers": ["occlusion", "random"], "metrics": {"srg": {"steps": 8}}},
    )
    rows = harness.evaluate(watched(), data, dtype=dtype, **options)
    full = harness.evaluate(net().to(device), data, **options)
    assert getattr(torch, dtype) in seen and set(rows["status"]) == {"ok"}
    assert_same(rows, full, rtol=0.1, atol=0.05)


def test_tf32_is_on_while_it_is_asked_for_and_then_only(device):
    settings = lambda: (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)  # noqa: E731
    seen, before = set(), settings()

    def watching(model, inputs, targets):
        """Notes the precision it is called under."""
        seen.add(settings())
        return inputs * model(inputs).sum()

    rows = evaluated(device, explainers=[watching, "gradient"], metrics={"srg": {"steps": 8}}, dtype="tf32")
    assert seen == {("tf32", "tf32")} and settings() == before
    full = evaluated(device, explainers=[watching, "gradient"], metrics={"srg": {"steps": 8}})
    assert seen == {("tf32", "tf32"), ("ieee", "ieee")} and settings() == before
    assert_same(rows, full, rtol=0.1, atol=0.02)


def test_a_run_leaves_the_scores_of_the_cpu_and_resumes_on_the_device(device, ran):
    metrics = {**METRICS, **{cost: {} for cost in COSTS}}
    rows, expected = ran(device, EXPLAINERS, metrics, "there"), ran("cpu", EXPLAINERS, metrics, "here")
    failed = [row["error"] for row in rows.values() if row["status"] != "ok"]
    assert not failed and rows.keys() == expected.keys() and len(rows) == len(EXPLAINERS) * len(metrics)
    assert {row["device"] for row in rows.values()} == {device_name(device)}
    for cell, row in rows.items():
        if row["kind"] != "cost":
            assert row["value"] == pytest.approx(expected[cell]["value"], rel=2e-2, abs=5e-3), row["metric"]
    assert ran(device, EXPLAINERS, metrics, "there") == rows
