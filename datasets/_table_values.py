"""The values of a user's table: what is refused, what is filled in, and labels that are class indices already."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.errors import UserError


def check_values(frame: pd.DataFrame) -> None:
    """UserError for two columns of one name, and for a column with a value such as a list, which Parquet can hold."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserError(f"the table has two columns {twice[0]!r}, expected names that differ")
    for name in frame.columns:
        values = frame[name] if pd.api.types.is_object_dtype(frame[name]) else ()
        odd = next((value for value in values if not pd.api.types.is_hashable(value)), None)
        if odd is not None:
            raise UserError(f"column {name!r} holds a {type(odd).__name__}, expected numbers, texts or true and false")


def filled_in(inputs: pd.DataFrame, train: np.ndarray, categorical: Sequence[str]) -> pd.DataFrame:
    """Missing numbers as the mean of the training rows, those of ``categorical`` as their most frequent value."""
    values = {}
    for name in inputs.columns[inputs.isna().any()]:
        known = inputs[name][train].dropna()
        if known.empty:
            raise UserError(f"column {name!r} has no value in any training row, so that none can be filled in")
        values[name] = known.mode().iloc[0] if name in categorical else known.mean()
    return inputs.fillna(values)


def numbered_labels(target: pd.Series, classes: tuple[str, ...]) -> Tensor:
    """Labels (N,) of a target that holds class indices; UserError for an index that no class has."""
    outside = ~target.between(0, len(classes) - 1)
    if outside.any():
        raise UserError(f"target {target.name!r} holds {target[outside].iloc[0]}, but there are {len(classes)} classes")
    return torch.tensor(target.to_numpy(dtype=np.int64))


def plain_value(value: Any) -> Any:
    """A value of a group column as a text, a number or None."""
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value
