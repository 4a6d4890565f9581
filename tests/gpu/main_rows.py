"""Rows of ``check.sh`` about a run: how its cells ended, and how far its scores are from another run's.

``python main_rows.py NAME STATUS SECONDS RUN [OTHER]`` with the run's exit status, and the folders of the runs.
"""

import sys
from collections import Counter

import pandas as pd

import rows
from harness.results.store import Store


def main(name, status, seconds, run, other=None):
    """Write the rows; 1 where the run did not come to its end, where a cell failed, or where there is none."""
    cells = Store(run).latest()
    counts = Counter(row["status"] for row in cells.values())
    good = status == "0" and bool(cells) and not counts["failed"]
    rows.write("main", name, "passed" if good else "failed", seconds, f"exit status {status}: {_words(counts)}")
    for row in cells.values():
        if row["status"] == "failed":
            rows.write(
                "main", f"{name}: {row['explainer']} {row['metric']}", "failed", row["seconds"] or 0, row["error"]
            )
    for metric, value in _costs(cells):
        rows.write("main", f"{name}: {metric}, median over explainers", "measured", 0, f"{value:.4g}")
    if other is not None:
        _compare(name, cells, Store(other).latest())
    return 0 if good else 1


def _compare(name, cells, others):
    """A row per metric with the largest difference of a mean from the other run's, in its own range over explainers."""
    both = pd.DataFrame(
        [
            {
                "metric": row["metric"],
                "explainer": row["explainer"],
                "value": row["value"],
                "other": others[cell]["value"],
            }
            for cell, row in cells.items()
            if row["kind"] != "cost" and row["status"] == "ok" and others.get(cell, {}).get("status") == "ok"
        ]
    )
    rows.write("main", f"{name}: cells in both runs", "measured", 0, f"{len(both)} of {len(cells)}")
    for metric, group in both.groupby("metric") if len(both) else ():
        spread = group["other"].max() - group["other"].min()
        gap = (group["value"] - group["other"]).abs()
        worst = group.loc[gap.idxmax()]
        detail = f"largest gap {gap.max():.2g} of a range of {spread:.2g}, {worst['explainer']}"
        rows.write("main", f"{name}: {metric} against the other run", "measured", 0, detail)


def _costs(cells):
    """Each cost with its median over the explainers."""
    costs = [row for row in cells.values() if row["kind"] == "cost" and row["status"] == "ok"]
    values = pd.Series([row["value"] for row in costs], [row["metric"] for row in costs], dtype=float)
    return values.groupby(level=0).median().items()


def _words(counts):
    return ", ".join(f"{number} {status}" for status, number in counts.most_common()) or "no cells"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
