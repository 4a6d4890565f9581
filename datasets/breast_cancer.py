"""Breast cancer diagnosis from measurements of cell nuclei, which comes with scikit-learn."""

from typing import Literal

import torch
from torch import Tensor

from harness.datasets._parts import part_of, stratified_rows
from harness.registry import dataset
from harness.sources import Data

CANCER_TEST_SIZE = 169
CLASSES = ("malignant", "benign")


@dataset(
    modality="table",
    source="Wolberg et al. 1995 (UCI), as scikit-learn ships it",
    licence="not stated in scikit-learn, which is itself under BSD-3-Clause",
    samples="400 to train, 169 to test",
    classes="malignant, benign",
)
def breast_cancer(*, split: Literal["test", "train"] = "test") -> Data:
    """569 tumours in 30 measurements, malignant or benign (Wolberg et al. 1995): 400 to train, 169 to test.

    They come with scikit-learn. Items (30,), each column standardised by mean and standard deviation of the training
    part. ``split`` is ``test`` or ``train``: the part whose samples are explained. Baselines draw from the training
    part in either case. The value range is that of the training part, which test samples may exceed.
    """
    parts = load_split()
    inputs, labels, rows = part_of("breast_cancer", parts, split)
    train = parts["train"][0]
    return Data(
        ids=[f"tumour_{row:03}" for row in rows.tolist()],
        inputs=inputs,
        labels=labels,
        modality="table",
        value_range=(train.amin(0), train.amax(0)),
        classes=CLASSES,
        train=train,
        train_labels=parts["train"][1],
        unit_names=_feature_names(),
    )


def load_split() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """``train`` and ``test`` -> standardised inputs (N, 30), labels (N,), rows (N,) in scikit-learn; stratified by
    class."""
    from sklearn.datasets import load_breast_cancer  # here and not above: scikit-learn takes seconds to import

    values, labels = (torch.tensor(part) for part in load_breast_cancer(return_X_y=True))
    parts = stratified_rows(labels, CANCER_TEST_SIZE)
    train = values[parts["train"]]
    inputs = ((values - train.mean(0)) / train.std(0, unbiased=False)).float()
    return {name: (inputs[rows], labels[rows], rows) for name, rows in parts.items()}


def _feature_names() -> tuple[str, ...]:
    from sklearn.datasets import load_breast_cancer

    return tuple(str(name) for name in load_breast_cancer().feature_names)
