"""What ``harness table`` shows and writes: the leaderboards of a run, and its rows as CSV or Parquet."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.results.disk import whole_file
from harness.results.frames import configured, find_run, read_cells, read_scores
from harness.results.leaderboard import write_leaderboards
from harness.results.statistics import ranks

if TYPE_CHECKING:
    from harness.plan import Plan


def show_run(
    name: str, runs_directory: str | Path = "runs", *, samples: bool = False,
    csv: str | Path | None = None, parquet: str | Path | None = None,
) -> None:  # fmt: skip
    """Print a run's leaderboards, or write its rows, one per cell (with its rank) or one per sample, to files.

    ``name`` is a run's name, a path, ``latest`` or ``previous``. ``samples`` without a file prints CSV.
    """
    directory = find_run(name, runs_directory)
    cells = read_cells(directory)
    if not (samples or csv or parquet):
        print(f"{directory}\n")
        write_leaderboards(cells, sys.stdout, controls=controls_among(cells))
        return
    frame = read_scores(directory, cells) if samples else cells.assign(rank=ranks(cells))
    if not (csv or parquet):
        csv_ready(frame).to_csv(sys.stdout, index=False)
    for path, write in ((csv, to_csv), (parquet, to_parquet)):
        if path:
            write(frame, path)
            print(f"{len(frame)} rows written to {path}")


def print_leaderboard(plan: "Plan") -> None:
    """Print the leaderboard of the cells that a plan asks for."""
    cells = read_cells(plan.directory)
    asked = cells[cells["cell"].isin({job.cell for job in plan.jobs})]
    write_leaderboards(asked, sys.stdout, controls=controls_among(asked))


def controls_among(cells: pd.DataFrame) -> set[str]:
    """The labels of those explainers that are registered as controls."""
    from harness.registry import EXPLAINERS

    first = cells.drop_duplicates("explainer")
    names = {label: configured(config, "explainer").get("name", label) for label, config in zip(first["explainer"], first["config"])}
    return {label for label, name in names.items() if name in EXPLAINERS and EXPLAINERS[name].control}


def to_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write cells or scores as CSV, nested columns as JSON text; nothing half written remains if that fails."""
    with whole_file(Path(path)) as temporary:
        csv_ready(frame).to_csv(temporary, index=False)


def to_parquet(frame: pd.DataFrame, path: str | Path) -> None:
    """Write cells or scores as Parquet, ``flags`` and ``config`` as JSON text; nothing half written remains if that fails."""
    with whole_file(Path(path)) as temporary:
        _with_text(frame, "flags", "config").to_parquet(temporary, index=False)


def csv_ready(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its nested columns as JSON text."""
    return _with_text(frame, "flags", "config", "curve")


def _with_text(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].map(_as_text) for name in names if name in frame})


def _as_text(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return json.dumps(value) if isinstance(value, Mapping | list | tuple) else value
