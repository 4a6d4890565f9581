"""The table of ``check.sh``: a row per check, written when the check ends. As pytest's plugin, a row per test.

``python rows.py PART CHECK OUTCOME SECONDS [DETAIL]`` appends one row. Where it goes and what it says of the machine
comes from the environment, which ``check.sh`` sets once.
"""

import os
import sys
import time
from pathlib import Path

COLUMNS = ("part", "check", "outcome", "seconds", "detail", "card", "torch", "cuda", "python")
LONGEST = 400  # characters of a cell


def write(part, check, outcome, seconds, detail=""):
    """Append a row, which is on disk afterwards."""
    machine = [os.environ.get(f"CHECK_{name.upper()}", "") for name in COLUMNS[5:]]
    cells = [part, check, outcome, f"{float(seconds):.2f}", detail, *machine]
    path = Path(os.environ["CHECK_TABLE"])
    new = not path.exists()
    with open(path, "a") as file:
        for line in ([COLUMNS] if new else []) + [cells]:
            file.write("\t".join(" ".join(str(cell).split())[:LONGEST] for cell in line) + "\n")


class Rows:
    """A row per test, and none started after the time is up."""

    def __init__(self):
        self.part, self.seconds = os.environ["CHECK_PART"], {}
        self.until = time.monotonic() + float(os.environ["CHECK_SECONDS"])

    def pytest_runtest_setup(self, item):
        """A test for which no time is left is not run, and its row says so."""
        import pytest

        if time.monotonic() > self.until:
            pytest.skip("not reached: the time of this part is up")

    def pytest_runtest_makereport(self, item, call):
        """What a benchmark measured goes from the test to its report."""
        benchmark = getattr(item, "funcargs", {}).get("benchmark")
        figures = getattr(benchmark, "extra_info", {}).items()
        said = [f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}" for name, value in figures]
        if call.when == "call" and said:
            item.user_properties.append(("measured", "; ".join(said)))

    def pytest_runtest_logreport(self, report):
        """Setup, call and teardown make one row; what went wrong in any of them is its outcome."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.when == "teardown" and report.passed:
            return
        if report.when == "setup" and report.passed:
            return
        write(self.part, report.nodeid, report.outcome, self.seconds[report.nodeid], _detail(report))


def pytest_configure(config):
    """Take part in the run."""
    config.pluginmanager.register(Rows(), "a row per test")


def _detail(report):
    """What was measured, why it was skipped, or the line that says what failed."""
    if report.skipped:
        return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        return f"{report.when}: {crash.message if crash else report.longrepr}"
    return dict(report.user_properties).get("measured", "")


if __name__ == "__main__":
    write(*sys.argv[1:])
