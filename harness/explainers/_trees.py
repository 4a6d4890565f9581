"""Decision trees as rules: the conditions that lead to each leaf."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Condition:
    """A column's value is at most the threshold, or above it."""

    column: int
    above: bool
    threshold: float


def leaves(tree: Any) -> list[tuple[tuple[Condition, ...], np.ndarray]]:
    """Each leaf of a fitted scikit-learn tree: the conditions that lead to it, and its value (K,)."""
    nodes, leaves_with_conditions = tree.tree_, []

    def visit(node: int, conditions: tuple[Condition, ...]) -> None:
        if nodes.children_left[node] < 0:
            leaves_with_conditions.append((_tightest(conditions), nodes.value[node].reshape(-1)))
            return
        column, threshold = int(nodes.feature[node]), float(nodes.threshold[node])
        visit(nodes.children_left[node], (*conditions, Condition(column, False, threshold)))
        visit(nodes.children_right[node], (*conditions, Condition(column, True, threshold)))

    visit(0, ())
    return leaves_with_conditions


def satisfied(conditions: tuple[Condition, ...], x: np.ndarray) -> np.ndarray:
    """Which rows of ``x`` (R, D) float32 meet all conditions, (R,) bool; as scikit-learn's trees decide."""
    met = np.ones(len(x), dtype=bool)
    for each in conditions:
        # The threshold is float64: rounded to float32 it could be equal to a value beside it.
        met &= (x[:, each.column].astype(np.float64) <= each.threshold) != each.above
    return met


def in_words(conditions: tuple[Condition, ...], names: tuple[str, ...], units: np.ndarray) -> str:
    """Conditions as ``if age > 40 and dose <= 1.5``; ``otherwise`` where there are none.

    The thresholds are in ``units`` (D,) of the columns.
    """
    threshold = lambda each: f"{each.threshold * units[each.column]:.4g}"
    parts = [f"{names[each.column]} {'>' if each.above else '<='} {threshold(each)}" for each in conditions]
    return f"if {' and '.join(parts)}" if parts else "otherwise"


def _tightest(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions without those that follow from a deeper one, on the same side of the same column."""
    return tuple({(each.column, each.above): each for each in conditions}.values())
