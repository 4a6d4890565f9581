"""A run that is killed at random moments, again and again, ends with the table of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.results.frames import read

HERE = Path(__file__).parent
KILLS = int(os.environ.get("HARNESS_TEST_KILLS", 2))  # docs/reliability.md tells of 50
SEED = int(os.environ["HARNESS_TEST_SEED"])
LAST_TRIES = 5  # after the kills; a cell is measured again at most twice
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def started(folder, run):
    """``harness run`` of a small block in a process group of its own."""
    words = [
        "model=repeated:net",
        "dataset=repeated:images",
        "explainer=[gradient,rise,random]",
        "explainer.rise.samples=60",
        "metric=[deletion,sparseness,infidelity]",
        "protocol.explain_batch=2",
        f"runtime.runs={folder}",
        "runtime.lease=share",
        "runtime.threads=1",
        "runtime.retry=true",
        f"run={run}",
    ]
    command = [sys.executable, "-m", "harness.cli", "run", "--quiet", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    return subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def table_of(folder, run):
    """Every score of the ok cells of a run as its exact number; no cell may have two rows in the table."""
    cells, scores = read(folder / run)
    assert not cells.duplicated("cell").any()
    return {(row.explainer, row.metric, row.sample): row.value.hex() for row in scores.itertuples()}


def test_a_run_that_is_killed_at_random_ends_with_the_table_of_an_undisturbed_one(tmp_path):
    begun = time.monotonic()
    calm = started(tmp_path, "calm")
    assert calm.wait(timeout=600) == 0, calm.stderr.read()
    longest, whole, draws = time.monotonic() - begun, table_of(tmp_path, "calm"), random.Random(SEED)
    for _ in range(KILLS):
        process = started(tmp_path, "killed")
        time.sleep(draws.uniform(0, longest))
        process.send_signal(draws.choice(SIGNALS))
        process.communicate(timeout=120)
    for _ in range(LAST_TRIES):
        if started(tmp_path, "killed").wait(timeout=600) == 0:
            break
    assert table_of(tmp_path, "killed") == whole and len(whole) == 3 * 3 * 5
