"""The target column of a user's table: classes, or numbers to predict; where it is not certain, the user is asked."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.datasets._column_doubts import doubt_about
from harness.datasets._column_kinds import as_categories, plain_values, strict_numbers
from harness.datasets._written_values import MISSING_NAMES, WrittenForms, are_codes, are_numbers, holds_texts
from harness.errors import UserError

FEW_CLASSES = 20  # different whole numbers that are classes without a word from the user
ASKED = (
    "say dataset.task=classification if each value is a class, dataset.task=regression if they are numbers to predict"
)


def target_values(column: pd.Series, task: str | None, forms: WrittenForms) -> pd.Series:
    """The target (N,): numbers as float64 for ``regression``, else numbers or texts as objects; NaN or None if missing.

    UserError where values are no numbers for ``regression``, for fractions as classes, and where ``task`` is None and
    the values do not say whether they are classes: many whole numbers, dates, texts that are mostly numbers, and texts
    of which most rows have one of their own.
    """
    values = plain_values(column, forms)
    if task == "regression":
        return _numbers_to_predict(values, forms)
    if holds_texts(values):
        known = values[~values.isin(MISSING_NAMES)].dropna().astype("str")
        if len(known) and are_numbers(known, forms.decimal).all():
            if not forms.all_texts or are_codes(known).any():
                return values
            return _whole_number_classes(as_categories(strict_numbers(values, forms), forms), task)
    elif values.dtype != object:
        return _whole_number_classes(as_categories(values, forms), task)
    doubt = doubt_about(values, forms) if task is None else None
    if doubt is not None:
        raise UserError(f"target {column.name!r} {doubt.why}: {ASKED}, which must be written as plain numbers")
    return values


def _numbers_to_predict(values: pd.Series, forms: WrittenForms) -> pd.Series:
    try:
        numbers = strict_numbers(values, forms)
    except UserError as error:
        reason = str(error).split(", expected")[0].replace("column", "target", 1)
        raise UserError(f"{reason}, expected finite numbers for task=regression; write plain numbers") from None
    if np.isinf(numbers).any():
        raise UserError(f"target {values.name!r} holds inf, expected finite numbers for task=regression")
    return numbers


def target_labels(target: pd.Series, task: str | None) -> tuple[Tensor, tuple[str, ...] | None]:
    """Labels (N,) and class names of ``target_values`` without missing ones: numbers and None for ``regression``, else
    the places of the sorted values."""
    if task == "regression":
        return torch.tensor(target.to_numpy(dtype=np.float64), dtype=torch.float32), None
    values = target.unique()
    order = sorted(values, key=str) if any(isinstance(value, str) for value in values) else sorted(values)
    place = {value: index for index, value in enumerate(order)}
    return torch.tensor([place[value] for value in target]), tuple(str(value) for value in order)


def _whole_number_classes(target: pd.Series, task: str | None) -> pd.Series:
    """Numbers as classes; UserError for fractions, and for so many numbers that they may be none where task is None."""
    values = target.dropna().unique()
    fractions = [value for value in values if not float(value).is_integer()]
    if fractions:
        raise UserError(
            f"target {target.name!r} holds {fractions[0]}, no class; for numbers to predict say dataset.task=regression"
        )
    many = len(values) > FEW_CLASSES or len(values) > 2 and 2 * len(values) > len(target)
    if task is None and many:
        raise UserError(
            f"target {target.name!r} holds {len(values)} different whole numbers from {min(values)} to "
            f"{max(values)} in {len(target)} rows: {ASKED}"
        )
    return target
