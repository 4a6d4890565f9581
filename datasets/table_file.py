"""The user's own table: a CSV or Parquet file with a target column."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.datasets._csv_files import csv_as_texts, without_unnamed_columns
from harness.datasets._table_options import TABLE_FILE_OPTIONS, TABLE_OPTIONS, TableFileOptions, TableOptions
from harness.datasets._table_reading import table_data
from harness.datasets.own_files import own_file, read_or_refuse
from harness.errors import UserError
from harness.registry import dataset
from harness.sources import Data


@dataset(
    name="table",
    modality="table",
    source="your file",
    licence="yours",
    samples="yours",
    classes="yours",
    renamed={"split": "split_column"},
)
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
    ``split_column`` calls train; or the rows of a second file ``train_path``. Means, standard deviations and categories
    are computed from the training rows only. ``TableFileOptions`` and ``TableOptions`` describe the other options. Rows
    that are left out are counted and listed in ``skipped``.

    The columns of a CSV file are separated by commas, semicolons, tabs or ``|``, as its header shows. A column is a
    number if all its values are plain numbers, and a category if they are texts or true and false. Anything between
    is an error that shows the odd values and says what to do: numbers with other texts among them, with per cent or
    currency signs or thousands separators, dates, names, ids, free text, and numbers that are ids. An index of pandas
    in front of a CSV file is left out, which is said.

    The file is read as a whole; the encoded table stays in memory once, as float32. UserError for a file or column that
    does not exist, a column of neither numbers nor categories, and an option with a wrong value.
    """
    frame = read_frame(path, wanted=(own.target,))
    of_texts = _is_csv(path)
    if train_path is None:
        return table_data(frame, own, shared, all_texts=of_texts)
    if own.split_column is not None:
        raise UserError("both split_column and train_path say which rows are for training; give one of them")
    training = read_frame(train_path, "train_path", wanted=(own.target,))
    absent = [name for name in frame.columns if name not in training.columns]
    if absent:
        raise UserError(f"train_path {train_path!r} has no column {absent[0]!r}, which {path!r} has")
    if of_texts != _is_csv(train_path):
        frame, training, of_texts = *(_as_texts(each) for each in (frame, training)), True
    both = pd.concat([training[frame.columns], frame], ignore_index=True)
    return table_data(both, own, shared, np.arange(len(both)) < len(training), all_texts=of_texts)


def read_frame(path: str | None, option: str = "path", wanted: Sequence[str | None] = ()) -> pd.DataFrame:
    """The table in the CSV or Parquet file that ``option`` names, that of a CSV file as texts.

    ``wanted`` are columns that it should have. UserError where it cannot be read or has no rows.
    """
    file = own_file(path, "table", "a CSV or Parquet file")
    texts = lambda: without_unnamed_columns(csv_as_texts(file, wanted), file)
    readers = {".csv": texts, ".tsv": texts, ".parquet": lambda: _parquet_frame(file)}
    if file.suffix.lower() not in readers:
        raise UserError(f"{option} {path!r} is no file of a known kind: {', '.join(readers)}")
    frame = read_or_refuse(Path(file), "table", readers[file.suffix.lower()])
    if frame.empty:
        raise UserError(f"table {file} has no rows")
    return frame


def _is_csv(path: str | None) -> bool:
    return Path(str(path)).suffix.lower() != ".parquet"


def _parquet_frame(file: Path) -> pd.DataFrame:
    """The columns of a Parquet file; an index with a name is a column too, one without a name only numbers the rows."""
    frame = pd.read_parquet(file)
    return frame.reset_index() if any(frame.index.names) else frame


def _as_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with all values written as texts, so that it can be joined to a CSV file."""
    return frame.map(lambda value: None if pd.isna(value) else str(value))
