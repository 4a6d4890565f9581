"""One entry of a leaderboard, for one explainer and one metric, as text that every renderer uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.results.footnotes import WORDS, flag_list
from harness.results.numbers import count, significant

COUNTED = ("forward_passes", "backward_passes")  # written in full, without an interval
NOT_MEASURED, UNDEFINED, NO_RANK = "·", "undefined", "–"
NO_COST = "not measured"  # in the place of a cost, where a sign or an empty place could be taken for little


@dataclass(frozen=True)
class Place:
    """What every table shows for one explainer and one metric.

    text       the mean over the samples, or a word such as ``n/a`` if there is no number
    low, high  the ends of its 95 % interval; "" if it has none
    rank       ``#1``; ``–`` if the cells cannot be ranked; "" if the metric has no direction, or for a library's
               implementation with a caveat
    letters    explainers that share one are not shown to differ; "" if nothing could be tested
    standing   ``best``: the best rank among the explainers that are no controls; ``near``: not shown to be worse
               than the best; else ""
    value      the mean as a number, to sort by; None if there is none
    hole       why there is no number; "" if there is one
    remarks    notes on the number: samples without a score, flags
    unranked   why the cells of this metric have no rank, or ""
    """

    text: str
    low: str = ""
    high: str = ""
    rank: str = ""
    letters: str = ""
    standing: str = ""
    value: float | None = None
    hole: str = ""
    remarks: tuple[str, ...] = ()
    unranked: str = ""

    @property
    def interval(self) -> str:
        """``[low, high]``, or ""."""
        return f"[{self.low}, {self.high}]" if self.low else ""

    @property
    def star(self) -> str:
        """``*`` if there are remarks, else ""."""
        return "*" if self.remarks else ""

    @property
    def note(self) -> str:
        """All notes on this place, one per line."""
        unranked = [f"no rank: {self.unranked}"] if self.unranked else []
        hole = [self.hole] if self.hole and not self.remarks else []
        return "\n".join([*hole, *self.remarks, *unranked])


def place_of_cell(
    row: Mapping[str, Any] | None, *, kind: str = "", rank: str = "", letters: str = "", standing: str = ""
) -> Place:
    """The place of a cell's row, or of no cell of a metric of this ``kind``; ``rank``, ``letters`` and ``standing``
    follow from the other cells."""
    if row is None:
        return Place(NO_COST if kind == "cost" else NOT_MEASURED, hole="not measured in this run")
    if row["status"] != "ok":
        return Place(WORDS.get(row["status"], str(row["status"])), hole=str(row["error"] or "no reason given"))
    remarks, unranked = _remarks(row), row["unranked"]
    if row["kind"] == "cost" and not np.isfinite(row["value"]):
        return Place(NO_COST, hole=why_no_cost(row), remarks=(why_no_cost(row),), unranked=unranked)
    if not np.isfinite(row["value"]):
        return Place(UNDEFINED, hole="no sample has a valid score", remarks=remarks, unranked=unranked)
    written = count if row["metric"] in COUNTED else significant
    low, high = (written(row["ci_low"]), written(row["ci_high"])) if _has_interval(row) else ("", "")
    return Place(written(row["value"]), low, high, rank, letters, standing, float(row["value"]), "", remarks, unranked)


def why_no_cost(row: Mapping[str, Any]) -> str:
    """Why the cell of a cost has no number, such as a device that was shared."""
    return f"{NO_COST}: {row['error'] or 'no reason given'}"


def _has_interval(row: Mapping[str, Any]) -> bool:
    """Whether an interval is shown: not for counts, and not for costs that are the same for all samples."""
    same = row["kind"] == "cost" and row["ci_low"] == row["ci_high"]
    return bool(np.isfinite(row["ci_low"])) and row["metric"] not in COUNTED and not same


def _remarks(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on a cell's number: how many samples have no score and why, and its flags."""
    lacking = []
    if row["n_invalid"]:
        total = "?" if pd.isna(row["n"]) else int(row["n"] + row["n_invalid"])
        lacking = [f"{int(row['n_invalid'])} of {total} samples without a valid score"]
        lacking += [str(row["error"])] if row["error"] else []
    return (*lacking, *(f"flag: {flag}" for flag in flag_list(row["flags"])))
