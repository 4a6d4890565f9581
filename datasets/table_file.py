"""The user's own table: a CSV or Parquet file with a target column."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.datasets._own import own_file, readable, whole_rows
from harness.datasets.encoding import encode
from harness.errors import UserError, unknown
from harness.registry import dataset
from harness.sources import Data

MISSING, UNSEEN, TASKS = ("error", "skip", "fill"), ("error", "skip"), ("classification", "regression")
PARTS = ("train", "test")


@dataclass(frozen=True)
class Reading:
    """How a table is read: options of ``table`` of the same names."""

    target: str | None
    task: str = "classification"
    train: float = 0.7
    split: str | None = None
    split_seed: int = 0
    categorical: Any = "auto"
    ordinal: Any = None
    groups: Any = None
    drop: Any = None
    ids: str | None = None
    missing: str = "error"
    unseen: str = "error"

    def __post_init__(self) -> None:
        for name, choices in (("task", TASKS), ("missing", MISSING), ("unseen", UNSEEN)):
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        if not 0 < self.train < 1:
            raise UserError(f"train is {self.train}, expected the share of rows to train with, between 0 and 1")
        if not self.target:
            raise UserError("a table needs target=COLUMN, the column that is to be predicted")


@dataset(modality="table", source="your file", licence="yours", samples="yours", classes="yours")
def table(
    *,
    path: str | None = None,
    target: str | None = None,
    task: str = "classification",
    train: float = 0.7,
    train_path: str | None = None,
    split: str | None = None,
    split_seed: int = 0,
    categorical: Any = "auto",
    ordinal: Any = None,
    groups: Any = None,
    drop: Any = None,
    ids: str | None = None,
    missing: str = "error",
    unseen: str = "error",
) -> Data:
    """The rows of a CSV or Parquet file, numbers standardised and categories one-hot, each column one unit.

    ``target`` is the column to predict: classes (their sorted values, counted from 0), or numbers with
    ``task="regression"``. The samples are the rows that are not for training. For training are the share ``train`` of
    the rows, drawn by ``split_seed``; or those that the column ``split`` calls train (the others: test); or the rows
    of a second file ``train_path``. Means, deviations and categories come from them alone.

    Lists of columns are lists, or names with commas between: ``categorical`` ("auto": all that hold texts or true and
    false); ``ordinal`` (mapping: column -> its values from lowest to highest); ``groups``, sensitive columns whose
    scores are to be compared, which stay inputs unless dropped; ``drop``, columns that are no inputs. ``ids`` names a
    column of names. ``missing`` says what to do with a row that lacks a value or holds an infinite one: ``error``,
    ``skip`` it, or ``fill`` in the training rows' mean or, of a category, their most frequent; a row without target
    can only be skipped. ``unseen`` says what to do with a category in no training row: ``error`` or ``skip``. Skipped
    rows are counted and named in ``skipped``.

    The file is read as a whole; what stays in memory is the encoded table, float32, once. UserError, with one line,
    for a missing file or column, a column of neither numbers nor categories, and for each of the above.
    """
    reading = Reading(target, task, train, split, split_seed, categorical, ordinal, groups, drop, ids, missing, unseen)
    frame = read_frame(path)
    if train_path is None:
        return data_of(frame, reading)
    if split is not None:
        raise UserError("both split and train_path say which rows are for training; give one of them")
    other = read_frame(train_path, "train_path")
    absent = [name for name in frame.columns if name not in other.columns]
    if absent:
        raise UserError(f"train_path {train_path!r} has no column {absent[0]!r}, which {path!r} has")
    both = pd.concat([other[frame.columns], frame], ignore_index=True)
    return data_of(both, reading, np.arange(len(both)) < len(other))


def read_frame(path: str | None, option: str = "path") -> pd.DataFrame:
    """The table in a CSV or Parquet file; errors in one line."""
    file = own_file(path, "table", "a CSV or Parquet file")
    readers = {".csv": lambda: _read_csv(file), ".parquet": lambda: pd.read_parquet(file)}
    if file.suffix.lower() not in readers:
        raise UserError(f"{option} {path!r} is no file of a known kind: {', '.join(readers)}")
    frame = readable(Path(file), "table", readers[file.suffix.lower()])
    if frame.empty:
        raise UserError(f"table {file} has no rows")
    return frame


def _read_csv(file: Path) -> pd.DataFrame:
    with whole_rows():  # by itself pandas takes the first column for names, and gives each column its neighbour's
        return pd.read_csv(file, skipinitialspace=True, encoding="utf-8-sig", index_col=False)


def data_of(
    frame: pd.DataFrame,
    reading: Reading,
    for_training: np.ndarray | None = None,
    classes: tuple[str, ...] | None = None,
) -> Data:
    """A table as data; ``for_training`` (N,) bool says which rows, the first ones, are of a file for training, where
    ``reading`` does not say it, and ``classes`` which classes the target's whole numbers count, None for its values."""
    names = _columns_of(frame, reading)
    _check_values(frame[[*names, reading.target]])
    row_names = _row_names(frame, reading.ids, 0 if for_training is None else int(for_training.sum()))
    for_training = _training_rows(frame, reading) if for_training is None else for_training
    groups = {name: [_plain(value) for value in frame[name]] for name in names_in(reading.groups, frame)}
    inputs, skipped = frame[names].replace([np.inf, -np.inf], np.nan), {}
    categorical = _categorical(inputs, reading)
    _leave_out_missing(inputs, frame[reading.target], reading, skipped)
    kept = np.array([row not in skipped for row in range(len(frame))])
    if not (kept & for_training).any():
        raise UserError(f"no row is left to train with: {len(skipped)} of {len(frame)} are skipped")
    if reading.missing == "fill":
        inputs = _filled(inputs, kept & for_training, categorical)
    target = frame[reading.target][kept]
    labels, classes = _labels(target, reading.task) if classes is None else (_counted(target, classes), classes)
    encoded = encode(inputs[kept], for_training[kept], categorical, ordinal=_ordinal(reading), unseen="mark")
    rows = np.flatnonzero(kept)
    unseen = {int(row): said for row, said in zip(rows, encoded.unseen, strict=True) if said is not None}
    if unseen and reading.unseen == "error":
        row, said = next(iter(unseen.items()))
        raise UserError(f"{row_names[row]}: {said}; unseen=skip leaves such rows out")
    skipped |= unseen
    seen = np.array([said is None for said in encoded.unseen])
    test, train = seen & ~for_training[kept], for_training[kept]
    if not test.any():
        raise UserError(f"no row is left to explain: {len(skipped)} of {len(frame)} are skipped, the rest train")
    return Data(
        ids=[row_names[row] for row in rows[test]],
        items=encoded.inputs[torch.from_numpy(test)],
        labels=labels[torch.from_numpy(test)],
        modality="table",
        value_range=encoded.value_range,
        classes=classes,
        train=encoded.inputs[torch.from_numpy(train)],
        train_labels=labels[torch.from_numpy(train)],
        unit_names=encoded.unit_names,
        columns=encoded.columns,
        groups={name: [values[row] for row in rows[test]] for name, values in groups.items()},
        skipped=[f"{row_names[row]}: {said}" for row, said in sorted(skipped.items())],
    )


