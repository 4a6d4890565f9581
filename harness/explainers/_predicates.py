"""Predicates of rules: what a sample's columns have in common with some background rows, and rows that meet them.

A column of one number has the predicates ``<= q`` and ``> q`` that the sample meets, for each quartile q of the
background rows. A column of several numbers, a category, has one: the sample's own category. Predicates that every row
meets say nothing and are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from harness.explainers._decisions import BackgroundRows
from harness.randomness import element, uniform

QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Predicate:
    """A number is above ``low`` and at most ``high``; or a column of several numbers is the sample's (number None).

    column  the column, and ``number`` the place of its number in an input
    met     (R,) bool, which background rows meet it
    """

    column: int
    met: np.ndarray
    number: int | None = None
    low: float = -inf
    high: float = inf

    @property
    def side(self) -> tuple[int, bool]:
        """(column, whether it is a lower bound): a rule has at most one predicate for each."""
        return self.column, self.low > -inf


class PredicateSpace:
    """The predicates that background rows allow, and draws of rows under rules."""

    def __init__(self, rows: BackgroundRows) -> None:
        self.rows = rows
        self.values = rows.inputs.double().cpu().numpy()
        self.sorted = np.sort(self.values, 0)
        self.cuts = [np.unique(each) for each in np.quantile(self.values, QUARTILES, axis=0).T]
        self.sorted_inputs = rows.inputs.sort(0).values

    def predicates(self, sample: Tensor) -> list[Predicate]:
        """All predicates that a sample (D,) meets, column by column, except those that every row meets."""
        own, columns, found = sample.double().cpu().numpy(), self.rows.columns, []
        for column in range(len(self.rows.names)):
            numbers = np.flatnonzero(columns == column)
            if len(numbers) > 1:
                found.append(Predicate(column, (self.values[:, numbers] == own[numbers]).all(1)))
                continue
            number = int(numbers[0])
            for cut in self.cuts[number]:
                above = own[number] > cut
                met = (self.values[:, number] > cut) == above
                bounds = {"low": float(cut)} if above else {"high": float(cut)}
                found.append(Predicate(column, met, number, **bounds))
        return [each for each in found if not each.met.all()]

    def draw(self, own: Tensor, rules: Sequence[Sequence[Predicate]]) -> "Draws":
        """Rows to draw under ``rules`` (M) of the samples ``own`` (M, D)."""
        slots = max((len(_intervals(rule)) for rule in rules), default=0)
        table = np.zeros((len(rules), slots, 3))  # number, first and count of the values inside, in order
        bounds = np.full((len(rules), slots, 2), (-inf, inf))
        held = np.zeros(tuple(own.shape), dtype=bool)
        for place, rule in enumerate(rules):
            for slot, (number, (low, high)) in enumerate(_intervals(rule).items()):
                first, last = np.searchsorted(self.sorted[:, number], (low, high), side="right")
                table[place, slot], bounds[place, slot] = (number, first, last - first), (low, high)
            for each in rule:
                if each.number is None:
                    held[place, self.rows.columns == each.column] = True
        on = lambda values: torch.from_numpy(values).to(own.device)
        return Draws(self, own, on(table.astype(np.int64)), on(bounds), on(held))


@dataclass(frozen=True)
class Draws:
    """Rows under M rules: a random background row, whose values that break the rule are replaced by random values of
    the same column that meet it, or by the sample's own where there are none.

    own     (M, D), the samples
    table   (M, S, 3) int64, for each number with bounds: its place, and the first and count of the values inside them
    bounds  (M, S, 2) float64, above the first and at most the second
    held    (M, D) bool, the numbers that are the sample's own
    """

    space: PredicateSpace
    own: Tensor
    table: Tensor
    bounds: Tensor
    held: Tensor

    def rows(self, rule: Tensor, keys: Tensor) -> Tensor:
        """A row (rows, D) under each of the rules ``rule`` (rows,), a function of its key (rows,).

        Under one key, the rows of two rules differ in the columns of these rules alone.
        """
        background, own = self.space.rows.inputs, self.own[rule]
        found = background[(_chance(keys, torch.zeros_like(keys)) * len(background)).long()]
        found = torch.where(self.held[rule], own, found)
        for slot in range(self.table.shape[1]):
            place, first, count = self.table[rule, slot].unbind(1)
            low, high = self.bounds[rule, slot].unbind(1)
            value, mine = (each.gather(1, place[:, None])[:, 0] for each in (found, own))
            inside = (first + (_chance(keys, 1 + place) * count).long()).clamp(max=len(background) - 1)
            other = torch.where(count > 0, self.space.sorted_inputs[inside, place], mine)
            kept = torch.where((value > low) & (value <= high), value, other)
            found = found.scatter(1, place[:, None], kept[:, None])
        return found


def _chance(keys: Tensor, number: Tensor) -> Tensor:
    """Uniform draws in [0, 1) (rows,) float64, the one of this ``number`` (rows,) of each key."""
    return uniform(element(keys, number), dtype=torch.float64)


def rule_in_words(rule: Sequence[Predicate], rows: BackgroundRows, sample: Tensor) -> str:
    """A rule as ``if age > 40 and dose <= 1.5``, in the order of its predicates; ``every row`` where it has none."""
    parts: dict[int, str] = {}
    for each in rule:
        parts[each.column] = "" if each.number is not None else _category_in_words(rows, each, sample)
    for number, bounds in _intervals(rule).items():
        column = rows.columns[number]
        parts[column] = _bounds_in_words(rows.names[column], *bounds)
    return f"if {' and '.join(parts.values())}" if parts else "every row"


def _bounds_in_words(name: str, low: float, high: float) -> str:
    if high == inf:
        return f"{name} > {low:.4g}"
    return f"{name} <= {high:.4g}" if low == -inf else f"{low:.4g} < {name} <= {high:.4g}"


def _category_in_words(rows: BackgroundRows, category: Predicate, sample: Tensor) -> str:
    """A category in words: the one number that is 1 where it is one-hot, else all of its numbers."""
    numbers = np.flatnonzero(rows.columns == category.column)
    values = sample[torch.from_numpy(numbers).to(sample.device)].tolist()
    if sorted(values)[-1] == 1 and sum(map(abs, values)) == 1:
        return f"{rows.number_names[numbers[values.index(1)]]} = 1"
    return f"{rows.names[category.column]} = ({', '.join(f'{value:.4g}' for value in values)})"


def _intervals(rule: Sequence[Predicate]) -> dict[int, tuple[float, float]]:
    """The bounds of each number with some, in the order of the predicates."""
    found: dict[int, tuple[float, float]] = {}
    for each in rule:
        if each.number is not None:
            low, high = found.get(each.number, (-inf, inf))
            found[each.number] = max(low, each.low), min(high, each.high)
    return found
