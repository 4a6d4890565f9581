"""Breast cancer diagnosis from measurements of cell nuclei, which comes with scikit-learn."""

import torch
from torch import Tensor

from harness.datasets._parts import part_of
from harness.registry import dataset
from harness.sources import Data

TEST_SIZE, SPLIT_SEED = 169, 0
CLASSES = ("malignant", "benign")


@dataset(
    modality="table",
    source="Wolberg et al. 1995 (UCI), as scikit-learn ships it",
    licence="CC BY 4.0",
    samples="400 to train, 169 to test",
    classes="malignant, benign",
)
def breast_cancer(*, split: str = "test") -> Data:
    """569 tumours in 30 measurements, malignant or benign (Wolberg et al. 1995): 400 to train, 169 to test.

    They come with scikit-learn. Items (30,), each column standardised by mean and standard deviation of the training
    part. ``split`` is ``test`` or ``train``; the training part serves baselines either way. The value range is that of
    the training columns, which test columns may exceed.
    """
    parts = load_split()
    inputs, labels, rows = part_of("breast_cancer", parts, split)
    train = parts["train"][0]
    return Data(
        ids=[f"tumour_{row:03}" for row in rows.tolist()],
        items=inputs,
        labels=labels,
        modality="table",
        value_range=(train.amin(0), train.amax(0)),
        classes=CLASSES,
        train=train,
        train_labels=parts["train"][1],
        unit_names=_columns(),
    )


def load_split() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """``train`` and ``test`` -> standardised inputs (N, 30), labels (N,), rows (N,) of the whole; stratified by class.

    The split is the data set's, not an option: models are trained on its first part.
    """
    from sklearn.datasets import load_breast_cancer  # here and not above: scikit-learn takes seconds to import
    from sklearn.model_selection import train_test_split

    values, labels = (torch.tensor(part) for part in load_breast_cancer(return_X_y=True))
    halves = train_test_split(range(len(labels)), test_size=TEST_SIZE, stratify=labels, random_state=SPLIT_SEED)
    train, test = map(torch.tensor, halves)
    centre, spread = values[train].mean(0), values[train].std(0, unbiased=False)
    inputs = ((values - centre) / spread).float()
    return {name: (inputs[rows], labels[rows], rows) for name, rows in (("train", train), ("test", test))}


def _columns() -> tuple[str, ...]:
    from sklearn.datasets import load_breast_cancer

    return tuple(str(name) for name in load_breast_cancer().feature_names)
