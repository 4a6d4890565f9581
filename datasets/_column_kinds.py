"""What each column of a user's table is: numbers, or categories; where its values do not say, the user is asked."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pandas as pd

from harness.datasets._column_doubts import Doubt, doubt_about
from harness.datasets._written_values import (
    MISSING_NAMES,
    UNSAYING_SIGNS,
    WrittenForms,
    are_codes,
    are_numbers,
    as_numbers,
    holds_texts,
    option_list,
    written,
)
from harness.errors import UserError
from harness.messages import say


def input_values(
    frame: pd.DataFrame, categorical: Sequence[str] | None, ordinal: Sequence[str], forms: WrittenForms
) -> tuple[pd.DataFrame, list[str]]:
    """The inputs (N, columns), numbers as float64 and categories as objects, and the names of the categorical ones.

    ``categorical`` are the columns of categories; None asks for each column that is not in ``ordinal`` whether its
    values are numbers or categories. Missing values are NaN or None. UserError that names each column whose values do
    not say what they are.
    """
    values: dict[str, pd.Series] = {}
    names, doubts = [], []
    for name in frame.columns:
        column = plain_values(frame[name], forms)
        if name in ordinal:
            values[name] = as_categories(column, forms)
            continue
        if categorical is None:
            doubt = doubt_about(column, forms)
            doubts += [doubt] if doubt else []
            is_category = doubt is None and not _is_number_column(column, forms)
        else:
            is_category = name in categorical
        names += [name] if is_category else []
        if not doubts:
            values[name] = as_categories(column, forms) if is_category else strict_numbers(column, forms)
    if doubts:
        _refuse_doubts(doubts, names)
    if categorical is None:
        _tell_names_of_missing(frame[names], values)
    return pd.DataFrame(values, index=frame.index, columns=frame.columns), names


def plain_values(column: pd.Series, forms: WrittenForms) -> pd.Series:
    """Values as float64, or as objects: texts, True and False, dates; None or NaN where one is missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype if len(column.cat.categories) else object)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.astype("Float64").astype(np.float64) if column.isna().any() else column
        absent = [float(text) for text in forms.missing if _is_float(text)]
        return numbers.mask(numbers.isin(absent)) if absent else numbers
    objects = column.astype(object).where(column.notna(), None)
    if objects.map(lambda value: isinstance(value, Decimal)).any():
        return objects.map(lambda value: value if value is None else float(value)).astype(np.float64)
    if not objects.map(lambda value: isinstance(value, str)).any():
        return objects
    # As objects again: pandas makes texts alone a type of their own, in which a missing one is NaN.
    texts = objects.map(lambda value: value.strip() if isinstance(value, str) else value).astype(object)
    return texts.where(texts.notna() & ~texts.isin(["", *forms.missing]), None)


def strict_numbers(column: pd.Series, forms: WrittenForms) -> pd.Series:
    """A column as float64, NaN where missing; UserError that shows the values that are no numbers."""
    if not holds_texts(column):
        odd = next(
            (value for value in column.dropna() if not isinstance(value, int | float | np.number | np.bool_)), None
        )
        if odd is not None:
            raise UserError(
                f"column {column.name!r} holds {odd}, expected finite numbers; drop={column.name} leaves it out"
            )
        return column.astype(np.float64)
    texts = column.where(~column.isin(MISSING_NAMES), None)
    known = texts.dropna().astype("str")
    bad = ~are_numbers(known, forms.decimal)
    if bad.any():
        raise UserError(
            f"column {column.name!r} holds {written(known[bad])}, expected finite numbers; if the column is "
            "categorical, name it among the categorical ones"
        )
    numbers = pd.Series(np.nan, index=column.index, name=column.name)
    numbers[known.index] = as_numbers(known, forms.decimal)
    return numbers


def as_categories(column: pd.Series, forms: WrittenForms) -> pd.Series:
    """A column as objects, None where missing; whole numbers as such, so that their names have no decimals."""
    if holds_texts(column):
        known = column.dropna().astype("str")
        if not forms.all_texts or not are_numbers(known, "point").all() or are_codes(known).any():
            return column
        numbers = as_numbers(known, "point")
    elif column.dtype == object:
        return column
    else:
        numbers = column.dropna()
    whole = (numbers % 1 == 0).all()
    values = {row: int(number) if whole else float(number) for row, number in numbers.items()}
    return pd.Series([values.get(row) for row in column.index], index=column.index, name=column.name, dtype=object)


def _is_number_column(column: pd.Series, forms: WrittenForms) -> bool:
    if not holds_texts(column):
        return column.dtype != object or not column.notna().any()
    known = column[~column.isin(MISSING_NAMES)].dropna().astype("str")
    return bool(forms.all_texts and len(known) and are_numbers(known, forms.decimal).all())


def _is_float(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


def _refuse_doubts(doubts: Sequence[Doubt], categorical: Sequence[str]) -> None:
    first, others = doubts[0], [repr(doubt.column) for doubt in doubts[1:]]
    listed = option_list("categorical", [*categorical, *([first.column] if first.may_be_category else [])])
    more = f" (also in doubt: {', '.join(others)})" if others else ""
    raise UserError(f"column {first.column!r} {first.why}: {first.remedy.replace('{categorical}', listed)}{more}")


def _tell_names_of_missing(categorical: pd.DataFrame, values: dict[str, pd.Series]) -> None:
    for name in categorical.columns:
        marks = [value for value in values[name] if value in (*MISSING_NAMES, *UNSAYING_SIGNS)]
        if marks:
            say(f"column {name!r} holds {written(marks)} as a category; say na={marks[0]!r} if that is a missing value")
