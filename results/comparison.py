"""Compares baseline runs with new runs, cell by cell: better, worse, or moved (it changed, but neither is shown).

Quality is compared sample by sample, after what the controls changed by is taken off: all cells of a block and the
block as a whole are one family (``harness.results.quality_changes``). Costs are compared run by run, on one device
only, after the drift of the machine is divided out (``harness.results.cost_changes``). The chance of any false
``better`` or ``worse`` is below 5 % among all scores, and below 5 % among all costs. A change below a minimum size is
no change, even if it is significant. Measured error rates are in docs/comparing.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.results.comparison_costs import judged_costs
from harness.results.comparison_quality import QUALITY_FLOOR, judged_quality
from harness.results.comparison_sides import Pair, paired_cells, status_of_side
from harness.results.environments import environment_differences
from harness.results.level import ALPHA
from harness.results.other_options import notes_of_lone_cells

VERDICTS = ("broken", "worse", "better", "fixed", "moved", "missing", "not comparable", "new", "same")
UNPAIRED = ("missing", "not comparable", "new")  # cells that are not compared
ABOUT = ("cell", "model", "dataset", "explainer", "metric", "kind", "unit", "better")
CHANGE = ("before", "after", "change", "share", "low", "high", "p", "n")
BLOCKS = ("model", "dataset", "cells", "change", "low", "high", "p", "n", "verdict")
CODE_CHANGED = "the measuring code (the metric, the data or what computes scores) has changed"
UNKNOWN = {**dict.fromkeys(CHANGE, np.nan), "note": "", "judged": "", "sure": False, "control": False, "lost": False}


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison of two sides.

    cells         a row per cell: model dataset explainer metric kind unit better, ``before`` (baseline) and ``after``
                  (new), which are means over the samples that both have, or medians of costs, ``change`` less what the
                  controls or the machine changed by, the same as a ``share`` of the level, positive where it is better,
                  its 95 % interval ``low high`` (quality only), ``p`` corrected over all cells, ``n`` samples or, for
                  costs, runs on the smaller side, ``control`` (quality only), verdict, note. Verdicts are in the order
                  of VERDICTS, and the largest shares of each come first
    blocks        a row per block of several cells: the mean ``change`` of all its scores as a share of their level,
                  positive where they got better, with its interval, ``p``, ``n`` samples, verdict
    environment   what differs in the environments of the two sides: name -> (before, after)
    drift         the change of a block's measured costs that was divided out, by cost metric and block
    runs          how many runs each side has
    """

    cells: pd.DataFrame
    blocks: pd.DataFrame
    environment: dict[str, tuple[Any, Any]]
    drift: dict[str, float]
    runs: tuple[int, int]

    @property
    def compared(self) -> int:
        """How many cells both sides have under the same measurement."""
        return int((~self.cells["verdict"].isin(UNPAIRED)).sum())

    @property
    def of_other_code(self) -> int:
        """How many cells both sides have, with another version of the measuring code."""
        return int((self.cells["note"] == CODE_CHANGED).sum())

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each verdict, in the order of VERDICTS."""
        found = self.cells["verdict"].value_counts()
        return {verdict: int(found.get(verdict, 0)) for verdict in VERDICTS}

    def has(self, verdict: str) -> bool:
        """Whether a cell, or a block as a whole, has a verdict."""
        return verdict in {*self.cells["verdict"], *self.blocks["verdict"]}


def compare_runs(base: str | Path | Sequence[str | Path], new: str | Path | Sequence[str | Path]) -> Comparison:
    """Compare run directories, one or several on each side, cell by cell.

    Cells are the same if their whole configuration is, except for the seed. Of several runs on a side, scores are
    averaged by sample, and costs are compared run by run.
    """
    base, new = _as_paths(base), _as_paths(new)
    pairs = paired_cells(base, new)
    rows = {pair.cell: {name: pair.row[name] for name in ABOUT} | UNKNOWN | _by_their_status(pair) for pair in pairs}
    scored = [pair for pair in pairs if not rows[pair.cell]["verdict"]]
    quality, blocks = judged_quality([pair for pair in scored if pair.row["kind"] != "cost"])
    costs, drift = judged_costs([pair for pair in scored if pair.row["kind"] == "cost"], (len(base), len(new)))
    for cell, found in (quality | costs).items():
        rows[cell] |= found
    for cell, options in notes_of_lone_cells(pairs).items():
        rows[cell]["note"] = "; ".join(filter(None, (rows[cell]["note"], options)))
    cells = [row | {"verdict": row["verdict"] or _verdict(row)} for row in rows.values()]
    environment = environment_differences(base[-1], new[-1])
    return Comparison(_cells_table(cells), _blocks_table(blocks), environment, drift, (len(base), len(new)))


def _as_paths(runs: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]


def _by_their_status(pair: Pair) -> dict[str, str]:
    """The verdict on a pair that cannot be compared by its scores, and a note; "" for one that can."""
    if not pair.old or not pair.new:
        there = status_of_side(pair.new or pair.old)
        note = "" if there["status"] == "ok" else _status_and_reason(there)
        return {"verdict": "missing" if pair.old else "new", "note": note}
    old, new = status_of_side(pair.old), status_of_side(pair.new)
    verdict, note = _by_status(old, new)
    if verdict:
        return {"verdict": verdict, "note": note}
    why = _incomparable(pair)
    values = {"before": old["value"], "after": new["value"]} if why else {}
    return {"verdict": "not comparable" if why else "", "note": why, **values}


def _by_status(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict if a side lacks scores, and a note; "" if both have scores.

    An explainer that could not serve and now fails is broken, one that failed and now says why it cannot serve is not.
    """
    if old["status"] == new["status"]:
        return ("", "") if new["status"] == "ok" else ("same", _status_and_reason(new))
    if new["status"] == "ok":
        return "fixed", f"was {_status_and_reason(old)}"
    if old["status"] == "ok" or new["status"] == "failed":
        return "broken", _status_and_reason(new)
    return "moved", f"{_status_and_reason(new)}; was {_status_and_reason(old)}"


def _status_and_reason(row: Mapping[str, Any]) -> str:
    return f"{str(row['status']).replace('_', ' ')}: {row['error'] or 'no reason given'}"


def _incomparable(pair: Pair) -> str:
    rows = [row for row, _ in (*pair.old, *pair.new)]
    if len({row["stick"] for row in rows}) > 1:
        return CODE_CHANGED
    devices = list(dict.fromkeys(row["device"] for row in rows))
    if pair.row["kind"] == "cost" and len(devices) > 1:
        return f"measured on {' and on '.join(map(str, devices))}"
    return ""


def _verdict(row: Mapping[str, Any]) -> str:
    if row["judged"] != "large":
        return "moved" if row["lost"] else "same"
    if row["control"] or row["better"] not in ("higher", "lower") or not (row["sure"] or row["p"] <= ALPHA):
        return "moved"
    return "better" if (row["change"] > 0) == (row["better"] == "higher") else "worse"


def _cells_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    cells = pd.DataFrame(rows, columns=[*ABOUT, *CHANGE, "control", "verdict", "note"])
    order = pd.DataFrame({"verdict": cells["verdict"].map(VERDICTS.index), "size": -cells["share"].abs()})
    return cells.loc[order.sort_values(["verdict", "size"], kind="stable").index]


def _blocks_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(BLOCKS))
    shown = (frame["p"] <= ALPHA) & (frame["change"].abs() > QUALITY_FLOOR)
    return frame.assign(verdict=np.where(~shown, "same", np.where(frame["change"] > 0, "better", "worse")))
