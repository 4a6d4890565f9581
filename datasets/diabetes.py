"""Diabetes: how far the disease has gone a year later, a number; it comes with scikit-learn."""

import torch

from harness.datasets._people import People, Split, drawn_for_training
from harness.registry import dataset
from harness.sources import Data

TEST_SIZE = 111
COLUMNS = {
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
    licence="none stated; scikit-learn is BSD",
    samples="331 to train, 111 to test",
    classes="none: a number, progression after a year",
)
def diabetes(*, split: str = "test") -> Data:
    """442 patients in 10 measurements, and a number to predict: progression of diabetes a year later (Efron et al.
    2004, math/0406456), 331 to train, 111 to test.

    They come with scikit-learn. Items (10,) and labels, both standardised by mean and standard deviation of the
    training part (of the label about 152 and 77). ``split`` is ``test`` or ``train``, fixed and stratified by fifths
    of the label; the training part serves baselines either way. ``groups`` hold ``sex``, 1 or 2: the source does not
    say which is which.
    """
    return _table().data(split)


def load_split() -> Split:
    """``train`` and ``test`` -> standardised inputs (N, 10), standardised labels (N,), rows (N,) of the whole."""
    return _table().load_split()


def _table() -> People:
    from sklearn.datasets import load_diabetes  # here and not above: scikit-learn takes seconds to import

    frame, progression = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    labels = torch.tensor(progression.to_numpy())
    fifths = torch.bucketize(labels, labels.quantile(torch.tensor([0.2, 0.4, 0.6, 0.8]).to(labels)))
    train = drawn_for_training(len(frame), TEST_SIZE, fifths)
    labels = ((labels - labels[train].mean()) / labels[train].std(correction=0)).float()
    sexes = [f"{sex:.0f}" for sex in frame["sex"]]
    return People("diabetes", "patient", frame.rename(columns=COLUMNS), labels, train, (), (), {"sex": sexes}, None)
