"""Compares a baseline run with a new run, cell by cell: better, worse, or moved (a metric without a direction).

Quality is compared sample by sample (sign-flip test of the paired differences). Costs are compared by ranks of the
explain calls (Mann-Whitney), on one device only. Between two runs a machine's speed drifts more than within one run,
which a test of the calls cannot detect. So the cost of an explainer must also have changed more than the costs of the
others. Holm's correction over all compared cells keeps the chance of any false alarm in a whole comparison below 5 %. A
change below a minimum size (``FLOORS``) is no change, even if it is significant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from harness.results.environments import environment_differences
from harness.results.frames import configured, read
from harness.results.pairs import ALPHA, MOST_ENUMERATED, flip_test, holm
from harness.results.present_names import with_present_cells
from harness.results.statistics import interval

VERDICTS = ("broken", "worse", "moved", "missing", "not comparable", "fixed", "better", "new", "same")
FLOORS = {"quality": 0.01, "cost": 0.10}
# Changes of cost below these are noise, however large their share.
LEAST_COST = {"seconds_per_sample": 5e-4, "setup_seconds": 5e-3, "peak_memory_mb": 8.0}
MOST_LOST = 0.1  # of the samples' scores, above which a cell counts as broken
EXACT = 1e-9  # relative differences below it are rounding
LEAST_CELLS = 5  # cells of one cost metric that are needed to measure the drift between the two runs
STANDS_OUT = 3.0  # robust standard deviations of the drift
RADEMACHER = 1 / (4 * stats.norm.sf(2**0.5))  # 3.18, the least constant that serves all sums of signed numbers
CHANGE = ("before", "after", "change", "low", "high", "p", "n")


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison of two runs.

    cells         a row per cell: model dataset explainer metric kind unit better, ``before`` (baseline run) and
                  ``after`` (new run), which are means over the samples that both have, or medians of costs, ``change``
                  with its 95 % interval ``low high``, ``p_holm``, ``n``, verdict, note
    environment   what differs in the environments of the two runs: name -> (before, after)
    drift         median ratio after / before of a block's measured costs, by cost metric and block
    """

    cells: pd.DataFrame
    environment: dict[str, tuple[Any, Any]]
    drift: dict[str, float]

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each verdict, in the order of VERDICTS."""
        found = self.cells["verdict"].value_counts()
        return {verdict: int(found.get(verdict, 0)) for verdict in VERDICTS}


def compare_runs(base: str | Path, new: str | Path) -> Comparison:
    """Compare two run directories cell by cell; cells are the same if their whole configuration is."""
    (old_cells, old_scores), (new_cells, new_scores) = read(base), read(new)
    if set(old_cells["cell"]) != set(new_cells["cell"]):  # options may have been renamed between the runs
        old_cells, old_scores = with_present_cells(old_cells, old_scores)
        new_cells, new_scores = with_present_cells(new_cells, new_scores)
    before, after = (cells.set_index("cell", drop=False) for cells in (old_cells, new_cells))
    samples = [dict(tuple(scores.groupby("cell", observed=True))) for scores in (old_scores, new_scores)]
    names = list(dict.fromkeys([*before.index, *after.index]))
    rows = [
        _compared_row(
            name, _row_of_cell(before, name), _row_of_cell(after, name), *(each.get(name) for each in samples)
        )
        for name in names
    ]
    cells = pd.DataFrame(rows, columns=[*ABOUT, *CHANGE, "verdict", "note", "judged", "measured"])
    cells, drift = _against_drift(cells)
    return Comparison(_with_verdicts(cells), environment_differences(base, new), drift)


ABOUT = ("cell", "model", "dataset", "explainer", "metric", "kind", "unit", "better")


def _row_of_cell(cells: pd.DataFrame, name: str) -> pd.Series | None:
    return cells.loc[name] if name in cells.index else None


def _compared_row(
    name: str,
    old: pd.Series | None,
    new: pd.Series | None,
    old_scores: pd.DataFrame | None,
    new_scores: pd.DataFrame | None,
) -> dict[str, Any]:
    about = {column: (new if new is not None else old)[column] for column in ABOUT}
    row = {**about, **dict.fromkeys(CHANGE, np.nan), "note": "", "judged": "", "measured": False}
    verdict, note = _by_status(old, new)
    if verdict:
        return {**row, "verdict": verdict, "note": note}
    cost = about["kind"] == "cost"
    why = _incomparable(old, new, cost)
    if why:
        return {**row, "before": old["value"], "after": new["value"], "verdict": "not comparable", "note": why}
    found = _cost_change(old, old_scores, new_scores) if cost else _quality_change(old_scores, new_scores)
    lost = "" if cost else _by_scores(old_scores, new_scores)
    if lost:
        return {**row, **found, "p": np.nan, "verdict": lost}
    return {**row, **found, "verdict": "not comparable" if not found["n"] else ""}


def _by_status(old: pd.Series | None, new: pd.Series | None) -> tuple[str, str]:
    """The verdict if a run lacks the cell or its scores, and a note; "" if both have scores."""
    if old is None or new is None:
        there = new if old is None else old
        return ("new" if old is None else "missing"), "" if there["status"] == "ok" else _status_and_reason(there)
    if old["status"] == "ok" and new["status"] == "ok":
        return "", ""
    if new["status"] == "ok":
        return "fixed", f"was {_status_and_reason(old)}"
    return ("broken" if old["status"] == "ok" else "same"), _status_and_reason(new)


def _by_scores(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """The verdict on a cell that is ok in both runs if more than a tenth of its samples lost or gained a score."""
    before, after = (int(np.isfinite(each["value"]).sum()) for each in (old, new))
    if after < (1 - MOST_LOST) * before:
        return "broken"
    return "fixed" if before < (1 - MOST_LOST) * after else ""


def _status_and_reason(row: pd.Series) -> str:
    return f"{str(row['status']).replace('_', ' ')}: {row['error'] or 'no reason given'}"


def _incomparable(old: pd.Series, new: pd.Series, cost: bool) -> str:
    if old["stick"] != new["stick"]:
        return "the metric, the data or the code version of the measurement has changed"
    if cost and old["device"] != new["device"]:
        return f"measured on {old['device']} and on {new['device']}"
    return ""


def _paired_values(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The finite values of the samples that both have, columns ``old`` and ``new``."""
    columns = {name: scores.set_index("sample")["value"] for name, scores in (("old", old), ("new", new))}
    together = pd.concat(columns, axis=1, join="inner")
    return together[np.isfinite(together).all(axis=1)]


