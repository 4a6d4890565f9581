"""Perturbation explainers against captum, and the engine's own share of time and memory."""

import json
import os
import subprocess
import sys
import time
import warnings
from datetime import datetime
from pathlib import Path

import pytest
import torch

import harness
from bounds import mlp, ready
from harness.jobs.plan import Plan
from harness.jobs.runner import run_plan
from harness.results.store import Store


@pytest.mark.parametrize(
    ("ours", "options", "theirs", "goal"),
    [
        ("kernel_shap", {"estimator": "least_squares"}, "KernelShap", ">= 100"),
        ("kernel_shap", {}, "KernelShap", "none: a fraction of the error, docs/speed.md"),
        ("lime", {}, "Lime", ">= 100"),
    ],
)
def test_shapley_values_and_lime_of_a_table_take_far_less_than_in_captum(
    ours, options, theirs, goal, measure, figure, device
):
    from captum import attr

    model = ready(mlp(), device)
    inputs, targets = torch.randn(16, 10, device=device), torch.zeros(16, dtype=torch.long, device=device)
    samples = 256
    explainer = getattr(attr, theirs)(model)
    warnings.simplefilter("ignore")  # captum recommends one example at a time
    ours_time, captum_time = measure(
        lambda: harness.explain(ours, model, inputs, targets, samples=samples, **options),
        lambda: explainer.attribute(inputs, target=targets, n_samples=samples),
        rounds=2,
    )
    named = " ".join((ours, *options.values()))
    figure(f"{named}, 10-column MLP, 256 evaluations: captum's time / ours", captum_time / ours_time, goal)


def test_ten_times_the_samples_need_no_more_memory(tmp_path, benchmark, figure, device):
    def peak(count):
        settings = {"folder": str(tmp_path), "count": count, "device": device.type}
        code = f"from bounds import print_peak_memory; print_peak_memory(**{settings})"
        done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return map(float, done.stdout.split())

    heap, resident = peak(200)
    more_heap, more_resident = benchmark.pedantic(peak, (2_000,), rounds=1)
    figure(f"peak memory on the heap at 2,000 photos / at 200 ({heap:.0f} MB)", more_heap / heap, "<= 1.1")
    figure(
        f"peak resident memory at 2,000 photos / at 200 ({resident:.0f} MB)",
        more_resident / resident,
        "none: see below",
    )


def many_cells(folder, explainers, metrics, device="cpu"):
    """A plan of many cheap cells."""
    return Plan.of(
        {
            "model": "digits_cnn",
            "dataset": "digits",
            "run": "many",
            "explainer": {
                f"random_{i}": {"name": "blurred_random", "width": 0.01 + i / 1000} for i in range(explainers)
            },
            "metric": {f"deletion_{i}": {"name": "deletion", "steps": i + 2} for i in range(metrics)},
            "protocol": {"samples": 4},
            "runtime": {
                "runs": str(folder),
                "quiet": True,
                "lease": "share",
                "sheet": 0,
                "chunk": 64,
                "device": str(device),
            },
        }
    )


def test_a_cell_costs_little_beside_model_and_metric(tmp_path, benchmark, figure, device):
    plan = many_cells(tmp_path, 20, 10, device)
    benchmark.pedantic(run_plan, (plan,), rounds=1)
    rows = sorted(Store(plan.directory).latest().values(), key=lambda row: row["finished"])
    first, last = (datetime.fromisoformat(rows[place]["finished"]) for place in (0, -1))
    beside = (last - first).total_seconds() - sum(row["seconds"] or 0 for row in rows[1:])
    figure("time per cell beside the metric, explaining included, ms", 1000 * beside / (len(rows) - 1), "<= 10")


def test_running_a_finished_run_of_four_thousand_cells_again(tmp_path, benchmark, figure, monkeypatch):
    plan = many_cells(tmp_path, 80, 50)
    store = Store(plan.directory)
    codes = {e: plan.subject_code(e) for e in plan.explainers}
    sticks = {m: plan.stick(m) for m in plan.metrics}
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what is timed writes nothing
    for cell in plan.cells:
        about = {"model": "m", "dataset": "d", "explainer": cell.explainer.label, "metric": cell.metric.label}
        code = {"subject": codes[cell.explainer] + "-0", "stick": sticks[cell.metric]}
        config = json.loads(json.dumps(plan.identity(cell.explainer, cell.metric)))
        store.write_scores(cell.id, {"sample": list("abcdefghij"), "value": [0.5] * 10})
        store.append({"cell": cell.id, "status": "ok", **about, **code, "value": 0.5, "config": config})
    again = many_cells(tmp_path, 80, 50)
    started = time.perf_counter()
    benchmark.pedantic(run_plan, (again,), rounds=1)
    figure("running a finished run of 4,000 cells again, seconds", time.perf_counter() - started, "<= 3")


def test_masks_at_224_pixels_are_made_faster_than_a_model_takes_them(measure, figure, device):
    from harness.randomness import sample_keys, subsets

    keys = sample_keys(torch.randn(1, 3, 8, 8, device=device))
    (seconds,) = measure(lambda: subsets(keys, 50, 10_000, 224 * 224))
    figure("a random subset of the pixels of a 224 px image, ms", 1000 * seconds / 50, "well below one forward pass")
