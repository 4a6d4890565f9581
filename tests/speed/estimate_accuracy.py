"""How near estimates are: ``python tests/speed/estimate_accuracy.py`` writes a table into docs/runs.md.

Each setting is estimated, as by ``harness plan --estimate``, and then measured, as by ``harness run``, in a new process
each. The passes of the run are counted by hooks around the whole block, and not by the pieces of the estimate. Seconds
are those of the processor, with one thread: other processes on the machine disturb them less. Names of settings as
arguments measure only these, and print their rows.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from pages import as_table, replaced  # noqa: E402

PAGE, MARK = ROOT / "docs" / "runs.md", "estimate accuracy table"
# Model, data set, explainers, to which the control is added, metrics, samples.
SETTINGS = {
    "`lite0` on 20 `photos`, 5 explainers, 2 metrics": (
        "lite0",
        "photos",
        ("saliency", "grad_cam", "deep_lift", "feature_ablation"),
        ("srg", "sparseness"),
        20,
    ),
    "`digits_cnn` on `digits`, 5 explainers, 4 metrics": (
        "digits_cnn",
        "digits",
        ("saliency", "integrated_gradients", "rise", "kernel_shap"),
        ("srg", "infidelity", "sparseness", "seconds_per_sample"),
        None,
    ),
    "`adult_mlp` on `adult`, 5 explainers, 3 metrics": (
        "adult_mlp",
        "adult",
        ("saliency", "deep_lift", "lime", "feature_ablation"),
        ("srg", "infidelity", "sparseness"),
        2000,
    ),
}
HEADS = (
    "setting",
    "calibrated on",
    "calibration",
    "predicted",
    "measured",
    "time",
    "passes predicted",
    "passes measured",
)


def config(name: str, runs: str) -> dict[str, Any]:
    """The configuration of a setting."""
    model, dataset, explainers, metrics, samples = SETTINGS[name]
    return {
        "model": model,
        "dataset": dataset,
        "explainer": list(explainers),
        "metric": list(metrics),
        "protocol": {"samples": samples},
        "runtime": {"runs": runs, "quiet": True, "lease": "share", "threads": 1, "device": "cpu"},
    }


def estimate(name: str) -> dict[str, Any]:
    """The facts of the estimate."""
    time.perf_counter = time.process_time
    from harness.jobs.calibration import estimate_job
    from harness.jobs.plan import Plan
    from harness.jobs.progress import Progress

    with tempfile.TemporaryDirectory() as folder:
        plan = Plan.of(config(name, folder)).with_control()
        return estimate_job(plan, Path(folder), Progress(quiet=True)).facts()


def run(name: str) -> tuple[float, int, float]:
    """Seconds, passes and peak GiB of the run."""
    time.perf_counter = time.process_time
    from harness.engine.cost import PassCounter
    from harness.jobs import runner
    from harness.jobs.blocks import run_block
    from harness.jobs.pieces import MemoryWatch
    from harness.jobs.plan import Plan

    passes, measure = [], runner.measure_block

    def counted(stage, *arguments, **settings):
        counter = PassCounter(stage.module, stage.predictor)
        with counter.counting():
            measure(stage, *arguments, **settings)
        passes.append(stage.count + counter.forwards + counter.backwards)  # and the outputs of the clean samples

    runner.measure_block = counted
    with tempfile.TemporaryDirectory() as folder:
        import torch

        with MemoryWatch(torch.device("cpu")) as memory:
            started = time.perf_counter()
            run_block(Plan.of(config(name, folder)).with_control())
            seconds = time.perf_counter() - started
    return seconds, sum(passes), memory.peak[0]


def in_new_process(function, name: str) -> Any:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, name).result()


def row(name: str) -> tuple[str, ...]:
    """A setting's row."""
    from harness.cli.estimate_text import time_in_words

    predicted = in_new_process(estimate, name)
    seconds, passes, memory = in_new_process(run, name)
    expected, expected_passes = sum(predicted["parts"]), sum(predicted["passes"])
    print(
        f"memory: {predicted['memory'][0]:.2f} GiB predicted, {memory:.2f} GiB measured; once {predicted['once']:.1f} s"
    )
    cells = (
        name,
        f"{', '.join(map(str, predicted['sizes']))} of {predicted['samples']:,}",
        time_in_words(predicted["calibration"]),
        time_in_words(expected),
        time_in_words(seconds),
        f"{100 * (expected / seconds - 1):+.0f} %",
        f"{expected_passes:,}",
        f"{passes:,}",
    )
    print(*cells, sep=" | ", flush=True)
    return cells


def main() -> None:
    """Measure the settings; without arguments all of them, into the page."""
    chosen = sys.argv[1:]
    rows = [row(name) for name in SETTINGS if not chosen or any(word in name for word in chosen)]
    print(f"load: {os.getloadavg()}")
    if not chosen:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(replaced(text, MARK, as_table(HEADS, rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
