"""How values are written: texts that are numbers, or look so to people only, or often mean a missing value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

# Names of a missing value that say so by themselves: among numbers they are missing values, without a doubt.
MISSING_NAMES = (
    *("NA", "N/A", "n/a", "na", "n.a.", "#N/A", "#NA", "<NA>", "NaN", "nan", "NAN", "-nan"),
    *("null", "NULL", "Null", "None", "none", "NONE"),
)
UNSAYING_SIGNS = ("?", "-", "--", "---", ".", "..", "*")
# Signs and words that may stand for a missing value: among numbers the user is asked.
MISSING_SIGNS = (*UNSAYING_SIGNS, "/", "x", "missing", "unknown", "Missing", "Unknown")

DIGITS = {"point": r"(?:\d+\.?\d*|\.\d+)", "comma": r"(?:\d+,?\d*|,\d+)"}
INFINITE = r"[-+]?[Ii]nf(?:inity)?"
SIGNS = r"[$€£¥₹]|USD|EUR|GBP|CHF|%|‰"
# A number with a currency, per cent, brackets, or separators between its digits.
ADORNED = rf"[-+(]*\s*(?:{SIGNS})?\s*[-+]?\d[\d.,'’ \u00a0\u202f_]*(?:[eE][-+]?\d+)?\s*(?:{SIGNS})?\)?"
COMMA_NUMBER = r"[-+]?\d+,\d+"
DATES = (
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d{1,2}:.*)?",
    r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}(?: \d{1,2}:.*)?",
    r"\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}.*",
    r"[A-Za-z]{3,9}\.? \d{1,2},? \d{4}.*",
    r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp][Mm])?",
)


@dataclass(frozen=True)
class WrittenForms:
    """How the values of a table are written.

    all_texts  whether the file holds texts alone (CSV), so that numbers are written as texts
    decimal    ``point`` or ``comma``, the sign in front of the decimals of numbers that are written as texts
    missing    the texts and numbers that stand for a missing value
    """

    all_texts: bool = False
    decimal: str = "point"
    missing: tuple[str, ...] = ()


def holds_texts(column: pd.Series) -> bool:
    """Whether any value of a column is a text."""
    return column.dtype == object and any(isinstance(value, str) for value in column)


def are_numbers(texts: pd.Series, decimal: str) -> np.ndarray:
    """Which texts (N,) are numbers, as a program writes them; infinite ones too. A missing text is none."""
    number = rf"(?:[-+]?{DIGITS[decimal]}(?:[eE][-+]?\d+)?|{INFINITE})"
    return _match(texts, number)


def are_adorned_numbers(texts: pd.Series) -> np.ndarray:
    """Which texts (N,) are numbers with separators, per cent or currency signs, or all with the same unit."""
    adorned = _match(texts, ADORNED)
    units = texts.str.extract(rf"^[-+]?{DIGITS['point']}\s*([^\W\d_]+)$", expand=False).dropna()
    several = texts[units.index].nunique() > 2
    return adorned | (texts.index.isin(units.index) if units.nunique() == 1 and several else False)


def are_dates(texts: pd.Series) -> np.ndarray:
    """Which texts (N,) are dates or times of day."""
    return _match(texts, "|".join(f"(?:{form})" for form in DATES))


def are_comma_numbers(texts: pd.Series) -> bool:
    """Whether all texts are numbers with one comma in them."""
    return bool(_match(texts, COMMA_NUMBER).all())


def are_codes(texts: pd.Series) -> np.ndarray:
    """Which texts (N,) are digits behind a zero, such as 01234: as numbers they would lose it."""
    return _match(texts, r"[-+]?0\d+")


def as_numbers(texts: pd.Series, decimal: str) -> pd.Series:
    """Texts that are all numbers or missing as float64."""
    return pd.to_numeric(texts.str.replace(",", ".") if decimal == "comma" else texts).astype(np.float64)


def written(values: Sequence[str], most: int = 3) -> str:
    """The most frequent values with the number of their rows, for a message."""
    counts = pd.Series(values).value_counts(sort=True)
    shown = [f"{value[:40]!r} ({count} row{'s' * (count > 1)})" for value, count in counts.head(most).items()]
    return ", ".join(shown) + (f" and {len(counts) - most} other values" if len(counts) > most else "")


def option_list(name: str, values: Sequence[str]) -> str:
    """An option with a list, as it is typed; a value that is more than a word is quoted."""
    quoted = [value if re.fullmatch(r"\w+", value) else f'"{value}"' for value in values]
    return f"{name}=[{','.join(quoted)}]"


def _match(texts: pd.Series, form: str) -> np.ndarray:
    return texts.str.fullmatch(form).fillna(False).to_numpy(dtype=bool)