def _quality_change(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    pairs = _paired_values(old, new)
    if pairs.empty:
        return {"n": 0, "note": _scores_lost(old, new) or "no sample has a score in both"}
    differences = (pairs["new"] - pairs["old"]).to_numpy()
    size = np.abs(pairs.to_numpy()).max()
    differences = np.where(np.abs(differences) <= EXACT * size, 0.0, differences)
    low, high = interval(differences) if len(differences) > 1 else (np.nan, np.nan)
    scale = max(abs(pairs["old"].mean()), pairs["old"].std(ddof=0))
    return {
        "before": pairs["old"].mean(),
        "after": pairs["new"].mean(),
        "change": differences.mean(),
        "low": low,
        "high": high,
        "n": len(pairs),
        "note": _scores_lost(old, new),
        "p": tail_test(differences) if differences.any() else np.nan,
        "judged": _size_of_change(abs(differences.mean()), FLOORS["quality"] * scale, differences.any()),
    }


def _scores_lost(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """A note if the numbers of samples with a score differ."""
    before, after = (int(np.isfinite(each["value"]).sum()) for each in (old, new))
    return f"{before} samples had a score in the baseline run, {after} in the new run" if before != after else ""


def tail_test(differences: np.ndarray) -> float:
    """The flip test of one series; where 10,000 draws cannot tell how small p is, a bound of p from above.

    A sum of given numbers with random signs exceeds t times the root of their sum of squares with a chance of at most
    3.18 times the normal tail, whatever the numbers (Bentkus and Dzindzalieta 2015, Bernoulli 21): never exaggerated.
    """
    p = float(flip_test(differences[:, None])[0])
    if p > 0.002 or len(differences) <= MOST_ENUMERATED:
        return p
    scaled = differences / np.abs(differences).max()
    return float(min(p, 2 * RADEMACHER * stats.norm.sf(abs(scaled.sum()) / np.sqrt((scaled**2).sum()))))


def _cost_change(row: pd.Series, old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    """Costs by call: the samples of one call share its cost, which is one measurement."""
    size = int(configured(row["config"], "protocol").get("explain_batch") or 1)
    before, after = (_only_finite(one_per_call(each["value"].to_numpy(), size)) for each in (old, new))
    if not len(before) or not len(after):
        return {"n": 0, "note": "not measured in both"}
    change = np.median(after) - np.median(before)
    floor = max(FLOORS["cost"] * abs(np.median(before)), LEAST_COST.get(row["metric"], 0.0))
    counted = row["unit"] == "passes" and np.ptp(before) == 0 and np.ptp(after) == 0  # nothing random to test
    once = (
        not counted and np.ptp(before) == 0 and np.ptp(after) == 0
    )  # such as set-up time: one measurement has no spread
    p = 0.0 if counted else 1.0 if once else float(stats.mannwhitneyu(before, after).pvalue)
    return {
        "before": np.median(before),
        "after": np.median(after),
        "change": change,
        "n": min(len(before), len(after)),
        "p": np.nan if change == 0 else p,
        "note": "measured once per run, so not tested" if once and change else "",
        "judged": _size_of_change(abs(change), floor, change != 0),
        "measured": not counted,
    }


def one_per_call(costs: np.ndarray, size: int) -> np.ndarray:
    """One cost for each explain call of samples (n,) in their order, of which a call takes ``size`` at most.

    Samples of one call have the same cost. A block explains its samples in chunks, and calls begin anew with every
    chunk, so that the last call of a chunk may take fewer samples. Hence a call ends where the cost changes or when it
    is full. Neighbouring calls of exactly equal cost may count as one call, never as more calls than there were.
    """
    places = np.arange(len(costs))
    changed = np.zeros(len(costs), dtype=bool)
    changed[1:] = (costs[1:] != costs[:-1]) & ~(np.isnan(costs[1:]) & np.isnan(costs[:-1]))
    run_starts = np.maximum.accumulate(np.where(changed, places, 0)) if len(costs) else places
    return costs[(places - run_starts) % size == 0]


def _only_finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _size_of_change(change: float, floor: float, any_change: bool) -> str:
    if not any_change:
        return "none"
    return "large" if change > floor else "small"


def _against_drift(cells: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measured costs that changed no more than the costs of the other explainers get a note and are not tested."""
    cells, drift = cells.copy(), {}
    measured = cells[cells["measured"].astype(bool) & (cells["before"] > 0) & (cells["after"] > 0)]
    for (model, dataset, metric), group in measured.groupby(["model", "dataset", "metric"]):
        if len(group) < LEAST_CELLS:
            continue
        ratios = np.log(group["after"].astype(float) / group["before"].astype(float))
        middle = ratios.median()
        spread = 1.4826 * (ratios - middle).abs().median()
        hidden = group.index[(ratios - middle).abs() <= max(np.log1p(FLOORS["cost"]), STANDS_OUT * spread)]
        cells.loc[hidden, "p"] = 1.0
        cells.loc[hidden, "note"] = "costs drifted as much between the two runs"
        drift[f"{metric} of {model} on {dataset}"] = float(np.exp(middle))
    return cells, drift


def _with_verdicts(cells: pd.DataFrame) -> pd.DataFrame:
    """The verdicts that follow from p-values, corrected over all cells in which anything changed."""
    cells = cells.assign(p_holm=holm(cells["p"].to_numpy(dtype=np.float64)))
    open_ones = cells["verdict"] == ""
    cells.loc[open_ones, "verdict"] = [_verdict_of_row(row) for row in cells[open_ones].to_dict("records")]
    columns = [*ABOUT, *CHANGE[:-1], "p_holm", "n", "verdict", "note"]
    return cells[columns].sort_values("verdict", key=lambda verdicts: verdicts.map(VERDICTS.index), kind="stable")


def _verdict_of_row(row: Mapping[str, Any]) -> str:
    if row["judged"] != "large":
        return "moved" if row["note"] and row["kind"] != "cost" else "same"  # some samples lost or gained their score
    if not row["p_holm"] < ALPHA or row["better"] not in ("higher", "lower"):
        return "moved"
    return "better" if (row["change"] > 0) == (row["better"] == "higher") else "worse"
