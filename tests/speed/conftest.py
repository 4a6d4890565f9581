"""Ratios of two times measured in one process, side by side, because machines are noisy; printed as one table.

``pytest tests/speed`` prints it, ``pytest tests/speed --speed-table docs/speed.md --speed-table README.md`` also puts
it into these pages.
"""

import sys
import time
from pathlib import Path

import pytest
import torch

from harness.allocator import keep_freed_memory
from harness.environment import device_name

START, END = "<!-- speed table: begin -->", "<!-- speed table: end -->"
FIGURES = []
sys.path.insert(0, str(Path(__file__).parent))  # runs import ``bounds`` by name


def pytest_addoption(parser):
    parser.addoption(
        "--speed-table",
        metavar="FILE",
        action="append",
        default=[],
        help="put the table of ratios into this Markdown page",
    )


@pytest.fixture
def device():
    """The device that is measured: the GPU if there is one; on a CPU with the allocator as a run sets it."""
    keep_freed_memory()
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


@pytest.fixture
def measure(benchmark, device):
    """Measure interleaved rounds of several functions; gives the best time of each, the first being the benchmark's
    own."""

    def best_times(*functions, rounds=3):
        for function in functions:
            _timed(function, device)
        times = [[_timed(function, device) for function in functions] for _ in range(rounds)]
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


def _timed(function, device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def pytest_terminal_summary(terminalreporter, config):
    if not FIGURES:
        return
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    rows = [f"| {what} | {value} | {goal} |" for what, value, goal in FIGURES]
    table = "\n".join([f"Measured on {device_name(device)}, torch {torch.__version__}.", "",
                       "| what | measured | goal |", "| --- | --- | --- |", *rows])  # fmt: skip
    terminalreporter.write_line("")
    terminalreporter.write_line(table)
    for page in config.getoption("--speed-table"):
        before, _, rest = Path(page).read_text().partition(START)
        _, _, after = rest.partition(END)
        Path(page).write_text(f"{before}{START}\n{table}\n{END}{after}")
