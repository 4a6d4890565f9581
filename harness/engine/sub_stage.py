"""Some samples of a stage as a stage of their own: the same model, task and targets, and the same scores per sample."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.engine.mask_images import PreprocessedMasks
from harness.engine.memo import Memo, Shelf
from harness.engine.stage import CACHE_BYTES, Stage
from harness.sources import Data

PER_SAMPLE = ("inputs", "targets", "labels", "ids", "masks", "truth", "segments", "present")


class Picked(Sequence):
    """Some items of a sequence that are read when they are asked for; a slice of them is what slices of it give."""

    def __init__(self, items: Any, rows: Sequence[int]) -> None:
        self.items, self.rows = items, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: Any) -> Any:
        if not isinstance(where, slice):
            return self.items[self.rows[where]]
        parts = [self.items[row : row + 1] for row in self.rows[where]]
        return torch.cat(parts) if isinstance(parts[0], Tensor) else [each for part in parts for each in part]


def stage_of_samples(stage: Stage, rows: Sequence[int]) -> Stage:
    """A stage of the samples ``rows``, in this order; model outputs are those of ``stage``, not computed again."""
    where = torch.as_tensor(list(rows), dtype=torch.long)
    small = replace(
        stage,
        data=_data_of(stage.data, rows),
        count=len(rows),
        targets=stage.targets[where],
        memos={},
        shelf=Shelf(),
        cache=Memo(Shelf(CACHE_BYTES)),
        memo=Memo(Shelf()),
    )
    for name in ("weights", "flags", "joint_units"):  # the model's, whatever the samples are
        small.__dict__[name] = getattr(stage, name)
    small.__dict__["outputs"] = stage.outputs[where]
    return small


def _data_of(data: Data, rows: Sequence[int]) -> Data:
    parts = {name: _rows_of(getattr(data, name), rows) for name in PER_SAMPLE}
    carried = {name: _rows_of(values, rows) for name, values in data.carried.items()}
    groups = {name: _rows_of(values, rows) for name, values in data.groups.items()}
    return replace(data, **parts, carried=carried, groups=groups)


def _rows_of(values: Any, rows: Sequence[int]) -> Any:
    """The rows of what there is for each sample; what is one for all stays."""
    if values is None or isinstance(values, int):
        return values
    if isinstance(values, Tensor | np.ndarray):
        return values[list(rows)]
    if isinstance(values, PreprocessedMasks):
        return PreprocessedMasks(Picked(values.images, rows), values.preprocess)
    if isinstance(values, list | tuple):
        return [values[row] for row in rows]
    return Picked(values, rows)
