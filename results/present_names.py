"""Cells of runs from before an option was renamed or added, under the identity that they have today."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.catalogue import CATALOGUES
from harness.identity import cell_id
from harness.results.frames import configured


def with_present_cells(cells: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and scores of a run (``harness.results.frames.read``), with options that were renamed or added since.

    A cell that the run has under both is left alone.
    """
    there = set(cells["cell"])
    rows = zip(cells["cell"], cells["config"], strict=True)
    moved = {cell: new for cell, config in rows if (new := _present_cell(cell, config)) not in (None, *there)}
    if not moved:
        return cells, scores
    # A column of categories has its few categories mapped, not its rows; two former cells may have one present cell.
    scored = scores["cell"].astype("category").map(lambda cell: moved.get(cell, cell)).astype("category")
    return cells.assign(cell=cells["cell"].replace(moved)), scores.assign(cell=scored)


def _present_cell(cell: str, config: Any) -> str | None:
    """The cell of a row's configuration with the present names of all options; None if it has them already.

    Options that were added are filled in where the configuration is whole: its hash is the row's cell.
    """
    sections = {name: configured(config, name) for name in (*CATALOGUES, "protocol")}
    whole = cell_id(sections) == cell
    present = {name: _with_present_names(name, options, whole) for name, options in sections.items()}
    return None if present == sections else cell_id(present)


def _with_present_names(section: str, options: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    name, catalogue = options.get("name"), CATALOGUES.get(section)
    if catalogue is None or name not in catalogue or name in catalogue.bridged():
        return dict(options)
    entry = catalogue[name]
    named = {entry.renamed.get(option, option): value for option, value in options.items()}
    return {**entry.added, **named} if whole else named
