"""Runs of the toys, in this process and in others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture
def config(tmp_path):
    """A small block of toys that lands below the test's own folder."""
    return {
        "model": "toys:net",
        "dataset": "toys:images",
        "explainer": {"gradient": {"name": "toys:gradient_map"}, "twice": {"name": "toys:gradient_map", "factor": 2.0}},
        "metric": {"total": {"name": "toys:total"}, "drop": {"name": "toys:drop"}},
        "protocol": {"explain_batch": 3},
        "run": "night",
        "runtime": {"runs": str(tmp_path), "chunk": 7, "quiet": True, "lease": "share", "sheet": 0},
    }


@pytest.fixture
def elsewhere(tmp_path):
    """Start a run in another process; gives the process."""

    def start(config, **environment):
        path = tmp_path / f"config-{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(config))
        code = (
            f"import sys, json, harness; sys.path.insert(0, {str(HERE)!r}); harness.run(json.load(open({str(path)!r})))"
        )
        settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        return subprocess.Popen([sys.executable, "-c", code], env=settings, stderr=subprocess.PIPE, text=True)

    return start