def names_in(given: Any, frame: pd.DataFrame) -> list[str]:
    """Columns that an option lists: a list, or names with commas between; an unknown one is one line."""
    names = [] if given is None else [given] if given in list(frame.columns) else given
    if not isinstance(names, str | Sequence):
        raise UserError(f"columns are {names!r}, expected a list of names, or names with commas between")
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for name in names:
        if name not in frame.columns:
            raise unknown("column", name, map(str, frame.columns))
    return names


def _columns_of(frame: pd.DataFrame, reading: Reading) -> list[str]:
    """The columns that are inputs."""
    for name in (reading.target, reading.split, reading.ids):
        if name is not None and name not in frame.columns:
            raise unknown("column", name, map(str, frame.columns))
    no_inputs = {reading.target, reading.split, reading.ids, *names_in(reading.drop, frame)}
    names = [name for name in frame.columns if name not in no_inputs]
    if not names:
        raise UserError("the table has no column left that is an input")
    return names


def _check_values(frame: pd.DataFrame) -> None:
    """Refuse columns of one name, and what is no single value: Parquet knows lists."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserError(f"the table has two columns {twice[0]!r}, expected names that differ")
    for name in frame.columns:
        values = frame[name] if pd.api.types.is_object_dtype(frame[name]) else ()
        odd = next((value for value in values if not pd.api.types.is_hashable(value)), None)
        if odd is not None:
            raise UserError(f"column {name!r} holds a {type(odd).__name__}, expected numbers, texts or true and false")


def _row_names(frame: pd.DataFrame, column: str | None, of_training_file: int) -> list[str]:
    """The names of rows; each file's own are counted from 0."""
    if column is None:
        training = [f"training_row_{row}" for row in range(of_training_file)]
        return training + [f"row_{row}" for row in range(len(frame) - of_training_file)]
    names = [str(name) for name in frame[column]]
    twice = frame[column].astype(str).duplicated().to_numpy()
    if twice.any():
        raise UserError(f"column {column!r} holds {names[int(twice.argmax())]!r} more than once, expected ids")
    return names


