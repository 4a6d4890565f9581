"""Ratios of two times measured in one process, side by side, because machines are noisy; printed as one table.

``pytest tests/speed`` prints it, ``pytest tests/speed --speed-table docs/speed.md`` also puts it into the page.
"""

import math
import sys
import time
from pathlib import Path

import pytest
import torch

from harness.engine.allocator import keep_freed_memory
from harness.jobs.environment import device_name

MARKS = "<!-- {} table: begin -->", "<!-- {} table: end -->"
SHORT = 0.1  # seconds
FIGURES, EXPLAINERS, METRICS = [], [], []
MEASURED = []  # the device, once tests run
sys.path.insert(0, str(Path(__file__).parent))  # runs import ``bounds`` by name


def pytest_addoption(parser):
    parser.addoption(
        "--speed-table",
        metavar="FILE",
        action="append",
        default=[],
        help="put the table of ratios into this Markdown page",
    )


@pytest.fixture(scope="session", autouse=True)
def device(device):
    """The device that is measured, with the allocator of a CPU and the precision of a GPU as a run sets them."""
    keep_freed_memory()
    for backend in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
        backend.fp32_precision = "ieee"
    MEASURED.append(device)
    return device


@pytest.fixture
def measure(benchmark, device):
    """Measure interleaved rounds of several functions; gives the best time of each, the first being the benchmark's
    own."""

    def best_times(*functions, rounds=3):
        for function in functions:
            _timed(function, device)
        times = [[_timed_warm(function, device) for function in functions] for _ in range(rounds)]
        benchmark.pedantic(functions[0], rounds=1)
        return [min(column) for column in zip(*times, strict=True)]

    return best_times


@pytest.fixture
def figure(benchmark):
    """Note a figure for the table: what it is, its value, and the goal it is held against (never asserted)."""

    def note(what, value, goal):
        benchmark.extra_info[what] = value
        FIGURES.append((what, f"{value:.3g}", goal))

    return note


@pytest.fixture
def explainer_figure(benchmark):
    """Note what one explainer took for its table: passes and seconds per sample, and the ratios."""

    def note(name, forwards, backwards, seconds, to_bound, to_gradient):
        benchmark.extra_info.update(bound=to_bound, gradient=to_gradient)
        EXPLAINERS.append(
            (
                name,
                f"{forwards:.4g}",
                f"{backwards:.4g}",
                f"{1000 * seconds:.3g}",
                f"{to_bound:.2f}",
                f"{to_gradient:.3g}",
            )
        )

    return note


@pytest.fixture
def metric_figure(benchmark):
    """Note what one metric took for its table: passes and seconds per sample, and the ratio."""

    def note(name, forwards, backwards, seconds, to_bound):
        benchmark.extra_info["bound"] = to_bound
        ratio = "" if math.isnan(to_bound) else f"{to_bound:.2f}"
        METRICS.append((name, f"{forwards:.4g}", f"{backwards:.4g}", f"{1000 * seconds:.3g}", ratio))

    return note


def _timed_warm(function, device):
    """The best time of a call. One of milliseconds is repeated: the first finds caches that others have used."""
    seconds = _timed(function, device)
    return min([seconds, *(_timed(function, device) for _ in range(min(10, int(SHORT / seconds))))])


def _timed(function, device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def pytest_terminal_summary(terminalreporter, config):
    tables = {
        "speed": (("what", "measured", "goal"), FIGURES),
        "explainers": (
            ("explainer", "forward", "backward", "ms a sample", "time / its bare passes", "time / a plain gradient"),
            EXPLAINERS,
        ),
        "metrics": (("metric", "forward", "backward", "ms a sample", "time / its bare passes"), METRICS),
    }
    for name, (head, rows) in tables.items():
        if rows:
            name = f"{name} on a GPU" if MEASURED[0].type == "cuda" else name
            table = _markdown(head, rows)
            terminalreporter.write_line("\n" + table)
            for page in config.getoption("--speed-table"):
                _put_between(Path(page), *(mark.format(name) for mark in MARKS), table)


def _markdown(head, rows):
    lines = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"Measured on {device_name(MEASURED[0])}, torch {torch.__version__}.", "", *lines])


def _put_between(page, start, end, text):
    """Replace what stands between two marks on a page, if it has them."""
    before, found, rest = page.read_text().partition(start)
    if found:
        page.write_text(f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}")
