"""Published numbers with their provenance, from the tables in ``results/reference``."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas as pd

import harness.results.reference
from harness.errors import UserError, unknown

FOLDER = Path(harness.results.reference.__file__).parent
COLUMNS = (
    "paper",
    "arxiv",
    "table_or_figure",
    "model",
    "dataset",
    "explainer",
    "metric",
    "value",
    "spread",
    "spread_kind",
    "n_images",
    "better",
    "provenance",
    "source",
    "note",
)
KEY = ("table_or_figure", "model", "dataset", "explainer", "metric")
# How it is known that a number was published. One that is only remembered is never shown.
PROVENANCE = {
    "seen": "read in the authors' repository, notebook or poster",
    "computed": "computed from the authors' data",
    "digitised": "read off a plot",
    "second-hand": "read in somebody else's notes on the paper",
}
REMEMBERED = "memory"


def tables() -> list[str]:
    """The names of all tables of published numbers."""
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


@cache
def _printable_rows(name: str) -> pd.DataFrame:
    if name not in tables():
        raise unknown("table of published numbers", name, tables())
    rows = pd.read_csv(FOLDER / f"{name}.csv")
    return rows[rows["provenance"] != REMEMBERED].reset_index(drop=True)


def published_numbers(name: str, where: Mapping[str, str | list[str]] | None = None) -> pd.DataFrame:
    """The rows of a table in which each column of ``where`` has this value, or one of these; never a remembered number.

    UserError for a table or a column that is not there, and for no rows.
    """
    rows = _printable_rows(name)
    for column, wanted in (where or {}).items():
        if column not in COLUMNS:
            raise unknown(f"column of {name}", column, COLUMNS)
        rows = rows[rows[column].isin([wanted] if isinstance(wanted, str) else list(wanted))]
    if rows.empty:
        raise UserError(f"{name} has no number with {dict(where or {})}; results/reference/{name}.csv has them all")
    return rows.reset_index(drop=True)
