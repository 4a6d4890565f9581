"""The leaderboard of a block: every metric's mean, interval, rank and letters, and holes with the reason."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from harness.results.footnotes import flag_list
from harness.results.leaderboard import COUNTS
from harness.results.matrices import Matrix
from harness.results.numbers import count, significant
from harness.results.pairs import best_of, letters, not_worse
from harness.results.report.blocks import Block

HOLES = {"not_applicable": "n/a", "failed": "failed"}


@dataclass(frozen=True)
class Entry:
    """What a place of the leaderboard shows.

    text      the mean, or the word for a hole
    interval  ``[low, high]`` or ""
    rank      ``1``, ``–`` where the cells cannot be ranked, "" where the metric has no direction
    letters   explainers that share one are not shown to differ
    standing  ``best``, ``near`` (not shown to be worse than the best) or ""
    value     to sort by; None for a hole
    hole      whether there is no number
    note      why, and what else to know
    """

    text: str
    interval: str = ""
    rank: str = ""
    letters: str = ""
    standing: str = ""
    value: float | None = None
    hole: bool = False
    note: str = ""


def entries(block: Block) -> dict[tuple[str, str], Entry]:
    """All places by (metric, explainer)."""
    found = {}
    for metric in block.metrics:
        comparable = _comparable(block, metric)
        matrix = block.matrices.get(metric) if comparable else None
        marks, near, best = _marks(matrix, block.controls)
        for name in block.explainers:
            found[metric, name] = _entry(block, metric, name, marks, near, best)
    return found


def _comparable(block: Block, metric: str) -> bool:
    """Whether the metric ranks explainers: costs are ranked by their means but not tested, samples share a call."""
    cells = block.cells[(block.cells["metric"] == metric) & (block.cells["status"] == "ok")]
    return bool(block.better(metric)) and (cells["kind"] != "cost").all() and (cells["unranked"] == "").all()


def _marks(matrix: Matrix | None, controls: frozenset[str]) -> tuple[dict[str, str], set[str], str | None]:
    """Letters, those not shown to be worse than the best, and the best."""
    if matrix is None or matrix.values.shape[1] < 2 or len(matrix.complete) < 2:
        return {}, set(), None
    best = best_of(matrix.signed, [n for n in matrix.signed if n not in controls] or list(matrix.signed))
    return letters(matrix), not_worse(matrix, best), best


def _entry(block: Block, metric: str, name: str, marks: dict[str, str], near: set[str], best: str | None) -> Entry:
    row = block.cell(metric, name)
    if row is None:
        return Entry("·", hole=True, note="not measured in this run")
    if row["status"] != "ok":
        return Entry(
            HOLES.get(row["status"], str(row["status"])), hole=True, note=str(row["error"] or "no reason given")
        )
    notes = _notes(row)
    if not np.isfinite(row["value"]):
        return Entry("undefined", hole=True, note="\n".join(notes) or "no sample has a valid score")
    shown = count if metric in COUNTS else significant
    standing = "best" if name == best else "near" if name in near else ""
    return Entry(
        shown(row["value"]),
        _interval(row, shown),
        _rank(block, metric, row),
        marks.get(name, ""),
        standing,
        float(row["value"]),
        note="\n".join(notes),
    )


def _interval(row: dict, shown) -> str:
    there = np.isfinite(row["ci_low"]) and row["metric"] not in COUNTS
    same = row["kind"] == "cost" and row["ci_low"] == row["ci_high"]
    return f"[{shown(row['ci_low'])}, {shown(row['ci_high'])}]" if there and not same else ""


def _rank(block: Block, metric: str, row: dict) -> str:
    if not block.better(metric) or row["caveat"]:
        return ""
    return "–" if pd.isna(row["rank"]) else f"{row['rank']:.0f}"


def _notes(row: dict) -> list[str]:
    total = int(row["n"] + row["n_invalid"])
    notes = [f"{int(row['n_invalid'])} of {total} samples without a valid score"] if row["n_invalid"] else []
    notes += [str(row["error"])] if row["n_invalid"] and row["error"] else []
    notes += [f"flag: {flag}" for flag in flag_list(row["flags"])]
    return notes + ([f"no rank: {row['unranked']}"] if row["unranked"] else [])


@cache
def marks_explained() -> str:
    """What the marks of the leaderboard mean, in a paragraph."""
    return (
        "Mean over samples with its 95 % interval (BCa bootstrap), rank after #. Bold: the best explainer that is no "
        "control; underlined: not shown to be worse than it (paired tests, Holm at 5 %). Explainers that share a "
        "letter are not shown to differ. * has a note. A rank of – means that the cells cannot be compared, for "
        "instance because their numbers of valid samples differ; costs are ranked but not tested."
    )
