"""How cells moved over nights: the levels of each cell's mean from run to run, and whether the last step is a loss."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.results.frames import read_cells
from harness.results.steps import Level, levels
from harness.results.store import Store

ABOUT = ("cell", "model", "dataset", "explainer", "metric", "kind", "unit", "better")
FLOORS = {"cost": 0.10}
FLOOR = 0.01


def trend(runs: Sequence[str | Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per cell, and the values themselves (cells x runs, in the order of their last row).

    ``nights`` with a value, ``first`` and ``last`` level, ``steps`` as text, ``since`` the run of the last step, its
    ``change`` relative to the level before, ``verdict``: ``stable``, ``better`` or ``worse`` than the best level before
    (``moved`` without a direction), ``few`` below four nights. A cell whose metric or data code changed starts anew:
    only nights with the last one's stick count.
    """
    if len(runs) < 2:
        raise UserError(f"a trend needs at least two runs, {len(runs)} came")
    ordered = sorted(map(Path, runs), key=lambda run: Store(run).last_written())
    frames = {run.name: read_cells(run).set_index("cell", drop=False) for run in ordered}
    if len(frames) < len(ordered):
        raise UserError("two of the runs have the same name; rename a folder")
    cells = pd.concat(frames.values()).drop_duplicates("cell", keep="last")
    values = pd.DataFrame({name: _values(frame, cells) for name, frame in frames.items()}, index=cells["cell"])
    rows = [_row(cell, values.loc[cell["cell"]]) for cell in cells.to_dict("records")]
    return pd.DataFrame(rows), values


def _values(frame: pd.DataFrame, last: pd.DataFrame) -> list[float]:
    """One run's means of the cells, NaN where there is none or it is another measure's."""
    sticks, values, status = (frame[name].to_dict() for name in ("stick", "value", "status"))
    same = lambda cell, stick: status.get(cell) == "ok" and sticks.get(cell) == stick
    pairs = zip(last["cell"], last["stick"], strict=True)
    return [float(values[cell]) if same(cell, stick) else np.nan for cell, stick in pairs]


def _row(cell: dict, nights: pd.Series) -> dict:
    found = levels(nights.to_numpy())
    change = _relative(found[-2], found[-1]) if len(found) > 1 else 0.0
    return {
        **{name: cell[name] for name in ABOUT},
        "nights": int(nights.notna().sum()),
        "first": found[0].value if found else np.nan,
        "last": found[-1].value if found else np.nan,
        "steps": " → ".join(f"{level.value:.4g} ({nights.index[level.start]})" for level in found),
        "since": nights.index[found[-1].start] if len(found) > 1 else "",
        "change": change,
        "verdict": _verdict(cell, found, int(nights.notna().sum())),
    }


def _relative(before: Level, after: Level) -> float:
    return (after.value - before.value) / abs(before.value) if before.value else float(np.sign(after.value) * np.inf)


def _verdict(cell: dict, found: list[Level], nights: int) -> str:
    """What the last level is to the best one before it, which a slow slide cannot hide from."""
    if nights < 4:
        return "few"
    if len(found) < 2:
        return "stable"
    if cell["better"] not in ("higher", "lower"):
        return "moved"
    sign = 1 if cell["better"] == "higher" else -1
    best = max((level.value for level in found[:-1]), key=lambda value: sign * value)
    gain, floor = sign * (found[-1].value - best), FLOORS.get(cell["kind"], FLOOR) * abs(best)
    return "better" if gain > floor else "worse" if gain < -floor else "stable"
