"""Whole evaluations and runs on the device: their rows, what they cost, and the precision they were asked for."""

import time

import pandas as pd
import pytest
import torch

import harness
from harness.jobs.environment import device_name
from harness.results.store import Store
from worlds import net, noise

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
    "sensitivity_n": {"sizes": 2, "subsets": 8},
    "max_sensitivity": {"samples": 4},
    "parameter_randomization": {"stages": 2},
    "relevance_mass": {},
}
COSTS = ["seconds_per_sample", "forward_passes", "backward_passes", "peak_memory_mb"]
MEGABYTES = 64


def evaluated(device, explainers=EXPLAINERS, metrics=METRICS, **options):
    """The rows of an evaluation on a device, in a fixed order."""
    data = noise()
    rows = harness.evaluate(
        net().to(device),
        harness.Data(data.inputs, data.labels, value_range=(0.0, 1.0)),
        masks=data.masks,
        explainers=explainers,
        metrics=metrics,
        **options,
    )
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


def test_every_cost_is_a_number_and_none_is_negative(device):
    rows = evaluated(device, metrics=COSTS)
    assert set(rows["status"]) == {"ok"} and (rows["value"] >= 0).all()
    assert (rows[rows["metric"] == "seconds_per_sample"]["value"] > 0).all()
    gradient = rows[rows["explainer"] == "gradient"].groupby("metric")["value"].mean()
    assert gradient["forward_passes"] == gradient["backward_passes"] == 1


def test_the_time_of_an_explanation_includes_work_that_the_device_does_later(device):
    took = []

    def slow(model, inputs, targets):
        """Multiplies matrices, and notes how long the device worked on it."""
        side = 4096 if inputs.is_cuda else 256
        matrix, started = torch.ones(side, side, device=inputs.device), time.perf_counter()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if inputs.is_cuda else []
        for mark in marks[:1]:
            mark.record()
        for _ in range(40):
            matrix = matrix @ matrix / side
        for mark in marks[1:]:
            mark.record()
        took.append(marks or time.perf_counter() - started)
        return inputs + 0 * matrix[0, 0]

    rows = evaluated(device, explainers=[slow], metrics=["seconds_per_sample"])
    last = took[-1]
    worked = last if isinstance(last, float) else last[0].elapsed_time(last[1]) / 1000
    assert rows["value"].sum() >= 0.99 * worked > 0


def test_the_memory_of_an_explanation_includes_what_it_lets_go(device):
    def greedy(model, inputs, targets):
        """Takes memory for a moment."""
        return inputs + torch.ones(MEGABYTES * 2**18, device=inputs.device)[:1]

    rows = evaluated(device, explainers=[greedy], metrics=["peak_memory_mb"])
    assert (rows["value"] >= 0.9 * MEGABYTES).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_reaches_the_model_and_hardly_changes_the_scores(dtype, device):
    seen = set()

    def watched():
        model = net().to(device)
        model[-1].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        return model

    data, options = noise(), {"explainers": ["occlusion", "random"], "metrics": {"srg": {"steps": 8}}}
    rows = harness.evaluate(watched(), data.inputs, data.labels, dtype=dtype, **options)
    full = harness.evaluate(net().to(device), data.inputs, data.labels, **options)
    assert getattr(torch, dtype) in seen and set(rows["status"]) == {"ok"}
    assert_same(rows, full, rtol=0.1, atol=0.05)


def test_tf32_is_on_while_it_is_asked_for_and_then_only(device):
    settings = lambda: (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)
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


def test_a_run_leaves_the_scores_of_the_cpu_and_resumes_on_the_device(device, tmp_path):
    def ran(where, name):
        return harness.run(
            {
                "model": "worlds:net",
                "dataset": "worlds:noise",
                "explainer": EXPLAINERS,
                "metric": {**METRICS, **{cost: {} for cost in COSTS}},
                "run": name,
                "runtime": {"runs": str(tmp_path), "device": str(where), "quiet": True, "lease": "share", "sheet": 2},
            }
        )

    there, here = ran(device, "there"), ran("cpu", "here")
    rows, expected = (Store(folder).latest() for folder in (there, here))
    failed = [row["error"] for row in rows.values() if row["status"] != "ok"]
    assert not failed and rows.keys() == expected.keys() and len(rows) == len(EXPLAINERS) * (len(METRICS) + len(COSTS))
    assert {row["device"] for row in rows.values()} == {device_name(device)}
    again = Store(ran(device, "there")).latest()
    for cell, row in rows.items():
        if row["kind"] != "cost":  # times are measured again if another run was on the device
            assert row["value"] == pytest.approx(expected[cell]["value"], rel=2e-2, abs=5e-3), row["metric"]
            assert row["finished"] == again[cell]["finished"]
