"""The options of data sets that are tables of the user's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.option_types import InnerShare, Seed

# What an option that lists columns may be: a list of names, or one text with commas between the names.
ColumnNames = Sequence[str] | str | None
MissingValues = Sequence[str | float] | str | float | None


@dataclass(frozen=True)
class TableOptions:
    """Options of every data set that is read from a table of the user's.

    task         ``classification``: the classes are the sorted values of the target, numbered from 0; or
                 ``regression``: the target is a number. Without it, the values must say which: texts, true and false
                 and few whole numbers are classes
    train        the share of the rows to train with, between 0 and 1; these rows are drawn at random
    split_seed   the seed of the random choice
    categorical  the categorical columns: a list of names, or names with commas between; all others are then numbers.
                 ``auto`` are all columns that hold texts or true and false; a column that may be either is an error
    ordinal      columns whose values are ranks: a mapping of the column to its values from lowest to highest
    groups       sensitive columns whose groups are to be compared: a list of names, or names with commas between. They
                 stay inputs unless they are in ``drop``
    drop         columns that are no inputs: a list of names, or names with commas between
    ids          a column with a unique name for each row
    missing      what happens to a row that lacks a value or holds an infinite one: ``error``; ``skip``, it is left out;
                 or ``fill``, the value becomes the mean of the training rows, in a categorical or ordinal column their
                 most frequent value. A row without target cannot be filled and is left out then
    na           texts or numbers that stand for a missing value, beside empty fields: one, or a list. Among numbers,
                 ``NA``, ``NaN``, ``null``, ``None`` and their like do so in any case
    unseen       what happens to a row with a category that no training row has: ``error``; or ``skip``, it is left out
    """

    task: Literal["classification", "regression"] | None = None
    train: InnerShare = 0.7
    split_seed: Seed = 0
    categorical: ColumnNames = "auto"
    ordinal: Mapping[str, Sequence[str]] | None = None
    groups: ColumnNames = None
    drop: ColumnNames = None
    ids: str | None = None
    missing: Literal["error", "skip", "fill"] = "error"
    na: MissingValues = None
    unseen: Literal["error", "skip"] = "error"

    @property
    def ordinal_values(self) -> dict[str, list[str]]:
        """``ordinal`` with all names and values as texts."""
        if self.ordinal is None:
            return {}
        return {str(name): [str(value) for value in values] for name, values in self.ordinal.items()}

    @property
    def missing_texts(self) -> tuple[str, ...]:
        """``na`` as texts."""
        several = isinstance(self.na, Sequence) and not isinstance(self.na, str)
        return tuple(map(str, self.na if several else [] if self.na is None else [self.na]))


@dataclass(frozen=True)
class TableFileOptions:
    """Options of the data set ``table`` alone.

    target         the column to predict
    split_column   a column whose values are ``train`` and ``test``, instead of a random choice of the training rows
    decimal        the sign in front of the decimals of the numbers in a CSV file: ``point`` or ``comma``
    """

    target: str | None = None
    split_column: str | None = None
    decimal: Literal["point", "comma"] = "point"


TABLE_OPTIONS, TABLE_FILE_OPTIONS = TableOptions(), TableFileOptions()
