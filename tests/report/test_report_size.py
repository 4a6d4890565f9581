"""A large run's report stays small: 20 explainers, 20 metrics, and with HARNESS_LARGE=1 all of 1,000 samples."""

import os
import time

import numpy as np
import pytest

from harness.results.store import Store
from harness.views.report import write_report as report
from worlds import keep_maps, write_cell

EXPLAINERS = [*(f"explainer_{place}" for place in range(17)), "random", "edge", "center"]
METRICS = ["srg", *(f"metric_{place}" for place in range(14))]
COSTS = ["seconds_per_sample", "cost_1", "cost_2", "cost_3", "cost_4"]


LARGE = bool(os.environ.get("HARNESS_LARGE"))  # all 1,000 samples take a minute; what is embedded is the same


@pytest.mark.parametrize("n", [1000 if LARGE else 60])
def test_a_report_of_20_explainers_and_20_metrics_stays_under_15_mb(tmp_path, seed, n):
    write_large(tmp_path / "large", np.random.default_rng(seed), n)
    started = time.perf_counter()
    page = report(tmp_path / "large")
    print(f"built in {time.perf_counter() - started:.1f} s, {page.stat().st_size / 1e6:.2f} MB")
    assert page.stat().st_size < 15e6
    assert page.with_suffix(".md").stat().st_size < 1e6


def write_large(directory, generator, n, points=33):
    store = Store(directory)
    labels = generator.integers(0, 8, n).tolist()
    for place, name in enumerate(EXPLAINERS):
        mean = 0.0 if name in ("random", "edge", "center") else 0.03 * place
        for metric in METRICS:
            values = mean + generator.normal(0, 0.3, n)
            curves = values[:, None] + generator.normal(0, 0.1, (n, points)) if metric != "metric_13" else None
            write_cell(store, name, metric, values, curves=curves, labels=labels, kind="faithfulness", quick=True)
        for metric in COSTS:
            write_cell(
                store,
                name,
                metric,
                generator.uniform(0.01, 2, n),
                labels=labels,
                kind="cost",
                better="lower",
                quick=True,
            )
    images = generator.integers(0, 256, (20, 112, 112, 3), dtype=np.uint8)
    maps = {name: generator.uniform(-1, 1, (20, 112, 112)) for name in EXPLAINERS}
    keep_maps(directory, maps, inputs=images)
