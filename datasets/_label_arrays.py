"""Labels from an array: classes, numbers to predict, or independent labels."""

import numpy as np
import torch
from torch import Tensor

from harness.datasets.own_files import class_indices
from harness.errors import UserError
from harness.messages import say


def labels_of_rows(
    labels: np.ndarray | None, rows: np.ndarray, ids: list[str], names: tuple[str, ...] | None
) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """The labels of some rows, and the class names.

    ``labels`` (N,) are texts, or whole numbers as class indices (int64), or numbers to predict (float32); (N, K) are K
    numbers to predict (float32), or K independent labels, 0 or 1 (int64). A single column (N, 1) is read as (N,).
    ``ids`` name the rows in errors, ``names`` are the class names that the user gives. UserError for other shapes and
    types, for NaN, and where whole numbers and numbers to predict cannot be told apart.
    """
    if labels is None:
        return None, names
    if labels.ndim not in (1, 2) or labels.dtype.kind not in ("fiubU" if labels.ndim == 1 else "fiub"):
        raise UserError(
            f"labels are {labels.dtype} {labels.shape}, expected class indices, names, or numbers (N,), or numbers or "
            "independent labels (N, K)"
        )
    of_rows = np.array(labels[rows])
    of_rows = of_rows[:, 0] if of_rows.ndim == 2 and of_rows.shape[1] == 1 else of_rows
    if of_rows.ndim == 2 and names is not None and of_rows.shape[1] != len(names):
        raise UserError(f"labels are {labels.shape}, but there are {len(names)} class names, expected one per column")
    if of_rows.dtype.kind == "U":
        indices, names = class_indices(ids, [str(label) for label in of_rows], names)
        return torch.tensor(indices), names
    if of_rows.dtype.kind == "f":
        return _numbers_of_rows(of_rows, ids), names
    if of_rows.ndim == 2:
        _check_independent(of_rows, ids)
    return torch.from_numpy(of_rows.astype(np.int64)), names


def _numbers_of_rows(numbers: np.ndarray, ids: list[str]) -> Tensor:
    bad = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(1)
    if bad.any():
        raise UserError(f"the label of {ids[int(bad.argmax())]} is NaN or infinite")
    if numbers.ndim == 2 and np.isin(numbers, (0, 1)).all():
        raise UserError(
            f"labels are {numbers.dtype} {numbers.shape} and all 0 or 1: save independent labels as whole numbers or "
            "booleans, and classes as their indices, labels.argmax(1); numbers to predict have other values too"
        )
    return torch.from_numpy(numbers).float()


def _check_independent(labels: np.ndarray, ids: list[str]) -> None:
    bad = ~np.isin(labels, (0, 1)).all(1)
    if bad.any():
        raise UserError(
            f"labels are {labels.dtype} {labels.shape}, of which {ids[int(bad.argmax())]} has "
            f"{labels[bad.argmax()].tolist()}: expected independent labels, 0 or 1; save numbers to predict as floats"
        )
    if (labels.sum(1) == 1).all():
        say(
            f"labels {labels.shape} are read as {labels.shape[1]} independent labels, although each row has exactly "
            "one; for classes save their indices, labels.argmax(1)"
        )