def _training_rows(frame: pd.DataFrame, reading: Reading) -> np.ndarray:
    if reading.split is None:
        order = np.random.default_rng(reading.split_seed).permutation(len(frame))
        chosen = np.zeros(len(frame), dtype=bool)
        chosen[order[: round(reading.train * len(frame))]] = True
        return chosen
    parts = frame[reading.split].astype(str)
    for value in parts.unique():
        if value not in PARTS:
            raise unknown(f"value of the split column {reading.split!r}", value, PARTS)
    return (parts == "train").to_numpy()


def _categorical(inputs: pd.DataFrame, reading: Reading) -> list[str]:
    if isinstance(reading.categorical, str) and reading.categorical == "auto":
        numeric = lambda column: pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        return [name for name in inputs.columns if not numeric(inputs[name]) and name not in _ordinal(reading)]
    return names_in(reading.categorical, inputs)


def _ordinal(reading: Reading) -> dict[str, Sequence[str]]:
    if reading.ordinal is None:
        return {}
    if not hasattr(reading.ordinal, "items"):
        raise UserError(f"ordinal is {reading.ordinal!r}, expected a mapping: column -> its values, lowest first")
    return {str(name): [str(value) for value in values] for name, values in reading.ordinal.items()}


def _leave_out_missing(inputs: pd.DataFrame, target: pd.Series, reading: Reading, skipped: dict[int, str]) -> None:
    """Note the rows that are left out for want of a value, or refuse the first."""
    lacking = inputs.isna().to_numpy()
    if reading.missing == "fill":
        lacking[:] = False
    names = [*inputs.columns, reading.target]
    lacking = np.column_stack([lacking, target.isna().to_numpy()])
    for row in np.flatnonzero(lacking.any(1)):
        skipped[int(row)] = f"column {names[int(lacking[row].argmax())]!r} is missing or infinite"
    if skipped and reading.missing == "error":
        row, said = next(iter(skipped.items()))
        raise UserError(
            f"{len(skipped)} of {len(inputs)} rows lack a value, the first is row {row}, counted from 0: {said}; "
            "missing=skip leaves such rows out, missing=fill fills them in"
        )


def _filled(inputs: pd.DataFrame, train: np.ndarray, categorical: Sequence[str]) -> pd.DataFrame:
    """Missing numbers as the training rows' mean, missing categories as their most frequent."""
    values = {}
    for name in inputs.columns[inputs.isna().any()]:
        known = inputs[name][train].dropna()
        if known.empty:
            raise UserError(f"column {name!r} has no value in any training row, so that none can be filled in")
        ranked = name in categorical or not pd.api.types.is_numeric_dtype(known)
        values[name] = known.mode().iloc[0] if ranked else known.mean()
    return inputs.astype({n: float for n, v in values.items() if isinstance(v, float)}).fillna(values)


def _labels(target: pd.Series, task: str) -> tuple[Tensor, tuple[str, ...] | None]:
    if task == "regression":
        numbers = pd.to_numeric(target, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        if not np.isfinite(numbers).all():
            odd = target.iloc[int(np.isfinite(numbers).argmin())]
            raise UserError(f"target {target.name!r} holds {odd!r}, expected finite numbers for task=regression")
        return torch.tensor(numbers, dtype=torch.float32), None
    values = target.unique()
    fractions = [v for v in values if isinstance(v, float | np.floating) and not float(v).is_integer()]
    if fractions:
        raise UserError(f"target {target.name!r} holds {fractions[0]}, no class; for numbers say task=regression")
    order = sorted(values, key=str) if any(isinstance(value, str) for value in values) else sorted(values)
    place = {value: index for index, value in enumerate(order)}
    # A missing target somewhere makes whole numbers floats; as names of classes they are whole numbers still.
    names = (str(int(v)) if isinstance(v, float | np.floating) else str(v) for v in order)
    return torch.tensor([place[value] for value in target]), tuple(names)


def _counted(target: pd.Series, classes: tuple[str, ...]) -> Tensor:
    """Labels that are the numbers of named classes already."""
    outside = ~target.between(0, len(classes) - 1)
    if outside.any():
        raise UserError(f"target {target.name!r} holds {target[outside].iloc[0]}, but there are {len(classes)} classes")
    return torch.tensor(target.to_numpy(dtype=np.int64))


def _plain(value: Any) -> Any:
    """A group as text, number or None."""
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value
