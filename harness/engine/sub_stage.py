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
from harness.engine.tuning import PROBED
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
    small = _stage_of(stage, rows)
    small.targets = stage.targets[where]
    for name in ("weights", "flags", "joint_units"):  # the model's, whatever the samples are
        small.__dict__[name] = getattr(stage, name)
    small.__dict__["outputs"] = stage.outputs[where]
    return small


def part_of_stage(stage: Stage, rows: range) -> Stage:
    """The samples ``rows`` of a stage that has no targets (``set_stage`` without ``whole``).

    The outputs of the other samples are never computed. All parts use the form of the model that the whole stage uses:
    it is tried on the same inputs.
    """
    probe = stage.first()[:PROBED], {name: values[:PROBED] for name, values in stage.first_carried().items()}
    part = replace(_stage_of(stage, rows), whole_count=stage.count, probe=probe)
    part.fix_targets()
    return part


def _stage_of(stage: Stage, rows: Sequence[int]) -> Stage:
    return replace(
        stage,
        data=_data_of(stage.data, rows),
        count=len(rows),
        targets=torch.empty(0, dtype=torch.long),
        memos={},
        shelf=Shelf(),
        cache=Memo(Shelf(CACHE_BYTES)),
        memo=Memo(Shelf()),
    )


def _data_of(data: Data, rows: Sequence[int]) -> Data:
    parts = {name: _rows_of(getattr(data, name), rows) for name in PER_SAMPLE}
    carried = {name: _rows_of(values, rows) for name, values in data.carried.items()}
    groups = {name: _rows_of(values, rows) for name, values in data.groups.items()}
    return replace(data, **parts, carried=carried, groups=groups)


def _rows_of(values: Any, rows: Sequence[int]) -> Any:
    """The rows of what there is for each sample; what is one for all stays."""
    if values is None or isinstance(values, int):
        return values
    if isinstance(rows, range) and rows.step == 1 and isinstance(values, Tensor | np.ndarray | list | tuple):
        return values[rows.start : rows.stop]
    if isinstance(values, Tensor | np.ndarray):
        return values[list(rows)]
    if isinstance(values, PreprocessedMasks):
        return PreprocessedMasks(Picked(values.images, rows), values.preprocess)
    if isinstance(values, list | tuple):
        return [values[row] for row in rows]
    return Picked(values, rows)
