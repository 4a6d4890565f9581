"""What makes it uncertain whether a column of a user's table holds numbers or categories, and what the user can do."""

import re
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Any

import numpy as np
import pandas as pd

from harness.datasets._written_values import (
    MISSING_NAMES,
    MISSING_SIGNS,
    WrittenForms,
    are_adorned_numbers,
    are_codes,
    are_comma_numbers,
    are_dates,
    are_numbers,
    as_numbers,
    holds_texts,
    option_list,
    written,
)
from harness.messages import say

FEW_VALUES = 10  # different texts that can be categories in any table
MOST_WORDS = 4  # of a name; a text of more words on average is free text
ID_NAME = re.compile(r"(?i:(?:^|.*[\W_])(?:id|idx|index|row|rownum|uuid|guid|key))|.*[a-z](?:ID|Id)")
DAY_NUMBERS = (19_000_101, 21_001_231)  # dates written as numbers, YYYYMMDD


@dataclass(frozen=True)
class Doubt:
    """Why it is not certain what a column holds, and what the user can do.

    ``{categorical}`` in the remedy becomes the option that lists the columns of categories, this one among them only if
    it ``may_be_category``.
    """

    column: str
    why: str
    remedy: str
    may_be_category: bool = True


def doubt_about(column: pd.Series, forms: WrittenForms) -> Doubt | None:
    """Why the values of a column do not say whether they are numbers or categories, or None where they do."""
    name, known = str(column.name), column.dropna()
    if not holds_texts(column):
        return _doubt_about_numbers(name, known) if column.dtype != object else _doubt_about_objects(name, known)
    known = known.astype("str")
    texts = known[~known.isin(MISSING_NAMES)]
    if len(texts) and are_numbers(texts, forms.decimal).all():
        return _doubt_about_plain_numbers(name, texts, forms)
    return (
        _doubt_about_numerals(name, texts, forms)
        or _doubt_about_dates(name, are_dates(known), known)
        or _doubt_about_names(name, known)
    )


def _doubt_about_numbers(name: str, numbers: pd.Series) -> Doubt | None:
    """Whole numbers that number or date the rows, or are too large to be told apart."""
    if not len(numbers) or not (np.isfinite(numbers.astype(np.float64)) & (numbers % 1 == 0)).all():
        return None
    if numbers.nunique() > numbers.astype(np.float64).nunique():
        return _too_large(name, numbers.iloc[0])
    return _doubt_about_whole_numbers(name, numbers)


def _doubt_about_whole_numbers(name: str, numbers: pd.Series) -> Doubt | None:
    if ID_NAME.fullmatch(name) and len(numbers) > FEW_VALUES and numbers.is_unique:
        return Doubt(name, "is called an id and holds another whole number in every row", _drop_or_ids(name), False)
    if len(numbers) > 2 and numbers.between(*DAY_NUMBERS).all() and numbers.nunique() > 1:
        days = pd.to_datetime(numbers.astype(np.int64).astype("str"), format="%Y%m%d", errors="coerce")
        if days.notna().all():
            return _dated(name, str(int(numbers.iloc[0])))
    rows = np.arange(len(numbers))
    if len(numbers) > FEW_VALUES and any((numbers.to_numpy() == rows + first).all() for first in (0, 1)):
        say(f"column {name!r} numbers the rows in their order and is read as a number; drop={name} leaves it out")
    return None


def _doubt_about_objects(name: str, known: pd.Series) -> Doubt | None:
    """Values of Parquet that are neither numbers nor texts."""
    first = next(iter(known), True)
    if isinstance(first, date | time | timedelta | pd.Timestamp | pd.Timedelta | np.datetime64):
        return _dated(name, str(first))
    if not isinstance(first, bool | np.bool_ | int | float | np.number):
        remedy = f"expected numbers, texts or true and false; say {option_list('drop', [name])}"
        return Doubt(name, f"holds {type(first).__name__} values", remedy)
    return None


