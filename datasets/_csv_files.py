"""CSV files as tables of texts: the separator follows from the header, and no text is taken for a number."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.messages import say

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t", "|")
# A class or a text may be called NA; an empty field is missing, so that a separator at the end of a row is no field.
AS_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"}


def csv_as_texts(file: Path, wanted: Sequence[str | None]) -> "pd.DataFrame":
    """All fields of a CSV file, without spaces at their ends; an empty field, or one that a row lacks, is missing.

    ``wanted`` are columns that the file should have: the separator (comma, semicolon, tab or ``|``) is the one with
    which its header holds them. Columns without a name are called ``""``. UserError for two columns of one name.
    """
    import pandas as pd  # here and not above: a second to import, for data sets that need no table

    separator, names = csv_header(file, wanted)
    with whole_rows():  # pandas would take the first column of longer rows for an index, and shift the others
        frame = pd.read_csv(file, sep=separator, index_col=False, skipinitialspace=True, **AS_TEXT)
    frame.columns = names
    return frame.apply(lambda column: column.str.strip())


def csv_header(file: Path, wanted: Sequence[str | None]) -> tuple[str, list[str]]:
    """The separator of a CSV file and the names in its header; UserError for two columns of one name."""
    headers = {separator: _names_between(file, separator) for separator in SEPARATORS}
    fit = lambda separator: (sum(name in headers[separator] for name in wanted if name), len(headers[separator]))
    separator = max(SEPARATORS, key=fit)  # of equals the first, the comma
    names = headers[separator]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{file} has two columns {twice!r}, expected names that differ")
    if all(_is_numeral(name) for name in names) and not any(name in names for name in wanted if name):
        raise UserError(f"the first line of {file} holds numbers, {', '.join(names[:3])}, expected names of columns")
    return separator, names


def without_unnamed_columns(frame: "pd.DataFrame", file: Path) -> "pd.DataFrame":
    """The table without columns that have no name: an index of pandas in front, which is said, and empty ones.

    UserError for any other column without a name.
    """
    keep = []
    for place, name in enumerate(frame.columns):
        values = frame.iloc[:, place]
        if name:
            keep.append(place)
        elif place == 0 and values.str.fullmatch("[0-9]+").all() and values.is_unique:
            say(f"the first column of {file.name} has no name and numbers the rows: it is an index and no input")
        elif values.fillna("").ne("").any():
            odd = next(value for value in values if value)
            raise UserError(
                f"column {place + 1} of {file} has no name and holds {odd!r}; name it in the first line, and say "
                "drop=NAME if it is no input"
            )
    return frame.iloc[:, keep]


@contextmanager
def whole_rows() -> Iterator[None]:
    """Within it, pandas raises ValueError for a CSV row with more fields than the header, instead of cutting it."""
    import warnings

    from pandas.errors import ParserWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)
        try:
            yield
        except ParserWarning:
            raise ValueError("its rows have more fields than its header; a text with commas needs quotes") from None


def _names_between(file: Path, separator: str) -> list[str]:
    import pandas as pd

    header: Any = pd.read_csv(file, sep=separator, header=None, nrows=1, skipinitialspace=True, **AS_TEXT)
    return [name.strip() for name in header.iloc[0].fillna("")]


def _is_numeral(name: str) -> bool:
    return name.lstrip("+-").replace(".", "", 1).isdigit()
