"""Diabetes: a number that measures how far the disease has progressed after a year; comes with scikit-learn."""

from typing import Literal

import torch

from harness.datasets.people import People, PeopleOptions, Split, drawn_for_training
from harness.registry import dataset
from harness.sources import Data

DIABETES_TEST_SIZE = 111
DIABETES_COLUMNS = {  # name in scikit-learn -> name of the unit
    "age": "age",
    "sex": "sex",
    "bmi": "body mass index",
    "bp": "blood pressure",
    "s1": "total cholesterol",
    "s2": "low-density lipoproteins",
    "s3": "high-density lipoproteins",
    "s4": "cholesterol ratio",
    "s5": "log of triglycerides",
    "s6": "blood sugar",
}


@dataset(
    modality="table",
    source="Efron et al. 2004, as scikit-learn ships it",
    licence="not stated in scikit-learn, which is itself under BSD-3-Clause",
    samples="331 to train, 111 to test",
    classes="a number: the progression of the disease after a year",
)
def diabetes(*, split: Literal["test", "train"] = "test") -> Data:
    """442 patients with 10 measurements each, and the progression of their diabetes a year later as a number to predict
    (Efron et al. 2004, math/0406456): 331 to train, 111 to test.

    The data come with scikit-learn. Items (10,) and labels are standardised by mean and standard deviation of the
    training part (of the label about 152 and 77). ``split`` is ``test`` or ``train``: the part whose samples are
    explained. Baselines draw from the training part in either case. The split is fixed and stratified by fifths of the
    label. ``groups`` holds ``sex``, 1 or 2: the source does not say which is which.
    """
    return diabetes_table().data(PeopleOptions(split))


def load_split() -> Split:
    """``train`` and ``test`` -> standardised inputs (N, 10), standardised labels (N,), rows in the table (N,)."""
    return diabetes_table().load_split()


def diabetes_table() -> People:
    """The table of scikit-learn with standardised labels."""
    from sklearn.datasets import load_diabetes  # here and not above: scikit-learn takes seconds to import

    frame, progression = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    labels = torch.tensor(progression.to_numpy())
    fifths = torch.bucketize(labels, labels.quantile(torch.tensor([0.2, 0.4, 0.6, 0.8]).to(labels)))
    train = drawn_for_training(fifths, DIABETES_TEST_SIZE)
    return People(
        name="diabetes",
        person="patient",
        frame=frame.rename(columns=DIABETES_COLUMNS),
        labels=((labels - labels[train].mean()) / labels[train].std(correction=0)).float(),
        train_rows=train,
        categorical=(),
        sensitive=(),
        groups={"sex": [f"{sex:.0f}" for sex in frame["sex"]]},
        classes=None,
    )
