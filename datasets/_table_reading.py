"""A data frame with a target column as data: which rows train, which columns are inputs, which rows are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from harness.datasets._parts import TRAIN_AND_TEST
from harness.datasets._table_values import check_values, filled_in, numbered_labels, plain_value, target_labels
from harness.datasets.encoding import Encoded, encode
from harness.errors import UserError, unknown
from harness.sources import Data

CHOICES_OF_OPTION = {
    "task": ("classification", "regression"),
    "missing": ("error", "skip", "fill"),
    "unseen": ("error", "skip"),
}
# What an option that lists columns may be: a list of names, or one text with commas between the names.
ColumnNames = Sequence[str] | str | None


def _check_choices(options: Any) -> None:
    for name, choices in CHOICES_OF_OPTION.items():
        if hasattr(options, name) and getattr(options, name) not in choices:
            raise unknown(name, getattr(options, name), choices)


@dataclass(frozen=True)
class TableOptions:
    """Options of every data set that is read from a table of the user's.

    train    the share of the rows to train with, between 0 and 1; these rows are drawn at random
    groups   sensitive columns whose groups are to be compared: a list of names, or names with commas between. They stay
             inputs unless they are in ``drop``
    drop     columns that are no inputs: a list of names, or names with commas between
    missing  what happens to a row that lacks a value or holds an infinite one: ``error``; ``skip``, it is left out; or
             ``fill``, the value becomes the mean of the training rows, in a categorical column their most frequent
             value. A row without target cannot be filled and is left out then
    """

    train: float = 0.7
    groups: ColumnNames = None
    drop: ColumnNames = None
    missing: str = "error"

    def __post_init__(self) -> None:
        _check_choices(self)
        if not 0 < self.train < 1:
            raise UserError(f"train is {self.train}, expected the share of rows to train with, between 0 and 1")


@dataclass(frozen=True)
class TableFileOptions:
    """Options of the data set ``table`` alone.

    target       the column to predict
    task         ``classification``: the classes are the sorted values of the target, numbered from 0; or
                 ``regression``: the target is a number
    split        a column whose values are ``train`` and ``test``, instead of a random choice of the training rows
    split_seed   the seed of the random choice
    categorical  the categorical columns: a list of names, or names with commas between; ``auto`` are all columns that
                 hold texts or true and false
    ordinal      columns whose values are ranks: a mapping of the column to its values from lowest to highest
    ids          a column with a unique name for each row
    unseen       what happens to a row with a category that no training row has: ``error``; or ``skip``, it is left out
    """

    target: str | None = None
    task: str = "classification"
    split: str | None = None
    split_seed: int = 0
    categorical: ColumnNames = "auto"
    ordinal: Mapping[str, Sequence[str]] | None = None
    ids: str | None = None
    unseen: str = "error"

    def __post_init__(self) -> None:
        _check_choices(self)


TABLE_OPTIONS, TABLE_FILE_OPTIONS = TableOptions(), TableFileOptions()


def table_data(
    frame: pd.DataFrame,
    own: TableFileOptions,
    shared: TableOptions,
    for_training: np.ndarray | None = None,
    classes: tuple[str, ...] | None = None,
) -> Data:
    """The rows of a table as data.

    ``for_training`` (N,) bool marks the rows, the first ones, that come from a file of training rows; None means that
    the options choose them. ``classes`` are the names of the classes where the target holds class indices already; None
    means that the classes are the values of the target. UserError for a column that does not exist, a value that
    cannot be used, and where no row is left to train with or to explain.
    """
    if not own.target:
        raise UserError("a table needs target=COLUMN, the column that is to be predicted")
    names = _input_columns(frame, own, shared)
    check_values(frame[[*names, own.target]])
    row_names = _row_names(frame, own.ids, 0 if for_training is None else int(for_training.sum()))
    for_training = _training_rows(frame, own, shared) if for_training is None else for_training
    groups = {name: [plain_value(value) for value in frame[name]] for name in columns_in(shared.groups, frame)}
    inputs = frame[names].replace([np.inf, -np.inf], np.nan)
    categorical = _categorical_columns(inputs, own)
    skipped = _rows_lacking_a_value(inputs, frame[own.target], shared)
    usable = np.array([row not in skipped for row in range(len(frame))])
    if not (usable & for_training).any():
        raise UserError(f"no row is left to train with: {len(skipped)} of {len(frame)} are skipped")
    if shared.missing == "fill":
        inputs = filled_in(inputs, usable & for_training, categorical)
    target = frame[own.target][usable]
    labels, classes = (
        target_labels(target, own.task) if classes is None else (numbered_labels(target, classes), classes)
    )
    encoded = encode(inputs[usable], for_training[usable], categorical, ordinal=_ordinal_values(own), unseen="mark")
    rows, train = np.flatnonzero(usable), for_training[usable]
    skipped |= _rows_with_unseen_values(encoded, rows, row_names, own.unseen)
    test = np.array([message is None for message in encoded.unseen]) & ~train
    if not test.any():
        raise UserError(f"no row is left to explain: {len(skipped)} of {len(frame)} are skipped, the rest train")
    return Data(
        ids=[row_names[row] for row in rows[test]],
        inputs=encoded.inputs[torch.from_numpy(test)],
        labels=labels[torch.from_numpy(test)],
        modality="table",
        value_range=encoded.value_range,
        classes=classes,
        train=encoded.inputs[torch.from_numpy(train)],
        train_labels=labels[torch.from_numpy(train)],
        unit_names=encoded.unit_names,
        columns=encoded.columns,
        groups={name: [values[row] for row in rows[test]] for name, values in groups.items()},
        skipped=[f"{row_names[row]}: {message}" for row, message in sorted(skipped.items())],
    )


def columns_in(listed: ColumnNames, frame: pd.DataFrame) -> list[str]:
    """The columns that an option lists; UserError for an unknown one."""
    names = [] if listed is None else [listed] if listed in list(frame.columns) else listed
    if not isinstance(names, str | Sequence):
        raise UserError(f"columns are {names!r}, expected a list of names, or names with commas between")
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for name in names:
        _check_column(name, frame)
    return names


def _check_column(name: str, frame: pd.DataFrame) -> None:
    if name not in frame.columns:
        raise unknown("column", name, map(str, frame.columns))


def _input_columns(frame: pd.DataFrame, own: TableFileOptions, shared: TableOptions) -> list[str]:
    """The columns that are inputs."""
    special = [name for name in (own.target, own.split, own.ids) if name is not None]
    for name in special:
        _check_column(name, frame)
    no_inputs = {*special, *columns_in(shared.drop, frame)}
    names = [name for name in frame.columns if name not in no_inputs]
    if not names:
        raise UserError("the table has no column left that is an input")
    return names


def _row_names(frame: pd.DataFrame, column: str | None, of_training_file: int) -> list[str]:
    """The names of the rows; without a column of names, their numbers in their own file from 0."""
    if column is None:
        training = [f"training_row_{row}" for row in range(of_training_file)]
        return training + [f"row_{row}" for row in range(len(frame) - of_training_file)]
    names = [str(name) for name in frame[column]]
    twice = frame[column].astype(str).duplicated().to_numpy()
    if twice.any():
        raise UserError(f"column {column!r} holds {names[int(twice.argmax())]!r} more than once, expected ids")
    return names


def _training_rows(frame: pd.DataFrame, own: TableFileOptions, shared: TableOptions) -> np.ndarray:
    if own.split is None:
        order = np.random.default_rng(own.split_seed).permutation(len(frame))
        chosen = np.zeros(len(frame), dtype=bool)
        chosen[order[: round(shared.train * len(frame))]] = True
        return chosen
    parts = frame[own.split].astype(str)
    for value in parts.unique():
        if value not in TRAIN_AND_TEST:
            raise unknown(f"value of the split column {own.split!r}", value, TRAIN_AND_TEST)
    return (parts == "train").to_numpy()


def _categorical_columns(inputs: pd.DataFrame, own: TableFileOptions) -> list[str]:
    if isinstance(own.categorical, str) and own.categorical == "auto":
        numeric = lambda column: pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        return [name for name in inputs.columns if not numeric(inputs[name]) and name not in _ordinal_values(own)]
    return columns_in(own.categorical, inputs)


def _ordinal_values(own: TableFileOptions) -> dict[str, Sequence[str]]:
    if own.ordinal is None:
        return {}
    if not hasattr(own.ordinal, "items"):
        raise UserError(f"ordinal is {own.ordinal!r}, expected a mapping: column -> its values, lowest first")
    return {str(name): [str(value) for value in values] for name, values in own.ordinal.items()}


def _rows_lacking_a_value(inputs: pd.DataFrame, target: pd.Series, shared: TableOptions) -> dict[int, str]:
    """Row number -> message, for the rows that are left out because they lack a value; UserError for missing=error."""
    lacking = np.column_stack([inputs.isna().to_numpy(), target.isna().to_numpy()])
    if shared.missing == "fill":
        lacking[:, :-1] = False
    names = [*inputs.columns, target.name]
    skipped = {
        int(row): f"column {names[int(lacking[row].argmax())]!r} is missing or infinite"
        for row in np.flatnonzero(lacking.any(1))
    }
    if skipped and shared.missing == "error":
        row, message = next(iter(skipped.items()))
        raise UserError(
            f"{len(skipped)} of {len(inputs)} rows lack a value, the first is row {row}, counted from 0: {message}; "
            "missing=skip leaves such rows out, missing=fill fills them in"
        )
    return skipped


def _rows_with_unseen_values(
    encoded: Encoded, rows: np.ndarray, row_names: Sequence[str], unseen: str
) -> dict[int, str]:
    """Row number -> message, for the rows with a category that no training row has; UserError for unseen=error."""
    messages = {int(row): message for row, message in zip(rows, encoded.unseen, strict=True) if message is not None}
    if messages and unseen == "error":
        row, message = next(iter(messages.items()))
        raise UserError(f"{row_names[row]}: {message}; unseen=skip leaves such rows out")
    return messages
