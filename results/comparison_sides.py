"""The two sides of a comparison, baseline runs and new runs, and which of their cells belong together."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.results.frames import CELL_NAMES, configured, read, seed_in_config
from harness.results.present_names import with_present_cells

Measured = tuple[dict[str, Any], pd.DataFrame | None]  # a cell's row in one run, and its scores where it is ok
Run = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class Pair:
    """A cell on both sides, a row and its scores per run that has it; a side without any is empty.

    A side counts as failed if one of its runs failed.
    """

    cell: str
    old: list[Measured]
    new: list[Measured]

    @cached_property
    def row(self) -> dict[str, Any]:
        """The cell's row in the last new run, or in the last baseline run where no new run has it."""
        return (self.new or self.old)[-1][0]

    @property
    def block(self) -> tuple[str, ...]:
        """Model, data set and protocol but for its seed: cells of one block have the same samples."""
        return self.row["model"], self.row["dataset"], json.dumps(_protocol(self.row, seed=False), sort_keys=True)

    @property
    def seeds(self) -> tuple[list[Any], list[Any]]:
        """The seeds of each side."""
        old, new = ([seed_in_config(row["config"]) for row, _ in side] for side in (self.old, self.new))
        return list(dict.fromkeys(old)), list(dict.fromkeys(new))


def _protocol(row: dict[str, Any], *, seed: bool = True) -> dict[str, Any]:
    return {name: value for name, value in configured(row["config"], "protocol").items() if seed or name != "seed"}


def status_of_side(side: list[Measured]) -> dict[str, Any]:
    """The row that says how a side ended: that of a run in which the cell is not ok, if there is one."""
    return next((row for row, _ in side if row["status"] != "ok"), side[-1][0])


def values_of_side(side: list[Measured]) -> pd.Series:
    """The scores of a side by sample: the mean over its runs, of those that are finite; NaN where none is."""
    scores = pd.concat([scores for _, scores in side])
    return scores["value"].where(np.isfinite(scores["value"])).groupby(scores["sample"], sort=False).mean()


def paired_cells(base: Sequence[Path], new: Sequence[Path]) -> list[Pair]:
    """Every cell of the runs of both sides, in the order of the runs.

    Cells are the same if their whole configuration is. A cell that only one side has is joined with the cell of the
    other side that differs from it by its seed alone.
    """
    sides = [[read(run) for run in runs] for runs in (base, new)]
    if len({frozenset(cells["cell"]) for side in sides for cells, _ in side}) > 1:  # options may have been renamed
        sides = [[with_present_cells(*run) for run in side] for side in sides]
    joined = _cells_of_other_seeds(*sides)
    before, after = (_by_cell(side, joined) for side in sides)
    return [Pair(cell, before.get(cell, []), after.get(cell, [])) for cell in dict.fromkeys([*before, *after])]


def _by_cell(side: list[Run], joined: dict[str, str]) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    for cells, scores in side:
        of_cell = dict(tuple(scores.groupby("cell", observed=True)))
        for row in cells.to_dict("records"):
            none = scores.iloc[:0] if row["status"] == "ok" else None  # where the file of scores names another cell
            found.setdefault(joined.get(row["cell"], row["cell"]), []).append((row, of_cell.get(row["cell"], none)))
    return found


def _cells_of_other_seeds(old: list[Run], new: list[Run]) -> dict[str, str]:
    """Cell -> a name that it shares with the cells of the other side that differ from it by their seed alone."""
    there = [{cell for cells, _ in side for cell in cells["cell"]} for side in (old, new)]
    names = [_names_but_for_its_seed(side, there[0] & there[1]) for side in (old, new)]
    shared = set(names[0].values()) & set(names[1].values())
    return {cell: name for side in names for cell, name in side.items() if name in shared}


def _names_but_for_its_seed(side: list[Run], but: set[str]) -> dict[str, str]:
    """Cell -> its configuration without the seed; not where one run has several cells that differ by their seed."""
    found: dict[str, str] = {}
    several: set[str] = set()
    for cells, _ in side:
        names = {row["cell"]: _but_for_its_seed(row) for row in cells.to_dict("records") if row["cell"] not in but}
        several |= {name for name, count in Counter(names.values()).items() if count > 1}
        found |= names
    return {cell: name for cell, name in found.items() if name not in several}


def _but_for_its_seed(row: dict[str, Any]) -> str:
    sections = {name: configured(row["config"], name) for name in CELL_NAMES}
    return json.dumps(
        [[row[name] for name in CELL_NAMES], sections, _protocol(row, seed=False)], sort_keys=True, default=str
    )