def _doubt_about_numerals(name: str, texts: pd.Series, forms: WrittenForms) -> Doubt | None:
    """Texts of which at least half are numbers, or look like numbers, but not all are plain numbers."""
    plain = are_numbers(texts, forms.decimal)
    adorned = are_adorned_numbers(texts) & ~plain & ~are_dates(texts)
    like = plain | adorned
    if 2 * like.sum() < len(texts) and 2 * texts[like].nunique() < texts.nunique() or not like.any():
        return None
    odd = texts[~plain]
    count = f"{int(plain.sum())} of {len(texts)} values are numbers" if plain.any() else "no value is a plain number"
    return Doubt(name, f"holds {written(odd)}, and {count}", _remedy_for(odd, adorned[~plain], forms))


def _remedy_for(odd: pd.Series, adorned: np.ndarray, forms: WrittenForms) -> str:
    signs = [value for value in odd.unique() if value in MISSING_SIGNS]
    if len(signs) == odd.nunique():
        quoted = f"'{signs[0]}'" if len(signs) == 1 else "[" + ",".join(f"'{sign}'" for sign in signs) + "]"
        return f"if that stands for a missing value say na={quoted}, if the column is a category say {{categorical}}"
    if forms.all_texts and forms.decimal == "point" and adorned.all() and are_comma_numbers(odd):
        return (
            "if the comma is the decimal sign say decimal=comma; if it separates thousands write plain numbers into "
            "the file; if the column is a category say {categorical}"
        )
    if adorned.all():
        return (
            f"write plain numbers into the file, without separators, units, currency or per cent and with a decimal "
            f"{forms.decimal}; if the column is a category say {{categorical}}"
        )
    return (
        "correct the values that should be numbers, or say na=TEXT for those that stand for a missing value; if the "
        "column is a category say {categorical}"
    )


def _doubt_about_plain_numbers(name: str, texts: pd.Series, forms: WrittenForms) -> Doubt | None:
    if not forms.all_texts:
        remedy = "save the column as numbers; if it is a category say {categorical}"
        return Doubt(name, f"holds texts that are all numbers, {written(texts)}", remedy)
    codes = are_codes(texts)
    if codes.any():
        remedy = "if they are codes say {categorical}, if they are numbers write them without the zero"
        return Doubt(name, f"holds {written(texts[codes])} with a zero in front, as codes have", remedy)
    numbers = as_numbers(texts, forms.decimal)
    if not texts.str.fullmatch(r"[-+]?\d+").all():
        return None
    if texts.nunique() > numbers.nunique() and np.abs(numbers).max() >= 2**53:
        return _too_large(name, texts.iloc[0])
    return _doubt_about_whole_numbers(name, numbers)


def _doubt_about_dates(name: str, dates: np.ndarray, texts: pd.Series) -> Doubt | None:
    return _dated(name, texts[dates].iloc[0]) if 10 * dates.sum() >= 9 * len(texts) > 0 else None


def _doubt_about_names(name: str, texts: pd.Series) -> Doubt | None:
    """Texts of which most rows have one of their own: names, ids or free text."""
    different = texts.nunique()
    if different <= FEW_VALUES or 2 * different <= len(texts):
        return None
    why = f"holds {different} different texts in {len(texts)} rows, such as {texts.iloc[0][:40]!r}"
    if texts.str.split().str.len().mean() > MOST_WORDS:
        drop = option_list("drop", [name])
        remedy = f"free text is neither number nor category; say {drop}, or explain the texts with dataset=text"
        return Doubt(name, why, remedy)
    return Doubt(name, why, f"names and ids are neither numbers nor categories; {_drop_or_ids(name)}")


def _dated(name: str, example: str) -> Doubt:
    remedy = (
        f"say {option_list('drop', [name])}, or write numbers into the file, such as the year, the month or the days "
        "since a date; if each date is a category say {categorical}"
    )
    return Doubt(name, f"holds dates or times, such as {example!r}, which are no numbers", remedy)


def _too_large(name: str, example: Any) -> Doubt:
    return Doubt(name, f"holds numbers such as {example}, too large to be told apart", _drop_or_ids(name), False)


def _drop_or_ids(name: str) -> str:
    return (
        f"say {option_list('drop', [name])} to leave it out (ids={name} names the rows by it), if it is an "
        "input after all, list the columns that are categories: {categorical}"
    )
