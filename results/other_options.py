"""Why a cell of one side has no partner on the other: the options in which the other side's cell differs."""

import json
from collections.abc import Sequence
from typing import Any

from harness.errors import printable
from harness.results.comparison_sides import Pair
from harness.results.environments import dotted
from harness.results.frames import CELL_NAMES, configured

MOST_NAMED = 3  # options that a note names


def notes_of_lone_cells(pairs: Sequence[Pair]) -> dict[str, str]:
    """Cell -> the options that differ, ``explainer.steps 50 → 4``, of every cell that only one side has.

    It is held against that cell of the other side which has the same names, no partner either, and the fewest
    differences. A cell for which the other side has none of its names is left out.
    """
    lone: dict[tuple[str, ...], tuple[list[Pair], list[Pair]]] = {}
    for pair in pairs:
        if not (pair.old and pair.new):
            names = tuple(pair.row[name] for name in CELL_NAMES)
            lone.setdefault(names, ([], []))[bool(pair.new)].append(pair)
    return {
        pair.cell: note
        for sides in lone.values()
        for number, side in enumerate(sides)
        for pair in side
        if (note := _nearest_difference(pair, sides[1 - number]))
    }


def _nearest_difference(pair: Pair, others: Sequence[Pair]) -> str:
    own = _options_of(pair)
    found = [_options_that_differ(own, _options_of(other)) for other in others]
    if not found:
        return ""
    nearest = min(found, key=len)
    if pair.new:
        nearest = [(name, after, before) for name, before, after in nearest]
    words = [f"{name} {printable(before)} → {printable(after)}" for name, before, after in nearest[:MOST_NAMED]]
    return ", ".join(words) + (f" and {len(nearest) - MOST_NAMED} more" if len(nearest) > MOST_NAMED else "")


def _options_of(pair: Pair) -> dict[str, str]:
    sections = {name: configured(pair.row["config"], name) for name in (*CELL_NAMES, "protocol")}
    return {name: json.dumps(value, default=str).strip('"') for name, value in dotted(sections).items()}


def _options_that_differ(own: dict[str, str], other: dict[str, str]) -> list[tuple[str, Any, Any]]:
    names = [name for name in {**own, **other} if own.get(name) != other.get(name)]
    return [(name, own.get(name, "absent"), other.get(name, "absent")) for name in names]
