"""How the scores of cells changed between the two sides of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness.results.comparison_sides import Pair, values_of_side
from harness.results.frames import controls_of
from harness.results.quality_changes import LEAST_CHANGED, of_the_controls, of_the_whole, p_of_cells_and_whole
from harness.results.statistics import interval

QUALITY_FLOOR = 0.01  # of the level or the standard deviation of the scores, below which a change is none
EXACT = 1e-9  # relative differences below it are rounding
MOST_LOST = 0.1  # of the samples' scores, above which a cell counts as broken
SIGN = {"higher": 1.0, "lower": -1.0}
OF_A_CONTROL = "a control changes with the data, the metric, the model or the machine only"
OTHER_SEED = "seed "  # begins the note on a cell whose sides have other seeds


@dataclass(frozen=True)
class CellChange:
    """The scores of a cell on both sides.

    values    columns ``old`` and ``new`` by sample, NaN where a side has no score
    control   whether the cell is a control's
    shared    what the controls changed by: a sample's number, 0 without controls; it is taken off the cell's change
    """

    pair: Pair
    values: pd.DataFrame
    control: bool
    shared: pd.Series | float = 0.0

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return self.pair.row["metric"]

    @cached_property
    def common(self) -> pd.DataFrame:
        """The values of the samples that both sides have."""
        return self.values.dropna()

    @property
    def scale(self) -> float:
        """The level or the standard deviation of the scores before, whichever is larger."""
        return max(abs(self.common["old"].mean()), self.common["old"].std(ddof=0))

    @cached_property
    def gross(self) -> pd.Series:
        """New less old of the common samples; rounding is no change."""
        differences = self.common["new"] - self.common["old"]
        return differences.where(differences.abs() > EXACT * self.common.abs().to_numpy().max(initial=0.0), 0.0)

    @cached_property
    def net(self) -> pd.Series:
        """``gross`` less what the controls changed by."""
        return self.gross.sub(self.shared).dropna()

    @property
    def scored(self) -> tuple[int, int]:
        """How many samples have a score on each side."""
        return int(self.values["old"].notna().sum()), int(self.values["new"].notna().sum())

    @property
    def sign(self) -> float:
        """1 if higher is better, -1 if lower is, 0 without a direction."""
        return SIGN.get(self.pair.row["better"], 0.0)

    @property
    def has_other_seed(self) -> bool:
        """Whether the sides have other seeds."""
        old, new = self.pair.seeds
        return old != new

    @property
    def has_verdict(self) -> bool:
        """Whether the cell can become better or worse."""
        return bool(self.sign) and not self.control and len(self.net) > 0


def judged_quality(pairs: Sequence[Pair]) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Cell -> what is found of it, and a row per block of several cells as a whole.

    p-values are corrected over all cells and blocks: within a block, and times the number of blocks in which a cell or
    the whole could be tested.
    """
    blocks: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        blocks.setdefault(pair.block, []).append(pair)
    judged = [_judged_block(_against_controls(block)) for block in blocks.values()]
    tested = sum(any(np.isfinite(row["p"]) for row in (*cells.values(), *whole)) for cells, whole in judged)
    rows = [row for cells, whole in judged for row in (*cells.values(), *whole)]
    for row in rows:
        row["p"] = float(np.minimum(1, row["p"] * tested))
    return {cell: found for cells, _ in judged for cell, found in cells.items()}, [r for _, w in judged for r in w]


def _against_controls(pairs: list[Pair]) -> list[CellChange]:
    """The changes of the cells of a block; those of no control are held against the controls' change.

    Controls that were drawn with another seed are no yardstick: their change is that of their draws.
    """
    rows = pd.DataFrame([{name: pair.row[name] for name in ("explainer", "config")} for pair in pairs])
    names = controls_of(rows)
    changes = [CellChange(pair, _scores_of_both(pair), pair.row["explainer"] in names) for pair in pairs]
    shared = {}
    yardsticks = [change for change in changes if change.control and not change.has_other_seed]
    for metric in {change.metric for change in yardsticks}:
        each = pd.concat([c.gross for c in yardsticks if c.metric == metric], axis=1)
        if np.any(each):
            shared[metric] = pd.Series(of_the_controls(each.to_numpy().T), each.index)
    return [c if c.control else replace(c, shared=shared.get(c.metric, 0.0)) for c in changes]


