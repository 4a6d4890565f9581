"""Tables as numbers: the columns of a data frame standardised or one-hot, fitted to the training rows alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.errors import UserError, unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Encoded:
    """A table as float32 numbers (N, D); a categorical column takes one number for each of its categories.

    inputs       (N, D)
    columns      (D,) the unit that each number belongs to; the units are the columns of the frame, in its order
    unit_names   the names of the units
    categories   categorical column -> its categories, in the order of its numbers
    value_range  the lowest and the highest value of each number, (D,) each, over all rows
    unseen       (N,) a message where a row holds a category that no training row has, or None
    """

    inputs: Tensor
    columns: tuple[int, ...]
    unit_names: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    value_range: tuple[Tensor, Tensor]
    unseen: list[str | None]


def encode(
    frame: "pd.DataFrame",
    train_rows: "Sequence[int] | np.ndarray",
    categorical: Sequence[str] = (),
    *,
    ordinal: Mapping[str, Sequence[str]] | None = None,
    unseen: str = "error",
) -> Encoded:
    """The columns of ``frame`` as numbers: standardised by the training rows, categories one-hot.

    ``train_rows`` are row positions (R,) or a mask (N,) bool; means, standard deviations and categories are computed
    from these rows only. A column that is constant there is only centred. A column in ``categorical`` becomes one
    number per category, 1 or 0; categories are sorted as numbers where all are numbers, else as text. ``ordinal`` maps
    a column to its values from lowest to highest; a value becomes its place in that order, standardised. A category
    that no training row has is a UserError, or with ``unseen="mark"`` a message in ``Encoded.unseen`` at its row. The
    numbers of such a row are all 0 for that column, which is no category, so the caller must leave the row out.

    UserError for a column that does not exist, is not numeric, or holds missing or infinite values.
    """
    if unseen not in ("error", "mark"):
        raise unknown("unseen", unseen, ("error", "mark"))
    ordinal = ordinal or {}
    train = _train_mask(train_rows, len(frame))
    _check_complete(frame, [*categorical, *ordinal])
    problems: list[str | None] = [None] * len(frame)
    blocks, categories = [], {}
    for name in frame.columns:
        if name in categorical:
            categories[name], block = _one_hot_block(frame[name], train, problems)
        elif name in ordinal:
            block = _standardised_column(_ordinal_ranks(frame[name], [str(value) for value in ordinal[name]]), train)
        else:
            block = _standardised_column(_finite_numbers(frame[name]), train)
        blocks.append(block)
    _refuse_unseen(frame, problems if unseen == "error" else [])
    return _joined_blocks(blocks, [str(name) for name in frame.columns], categories, problems)


def _train_mask(rows: "Sequence[int] | np.ndarray", count: int) -> "np.ndarray":
    import numpy as np

    rows = np.asarray(rows) if len(rows) else np.empty(0, dtype=int)
    if rows.dtype == bool and rows.shape != (count,):
        raise UserError(f"train_rows is a mask of shape {rows.shape}, expected one entry for each of {count} rows")
    mask = np.zeros(count, dtype=bool)
    mask[rows] = True
    if not mask.any():
        raise UserError(f"no training rows among {count}; expected some to compute means and categories from")
    return mask


def _check_complete(frame: "pd.DataFrame", named: Sequence[str]) -> None:
    for name in named:
        if name not in frame.columns:
            raise unknown("column", name, [str(column) for column in frame.columns])
    for name in frame.columns:
        missing = frame[name].isna()
        if missing.any():
            raise UserError(
                f"column {name!r} has {int(missing.sum())} missing values, the first in row "
                f"{frame.index[int(missing.argmax())]}; fill them in or leave the rows out"
            )


def _finite_numbers(column: "pd.Series") -> "np.ndarray":
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(numbers)
    if bad.any():
        place = int(bad.argmax())
        value, row = _as_written(column.iloc[place]), column.index[place]
        raise UserError(
            f"column {column.name!r} holds {value} in row {row}, expected finite numbers; "
            "if the column is categorical, name it among the categorical ones"
        )
    return numbers


def _as_written(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _ordinal_ranks(column: "pd.Series", order: list[str]) -> "np.ndarray":
    ranks = column.astype(str).map({value: rank for rank, value in enumerate(order)})
    if ranks.isna().any():
        value = column[ranks.isna().to_numpy()].iloc[0]
        raise unknown(f"value of ordinal column {column.name!r}", str(value), order)
    return ranks.to_numpy(dtype=float)


def _standardised_column(numbers: "np.ndarray", train: "np.ndarray") -> Tensor:
    spread = numbers[train].std()
    # The computed deviation of a constant column can be rounding noise instead of 0; dividing by it would amplify
    # noise.
    flat = numbers[train].min() == numbers[train].max()
    scaled = (numbers - numbers[train].mean()) / (1 if flat else spread)
    return torch.from_numpy(scaled).float().unsqueeze(1)


def _one_hot_block(
    column: "pd.Series", train: "np.ndarray", problems: list[str | None]
) -> tuple[tuple[str, ...], Tensor]:
    """The categories of a column and its numbers (N, categories).

    A category that no training row has is added to ``problems`` at its row.
    """
    import numpy as np
    import pandas as pd

    known_values = column[train].unique()
    numeric = all(isinstance(value, int | float | np.number) for value in known_values)
    order = sorted(known_values) if numeric else sorted(known_values, key=str)
    codes = pd.Index(order).get_indexer(column)
    for row in np.flatnonzero(codes < 0):
        problems[row] = problems[row] or f"column {column.name!r} is {str(column.iloc[row])!r}, in no training row"
    block = torch.zeros(len(column), len(order))
    known = np.flatnonzero(codes >= 0)
    block[torch.from_numpy(known), torch.from_numpy(codes[known].astype(np.int64))] = 1.0
    return tuple(str(value) for value in order), block


def _refuse_unseen(frame: "pd.DataFrame", problems: list[str | None]) -> None:
    for row, problem in zip(frame.index, problems, strict=False):
        if problem is not None:
            raise UserError(f"row {row}: {problem}; leave such rows out or let training rows hold it")


def _joined_blocks(
    blocks: list[Tensor], names: list[str], categories: dict[str, tuple[str, ...]], problems: list[str | None]
) -> Encoded:
    inputs = torch.cat(blocks, dim=1)
    columns = tuple(unit for unit, block in enumerate(blocks) for _ in range(block.shape[1]))
    return Encoded(inputs, columns, tuple(names), categories, (inputs.amin(0), inputs.amax(0)), problems)
