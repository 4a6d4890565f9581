"""The values of a user's table: what is refused, what is filled in, and which labels the target column holds."""

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
    """Missing numbers as the mean of the training rows, missing categories as their most frequent one."""
    values = {}
    for name in inputs.columns[inputs.isna().any()]:
        known = inputs[name][train].dropna()
        if known.empty:
            raise UserError(f"column {name!r} has no value in any training row, so that none can be filled in")
        frequent = name in categorical or not pd.api.types.is_numeric_dtype(known)
        values[name] = known.mode().iloc[0] if frequent else known.mean()
    return inputs.astype({n: float for n, v in values.items() if isinstance(v, float)}).fillna(values)


def target_labels(target: pd.Series, task: str) -> tuple[Tensor, tuple[str, ...] | None]:
    """Labels (N,) and class names: numbers and None for ``regression``, else the places of the sorted values."""
    if task == "regression":
        numbers = pd.to_numeric(target, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        if not np.isfinite(numbers).all():
            odd = target.iloc[int(np.isfinite(numbers).argmin())]
            raise UserError(f"target {target.name!r} holds {odd!r}, expected finite numbers for task=regression")
        return torch.tensor(numbers, dtype=torch.float32), None
    values = target.unique()
    fractions = [v for v in values if isinstance(v, float | np.floating) and not float(v).is_integer()]
    if fractions:
        raise UserError(f"target {target.name!r} holds {fractions[0]}, no class; for numbers say task=regression")
    order = sorted(values, key=str) if any(isinstance(value, str) for value in values) else sorted(values)
    place = {value: index for index, value in enumerate(order)}
    # pandas reads whole numbers as floats where a target is missing; their names are whole numbers all the same.
    names = (str(int(v)) if isinstance(v, float | np.floating) else str(v) for v in order)
    return torch.tensor([place[value] for value in target]), tuple(names)


def numbered_labels(target: pd.Series, classes: tuple[str, ...]) -> Tensor:
    """Labels (N,) of a target that holds class indices; UserError for an index that no class has."""
    outside = ~target.between(0, len(classes) - 1)
    if outside.any():
        raise UserError(f"target {target.name!r} holds {target[outside].iloc[0]}, but there are {len(classes)} classes")
    return torch.tensor(target.to_numpy(dtype=np.int64))


def plain_value(value: Any) -> Any:
    """A value of a group column as a text, a number or None."""
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value
