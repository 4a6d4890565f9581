"""How cells changed over many runs: the levels of each cell's mean, and whether the last step is a loss."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.results.comparison import ABOUT, FLOORS
from harness.results.frames import read_cells
from harness.results.steps import Level, levels
from harness.results.store import Store


def trend(runs: Sequence[str | Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per cell, and the values themselves (cells x runs, in the order of their last row).

    ``runs`` with a value, ``first`` and ``last`` level, ``steps`` as text, ``since`` the run of the last step, its
    ``change`` relative to the level before, ``verdict``: ``stable``, ``better`` or ``worse`` than the best level before
    (``moved`` without a direction), ``few`` below four runs. Runs with another
    code version of the measurement (``stick``) than the last run do not count.
    """
    if len(runs) < 2:
        raise UserError(f"a trend needs at least two runs, {len(runs)} came")
    ordered = sorted(map(Path, runs), key=lambda run: Store(run).last_written())
    frames = {run.name: read_cells(run).set_index("cell", drop=False) for run in ordered}
    if len(frames) < len(ordered):
        raise UserError("two of the runs have the same name; rename a folder")
    cells = pd.concat(frames.values()).drop_duplicates("cell", keep="last")
    values = pd.DataFrame({name: _values_of_run(frame, cells) for name, frame in frames.items()}, index=cells["cell"])
    rows = [_trend_row(cell, values.loc[cell["cell"]]) for cell in cells.to_dict("records")]
    return pd.DataFrame(rows), values


def _values_of_run(frame: pd.DataFrame, last: pd.DataFrame) -> list[float]:
    """One run's means of the cells, NaN where there is none or the measurement had another code version."""
    sticks, values, status = (frame[name].to_dict() for name in ("stick", "value", "status"))
    same = lambda cell, stick: status.get(cell) == "ok" and sticks.get(cell) == stick
    pairs = zip(last["cell"], last["stick"], strict=True)
    return [float(values[cell]) if same(cell, stick) else np.nan for cell, stick in pairs]


def _trend_row(cell: dict, means: pd.Series) -> dict:
    found = levels(means.to_numpy())
    change = _relative_change(found[-2], found[-1]) if len(found) > 1 else 0.0
    return {
        **{name: cell[name] for name in ABOUT},
        "runs": int(means.notna().sum()),
        "first": found[0].value if found else np.nan,
        "last": found[-1].value if found else np.nan,
        "steps": " → ".join(f"{level.value:.4g} ({means.index[level.start]})" for level in found),
        "since": means.index[found[-1].start] if len(found) > 1 else "",
        "change": change,
        "verdict": _trend_verdict(cell, found, int(means.notna().sum())),
    }


def _relative_change(before: Level, after: Level) -> float:
    return (after.value - before.value) / abs(before.value) if before.value else float(np.sign(after.value) * np.inf)


def _trend_verdict(cell: dict, found: list[Level], runs: int) -> str:
    """The last level against the best one before it, so that a slow decline in small steps counts as a loss."""
    if runs < 4:
        return "few"
    if len(found) < 2:
        return "stable"
    if cell["better"] not in ("higher", "lower"):
        return "moved"
    sign = 1 if cell["better"] == "higher" else -1
    best = max((level.value for level in found[:-1]), key=lambda value: sign * value)
    gain, floor = sign * (found[-1].value - best), FLOORS["cost" if cell["kind"] == "cost" else "quality"] * abs(best)
    return "better" if gain > floor else "worse" if gain < -floor else "stable"
