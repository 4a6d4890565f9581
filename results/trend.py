"""How cells changed over many runs: the levels of each cell's mean, and whether the last step is a loss.

A series whose values repeat bit for bit needs no test: a change is a change. Any other is tested for steps that are
more than wandering, corrected over all cells, after the drift that all costs of a block share is divided out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.errors import UserError, printable
from harness.results.comparison import ABOUT
from harness.results.comparison_costs import COST_FLOOR, LEAST_COST
from harness.results.comparison_quality import QUALITY_FLOOR
from harness.results.cost_changes import without_drift
from harness.results.frames import read_cells
from harness.results.step_test import FEWEST_RUNS, p_of_steps
from harness.results.steps import Level, exact_levels, levels, repeats
from harness.results.store import Store


@dataclass(frozen=True)
class Trend:
    """How cells changed over runs.

    rows      a row per cell (``trend``)
    values    cells x runs, in the order of the runs' last row; NaN where a run has no value that counts
    steady    the same, measured costs without the drift of the machine
    levels    the levels of ``steady``, by cell
    """

    rows: pd.DataFrame
    values: pd.DataFrame
    steady: pd.DataFrame
    levels: dict[str, list[Level]]


def trend(runs: Sequence[str | Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per cell, and the values themselves (cells x runs, in the order of their last row).

    ``runs`` with a value, ``other_code`` how many have one by another version of the measuring code (``stick``) than
    the last run and do not count, ``first`` and ``last`` level, ``best`` level before the last (without a direction,
    the level just before it), ``steps`` as text, ``since`` the run of the last step, its ``change`` relative to the
    level before, ``p`` of the clearest step (NaN without a test), ``verdict``: ``stable``, ``better`` or ``worse`` than
    the best level before (``moved`` without a direction), ``few`` where fewer than eight runs have a value and these
    vary, or only one run has one. Levels of measured costs are without the drift of the machine.
    """
    found = measured_trend(runs)
    return found.rows, found.values


def measured_trend(runs: Sequence[str | Path]) -> Trend:
    """The trend over run directories, with what it is drawn from."""
    if len(runs) < 2:
        raise UserError(f"a trend needs at least two runs, {len(runs)} came")
    ordered = sorted(map(Path, runs), key=lambda run: Store(run).last_written())
    frames = {
        printable(run.name): read_cells(run, without_scores=True).set_index("cell", drop=False) for run in ordered
    }
    if len(frames) < len(ordered):
        raise UserError("two of the runs have the same name; rename a folder")
    cells = pd.concat(frames.values()).drop_duplicates("cell", keep="last")
    values = pd.DataFrame({name: _values_of_run(frame, cells) for name, frame in frames.items()}, index=cells["cell"])
    steady = pd.DataFrame(_without_shared_drift(values.to_numpy(), cells), values.index, values.columns)
    found = steps_of_cells(steady.to_numpy())
    scored = sum(_scored_cells(frame).reindex(cells["cell"], fill_value=0) for frame in frames.values())
    rows = [
        _trend_row(cell, steps, values.loc[cell["cell"]], int(scored[cell["cell"]]))
        for cell, steps in zip(cells.to_dict("records"), found, strict=True)
    ]
    levels_by_cell = {cell: steps.levels for cell, steps in zip(cells["cell"], found, strict=True)}
    return Trend(pd.DataFrame(rows), values, steady, levels_by_cell)


@dataclass(frozen=True)
class CellSteps:
    """The levels of a cell; ``p`` of its clearest step, NaN where nothing was tested; ``few``: too few runs to test."""

    levels: list[Level]
    p: float
    few: bool


def steps_of_cells(values: np.ndarray) -> list[CellSteps]:
    """The levels of every cell's values (cells, runs), NaN where a run has none; tests are corrected over all cells."""
    series = [row[np.isfinite(row)] for row in values]
    exact = [repeats(each) for each in series]
    tested = iter(p_of_steps([each for each, known in zip(series, exact, strict=True) if not known]))
    found = []
    for row, each, known in zip(values, series, exact, strict=True):
        if known:
            found.append(CellSteps(_with_gaps(exact_levels(each), row), float("nan"), False))
            continue
        p = next(tested)
        few = len(each) < FEWEST_RUNS
        least = float("nan") if few else float(p.min())
        found.append(CellSteps(_with_gaps(levels(each, np.nan_to_num(p, nan=1.0)), row), least, few))
    return found