def _scores_of_both(pair: Pair) -> pd.DataFrame:
    return pd.concat({"old": values_of_side(pair.old), "new": values_of_side(pair.new)}, axis=1)


def _judged_block(changes: list[CellChange]) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    tested = [change for change in changes if change.has_verdict]
    p, whole = _tested(tested)
    return {
        c.pair.cell: {**_found_change(c), "p": p.get(c.pair.cell, np.nan), "note": _change_note(c, p)} for c in changes
    }, whole


def _tested(changes: list[CellChange]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Cell -> p-value of those that can be tested, and a row of the block as a whole if it has several cells."""
    if not changes:
        return {}, []
    net = pd.concat([change.net * change.sign for change in changes], axis=1).to_numpy()
    scales = np.array([change.scale or np.nan for change in changes])
    together = of_the_whole(net, scales)
    p, whole = p_of_cells_and_whole(net, together)
    known = {c.pair.cell: float(each) for c, each in zip(changes, p, strict=True) if np.isfinite(each)}
    if len(changes) == 1 or not together.any():
        return known, []
    low, high = interval(together)
    about = dict(zip(("model", "dataset"), changes[0].pair.block, strict=False))
    change = {"change": together.mean(), "low": low, "high": high, "n": len(together), "p": whole}
    return known, [{**about, "cells": len(changes), **change}]


def _found_change(change: CellChange) -> dict[str, Any]:
    before, after = change.scored
    if change.net.empty:
        return {"n": 0, "verdict": _lost_verdict(change)}
    net, mean = change.net.to_numpy(), change.net.mean()
    low, high = interval(net) if len(net) > 1 else (np.nan, np.nan)
    size = "none" if not net.any() else "large" if abs(mean) > QUALITY_FLOOR * change.scale else "small"
    return {
        "before": change.common["old"].mean(),
        "after": change.common["new"].mean(),
        "change": mean,
        "share": change.sign * mean / (change.scale or np.nan) if change.sign else np.nan,
        "low": low,
        "high": high,
        "n": len(net),
        "judged": size,
        "control": change.control,
        "lost": before != after,
        "verdict": _lost_verdict(change),
    }


def _lost_verdict(change: CellChange) -> str:
    """The verdict on a cell that lost or gained the scores of more than a tenth of its samples; "" for another."""
    before, after = change.scored
    if after < (1 - MOST_LOST) * before:
        return "broken"
    if before < (1 - MOST_LOST) * after:
        return "fixed"
    return "" if len(change.common) else "not comparable"


def _change_note(change: CellChange, p: dict[str, float]) -> str:
    before, after = change.scored
    old, new = change.pair.seeds
    notes = {
        f"{before} samples had a score in the baseline run, {after} in the new run": before != after,
        "no sample has a score in both": not len(change.common) and before == after,
        f"{OTHER_SEED}{_joined_seeds(old)} and seed {_joined_seeds(new)}, by the samples that both have": (
            change.has_other_seed
        ),
        OF_A_CONTROL: change.control and bool(change.gross.any()) and not change.has_other_seed,
        "less the change of the controls": not np.isscalar(change.shared),
        f"not tested: fewer than {LEAST_CHANGED} samples changed": (
            change.has_verdict and bool(change.net.any()) and change.pair.cell not in p
        ),
    }
    return "; ".join(note for note, holds in notes.items() if holds)


def _joined_seeds(seeds: list[Any]) -> str:
    return ", ".join(map(str, seeds))
