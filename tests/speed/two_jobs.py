"""What two processes gain: ``python tests/speed/two_jobs.py`` writes a table into docs/scale.md in some minutes.

A sweep of two jobs is measured one after the other, and by ``launcher=processes`` side by side, each job with one
thread. The efficiency is the time of the first by twice that of the second, on the clock: nothing else may run
meanwhile, and the machine needs two cores. Costs are left out, as two processes on one CPU have no timings.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from pages import as_table, replaced  # noqa: E402

PAGE, MARK = ROOT / "docs" / "scale.md", "two jobs table"
SAMPLES = (60, 500)
JOBS = [
    *("model=digits_cnn", "dataset=digits", "explainer=[rise,kernel_shap,integrated_gradients]"),
    *("metric=[srg,infidelity]", "metric.infidelity.draws=2000"),
]
HEADS = ("samples of a job", "one after the other", "side by side", "efficiency")


def seconds_of_sweep(samples: int, launcher: str) -> float:
    """The seconds of a sweep over two seeds."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"protocol.samples={samples}", f"runtime.runs={folder}", "runtime.sheet=0", "runtime.threads=1"]
        words = [*JOBS, *settings, f"launcher={launcher}", "protocol.seed=0,1", "--quiet", "-m"]
        if launcher == "processes":
            words.append("launcher.at_once=2")
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-P", "-m", "harness", "run", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - started


def main() -> None:
    """Measure, and write the table."""
    rows = []
    for samples in SAMPLES:
        alone, together = (seconds_of_sweep(samples, launcher) for launcher in ("here", "processes"))
        rows.append((f"{samples:,}", f"{alone:.0f} s", f"{together:.0f} s", f"{alone / together / 2:.2f}"))
        print(*rows[-1], sep=" | ", flush=True)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), MARK, as_table(HEADS, rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
