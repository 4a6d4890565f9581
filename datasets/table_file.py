"""The user's own table: a CSV or Parquet file with a target column."""

from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets._table_reading import (
    TABLE_FILE_OPTIONS,
    TABLE_OPTIONS,
    TableFileOptions,
    TableOptions,
    table_data,
)
from harness.datasets.own_files import own_file, read_or_refuse, whole_rows
from harness.errors import UserError
from harness.registry import dataset
from harness.sources import Data


@dataset(name="table", modality="table", source="your file", licence="yours", samples="yours", classes="yours")
def table_file(
    *,
    path: str | None = None,
    train_path: str | None = None,
    own: TableFileOptions = TABLE_FILE_OPTIONS,
    shared: TableOptions = TABLE_OPTIONS,
) -> Data:
    """The rows of a CSV or Parquet file, numbers standardised and categories one-hot, each column one unit.

    ``target`` is the column to predict: classes, or numbers with ``task=regression``. The samples are the rows that are
    not for training. For training are a share ``train`` of the rows, drawn by ``split_seed``; or those that the column
    ``split`` calls train; or the rows of a second file ``train_path``. Means, standard deviations and categories are
    computed from the training rows only. ``TableFileOptions`` and ``TableOptions`` describe the other options:
    ``categorical``, ``ordinal``, ``groups``, ``drop``, ``ids``, ``missing`` and ``unseen``. Rows that are left out are
    counted and listed in ``skipped``.

    The file is read as a whole; the encoded table stays in memory once, as float32. UserError for a file or column that
    does not exist, a column of neither numbers nor categories, and an option with a wrong value.
    """
    frame = read_frame(path)
    if train_path is None:
        return table_data(frame, own, shared)
    if own.split is not None:
        raise UserError("both split and train_path say which rows are for training; give one of them")
    training = read_frame(train_path, "train_path")
    absent = [name for name in frame.columns if name not in training.columns]
    if absent:
        raise UserError(f"train_path {train_path!r} has no column {absent[0]!r}, which {path!r} has")
    both = pd.concat([training[frame.columns], frame], ignore_index=True)
    return table_data(both, own, shared, np.arange(len(both)) < len(training))


def read_frame(path: str | None, option: str = "path") -> pd.DataFrame:
    """The table in the CSV or Parquet file that ``option`` names; UserError where it cannot be read or has no rows."""
    file = own_file(path, "table", "a CSV or Parquet file")
    readers = {".csv": lambda: _csv_frame(file), ".parquet": lambda: pd.read_parquet(file)}
    if file.suffix.lower() not in readers:
        raise UserError(f"{option} {path!r} is no file of a known kind: {', '.join(readers)}")
    frame = read_or_refuse(Path(file), "table", readers[file.suffix.lower()])
    if frame.empty:
        raise UserError(f"table {file} has no rows")
    return frame


def _csv_frame(file: Path) -> pd.DataFrame:
    with whole_rows():  # pandas would take the first column of longer rows for an index, and shift the others
        return pd.read_csv(file, skipinitialspace=True, encoding="utf-8-sig", index_col=False)
