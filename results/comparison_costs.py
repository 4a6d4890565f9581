"""How the costs of cells changed between the two sides of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.results.comparison_sides import Measured, Pair
from harness.results.cost_changes import LEAST_CELLS, net_changes, p_of_costs, without_drift

COST_FLOOR = 0.10  # of the cost, below which a change is none
# Changes of cost below these are none, however large their share: what clocks and allocators resolve.
LEAST_COST = {"seconds_per_sample": 5e-4, "setup_seconds": 5e-3, "peak_memory_mb": 8.0}
MOST_DRIFT = 4.0  # a factor that no machine drifts by between two runs
NOT_TESTED = f"not tested: it needs more runs on each side, or {LEAST_CELLS} explainers in one block"
FAR_BEYOND = f"more than {MOST_DRIFT:g} times the change that a machine's drift explains"


@dataclass(frozen=True)
class CostChange:
    """The cost of a cell on both sides: the median over the samples of each run that has it (runs,)."""

    pair: Pair
    old: np.ndarray
    new: np.ndarray

    @property
    def least(self) -> float:
        """The smallest change that counts."""
        return LEAST_COST.get(self.pair.row["metric"], 0.0)

    @property
    def counted(self) -> bool:
        """Whether nothing is random: a number of passes that is the same in all runs of a side."""
        return self.pair.row["unit"] == "passes" and len(set(self.old)) == len(set(self.new)) == 1

    @property
    def logs(self) -> np.ndarray:
        """Logarithms (runs,), those of baseline runs first; what is below the resolution counts as the resolution."""
        return np.log(np.maximum(np.concatenate([self.old, self.new]), self.least or np.finfo(float).tiny))

    def size(self, change: float) -> str:
        """How large a change is: none, small or large."""
        floor = max(COST_FLOOR * abs(np.median(self.old)), self.least)
        return "none" if change == 0 else "large" if abs(change) > floor else "small"


def judged_costs(pairs: Sequence[Pair], runs: tuple[int, int]) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Cell -> what is found of it, and the drift that was divided out, by cost metric and block.

    runs   how many baseline runs and new runs there are
    """
    changes = [_cost_change(pair) for pair in pairs]
    found = {change.pair.cell: _found_raw(change) for change in changes}
    groups: dict[tuple[str, ...], list[CostChange]] = {}
    for change in changes:
        if _testable(change, runs):
            groups.setdefault((change.pair.row["metric"], *change.pair.block), []).append(change)
    logs, drift = {}, {}
    for (metric, model, dataset, _), group in groups.items():
        logs[id(group)], shared = without_drift(np.stack([change.logs for change in group]))
        if shared.any():
            drift[f"{metric} of {model} on {dataset}"] = float(np.exp(net_changes(shared[None], runs[0])[0]))
    tested = p_of_costs([logs[id(group)] for group in groups.values()], runs[0])
    for group, p in zip(groups.values(), tested, strict=True):
        net = net_changes(logs[id(group)], runs[0])
        for change, one, chance in zip(group, net, p, strict=True):
            found[change.pair.cell] |= _found_net(change, float(one), float(chance), len(group) >= LEAST_CELLS)
    return found, drift


def _testable(change: CostChange, runs: tuple[int, int]) -> bool:
    """Whether a cost was measured in every run and is not below the resolution on both sides."""
    there = (len(change.old), len(change.new)) == runs and not change.counted
    return there and max(np.median(change.old), np.median(change.new)) > change.least


def _found_raw(change: CostChange) -> dict[str, Any]:
    """What is found without a test."""
    if not len(change.old) or not len(change.new):
        return {"n": 0, "p": np.nan, "judged": "", "verdict": "not comparable", "note": "not measured in both"}
    before, after = np.median(change.old), np.median(change.new)
    size = change.size(after - before)
    return {
        "before": before,
        "after": after,
        "change": after - before,
        "share": _share_of_cost(before, after - before),
        "n": min(len(change.old), len(change.new)),
        "p": np.nan,
        "judged": size,
        "sure": change.counted,
        "note": "" if change.counted or size != "large" else NOT_TESTED,
        "verdict": "",
    }


def _found_net(change: CostChange, net: float, p: float, has_yardstick: bool) -> dict[str, Any]:
    """What is found of a cost whose logarithm changed by ``net`` beside the drift."""
    before, tested = np.median(change.old), bool(np.isfinite(p))
    amount = float(before * np.expm1(net))
    beyond = not tested and not has_yardstick and abs(net) > np.log(MOST_DRIFT)
    size = change.size(amount)
    note = "" if tested or size != "large" else FAR_BEYOND if beyond else NOT_TESTED
    found = {"change": amount, "share": _share_of_cost(before, amount)}
    return found | {"judged": size, "p": p, "sure": beyond, "note": note}


def _share_of_cost(before: float, change: float) -> float:
    """A change as a share of the cost before, positive where it is cheaper; NaN where it cost nothing."""
    return float(-change / before) if before > 0 else np.nan


def _cost_change(pair: Pair) -> CostChange:
    old, new = (np.array([cost_of_run(each) for each in side]) for side in (pair.old, pair.new))
    return CostChange(pair, old[np.isfinite(old)], new[np.isfinite(new)])


def cost_of_run(measured: Measured) -> float:
    """The median cost over the samples of a run; NaN where none was measured.

    The samples of one call share its cost, so that a call of many samples counts more than a short last one, which is
    mostly overhead.
    """
    costs = measured[1]["value"].to_numpy()
    costs = costs[np.isfinite(costs)]
    return float(np.median(costs)) if len(costs) else float("nan")
