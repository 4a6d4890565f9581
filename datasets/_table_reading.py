"""A data frame with a target column as data: which rows train, which columns are inputs, which rows are left out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from harness.datasets._column_kinds import as_categories, input_values, plain_values
from harness.datasets._parts import TRAIN_AND_TEST
from harness.datasets._table_options import ColumnNames, TableFileOptions, TableOptions
from harness.datasets._table_values import check_values, filled_in, numbered_labels, plain_value
from harness.datasets._target_column import target_labels, target_values
from harness.datasets._written_values import WrittenForms
from harness.datasets.encoding import Encoded, encode
from harness.errors import MOST_LISTED, UserError, unknown
from harness.sources import Data


def table_data(
    frame: pd.DataFrame,
    own: TableFileOptions,
    shared: TableOptions,
    for_training: np.ndarray | None = None,
    classes: tuple[str, ...] | None = None,
    *,
    all_texts: bool = False,
) -> Data:
    """The rows of a table as data.

    ``for_training`` (N,) bool marks the rows, the first ones, that come from a file of training rows; None means that
    the options choose them. ``classes`` are the names of the classes where the target holds class indices already; None
    means that the classes are the values of the target. ``all_texts`` says that numbers are written as texts, as in a
    CSV file. UserError for a column that does not exist, a value that
    cannot be used, and where no row is left to train with or to explain.
    """
    if not own.target:
        more = ", ..." if len(frame.columns) > MOST_LISTED else ""
        columns = ", ".join(map(str, frame.columns[:MOST_LISTED])) + more
        raise UserError(f"a table needs dataset.target=COLUMN, the column to predict; its columns are {columns}")
    names = _input_columns(frame, own, shared)
    check_values(frame[[*names, own.target]])
    forms = WrittenForms(all_texts, own.decimal, shared.missing_texts)
    row_names = _row_names(frame, shared.ids, 0 if for_training is None else int(for_training.sum()))
    for_training = _training_rows(frame, own, shared) if for_training is None else for_training
    groups = {name: _group_of_rows(frame[name], forms) for name in columns_in(shared.groups, frame)}
    target = target_values(frame[own.target], shared.task, forms)
    ordinal = shared.ordinal_values
    inputs, categorical = input_values(frame[names], _listed_categories(shared, frame), list(ordinal), forms)
    inputs = inputs.replace([np.inf, -np.inf], np.nan)
    skipped = _rows_lacking_a_value(inputs, target, shared)
    usable = np.array([row not in skipped for row in range(len(frame))])
    if not (usable & for_training).any():
        raise UserError(f"no row is left to train with: {len(skipped)} of {len(frame)} are skipped")
    if shared.missing == "fill":
        inputs = filled_in(inputs, usable & for_training, [*categorical, *ordinal])
    labels, classes = (
        target_labels(target[usable], shared.task)
        if classes is None
        else (numbered_labels(target[usable], classes), classes)
    )
    encoded = encode(inputs[usable], for_training[usable], categorical, ordinal=ordinal, unseen="mark")
    rows, train = np.flatnonzero(usable), for_training[usable]
    skipped |= _rows_with_unseen_values(encoded, rows, row_names, shared.unseen)
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
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for name in names:
        _check_column(name, frame)
    return names


def _check_column(name: str, frame: pd.DataFrame) -> None:
    if name not in frame.columns:
        raise unknown("column", name, map(str, frame.columns))


def _input_columns(frame: pd.DataFrame, own: TableFileOptions, shared: TableOptions) -> list[str]:
    """The columns that are inputs."""
    special = [name for name in (own.target, own.split_column, shared.ids) if name is not None]
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
    if own.split_column is None:
        order = np.random.default_rng(shared.split_seed).permutation(len(frame))
        chosen = np.zeros(len(frame), dtype=bool)
        chosen[order[: round(shared.train * len(frame))]] = True
        return chosen
    parts = frame[own.split_column].astype(str)
    for value in parts.unique():
        if value not in TRAIN_AND_TEST:
            raise unknown(f"value of the split column {own.split_column!r}", value, TRAIN_AND_TEST)
    return (parts == "train").to_numpy()


def _listed_categories(shared: TableOptions, frame: pd.DataFrame) -> list[str] | None:
    """The columns that the user lists as categorical; None where the values are to say."""
    auto = isinstance(shared.categorical, str) and shared.categorical == "auto"
    return None if auto else columns_in(shared.categorical, frame)


def _group_of_rows(column: pd.Series, forms: WrittenForms) -> list[object]:
    return [plain_value(value) for value in as_categories(plain_values(column, forms), forms)]


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
