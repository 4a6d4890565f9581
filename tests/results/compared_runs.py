"""Runs that hold planted scores, to be compared."""

import numpy as np

from harness.results.comparison import compare_runs
from harness.results.store import Store

SAMPLES = 40


def write_run(folder, cells, environment=None):
    """A run: explainer -> its values, or (status, error), with other columns of its row."""
    store = Store(folder)
    hashed = store.write_environment(environment or {"python": "3.11", "libraries": {"torch": "2.15"}})
    for explainer, (values, more) in cells.items():
        cell = explainer.replace("/", "_")
        row = {
            "cell": cell,
            "model": "net",
            "dataset": "data",
            "explainer": explainer,
            "metric": "srg",
            "kind": "faithfulness",
            "better": "higher",
            "unit": "probability",
            "status": "ok",
            "stick": "s",
            "device": "cpu",
            "value": None,
            "environment": hashed,
            "config": {"protocol": {"explain_batch": 10}},
            **more,
        }
        if row["status"] == "ok":
            values = np.asarray(values)
            store.write_scores(cell, {"sample": [f"p{i}" for i in range(len(values))], "value": values})
            row |= {"value": float(values.mean()), "n": len(values)}
        store.append(row)
    return folder


def verdicts(tmp_path, before, after):
    found = compare_runs(write_run(tmp_path / "before", before), write_run(tmp_path / "after", after))
    return found.cells.set_index("cell")["verdict"].to_dict(), found