def _with_gaps(found: list[Level], values: np.ndarray) -> list[Level]:
    """Levels of the runs that have a value as levels of all runs."""
    there = np.flatnonzero(np.isfinite(values))
    starts = [int(there[level.start]) for level in found]
    ends = [*starts[1:], len(values)] if found else []
    return [Level(start, end, level.value) for start, end, level in zip(starts, ends, found, strict=True)]


def _without_shared_drift(values: np.ndarray, cells: pd.DataFrame) -> np.ndarray:
    """The values (cells, runs), those of measured costs without the drift that all costs of their block share."""
    values = values.copy()
    measured = (cells["kind"] == "cost") & (cells["unit"] != "passes") & (np.nan_to_num(values, nan=1) > 0).all(1)
    blocks = cells.reset_index(drop=True)[measured.to_numpy()].groupby(["model", "dataset", "metric"])
    for rows in blocks.indices.values():
        places = np.flatnonzero(measured)[rows]
        values[places] = np.exp(without_drift(np.log(values[places]))[0])
    return values


def _values_of_run(frame: pd.DataFrame, last: pd.DataFrame) -> list[float]:
    """One run's means of the cells, NaN where there is none or the measurement had another code version."""
    sticks, values, status = (frame[name].to_dict() for name in ("stick", "value", "status"))
    same = lambda cell, stick: status.get(cell) == "ok" and sticks.get(cell) == stick
    pairs = zip(last["cell"], last["stick"], strict=True)
    return [float(values[cell]) if same(cell, stick) else np.nan for cell, stick in pairs]


def _scored_cells(frame: pd.DataFrame) -> pd.Series:
    """1 for every cell that has a score in a run, 0 for another."""
    return ((frame["status"] == "ok") & frame["value"].notna()).astype(int)


def _trend_row(cell: dict, steps: CellSteps, means: pd.Series, scored: int) -> dict:
    """The row of a cell; ``scored`` runs have a value, by any version of the measuring code."""
    found, there = steps.levels, int(means.notna().sum())
    change = _relative_change(found[-2], found[-1]) if len(found) > 1 else 0.0
    return {
        **{name: cell[name] for name in ABOUT},
        "runs": there,
        "other_code": scored - there,
        "first": found[0].value if found else np.nan,
        "last": found[-1].value if found else np.nan,
        "best": _best_before(cell, found) if len(found) > 1 else np.nan,
        "steps": " → ".join(f"{level.value:.4g} ({means.index[level.start]})" for level in found),
        "since": means.index[found[-1].start] if len(found) > 1 else "",
        "change": change,
        "p": steps.p,
        "verdict": "few" if steps.few else _trend_verdict(cell, found),
    }


def _relative_change(before: Level, after: Level) -> float:
    return (after.value - before.value) / abs(before.value) if before.value else float(np.sign(after.value) * np.inf)


def _best_before(cell: dict, found: list[Level]) -> float:
    """The best level before the last; the one just before it for a metric without a direction."""
    earlier = [level.value for level in found[:-1]]
    return {"higher": max, "lower": min}.get(cell["better"], lambda values: values[-1])(earlier)


def _trend_verdict(cell: dict, found: list[Level]) -> str:
    """The last level against the best one before it, so that a slow decline in small steps counts as a loss."""
    if len(found) < 2:
        return "stable"
    if cell["better"] not in ("higher", "lower"):
        return "moved"
    best = _best_before(cell, found)
    floor = (COST_FLOOR if cell["kind"] == "cost" else QUALITY_FLOOR) * abs(best)
    floor = max(floor, LEAST_COST.get(cell["metric"], 0.0))
    gain = (1 if cell["better"] == "higher" else -1) * (found[-1].value - best)
    return "better" if gain > floor else "worse" if gain < -floor else "stable"
