"""The tables of a run: leaderboards to read, and rows as CSV or Parquet for other programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.disk import whole_file
from harness.results.leaderboard import print_table
from harness.results.plain_text import csv_cells

__all__ = ["print_table", "to_csv", "to_parquet"]


def to_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as CSV, nested columns as JSON text, no text as a formula, whole or not at all."""
    with whole_file(Path(path)) as temporary:
        csv_cells(_with_text(frame, "flags", "audit", "config", "curve", "ruled", "unruled")).to_csv(
            temporary, index=False
        )


def to_parquet(frame: pd.DataFrame, path: str | Path) -> None:
    """Write cells or scores as Parquet, ``flags``, ``audit`` and ``config`` as JSON text, whole or not at all."""
    with whole_file(Path(path)) as temporary:
        _with_text(frame, "flags", "audit", "config").to_parquet(temporary, index=False)


def _with_text(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].map(_nested_as_text) for name in names if name in frame})


def _nested_as_text(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return json.dumps(value) if isinstance(value, Mapping | list | tuple) else value
