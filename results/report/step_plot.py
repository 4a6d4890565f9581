"""A small plot of one cell over runs: its values as dots, its levels as lines, and the last change marked."""

import os
from collections.abc import Sequence

import numpy as np

from harness.results.fonts import shortened
from harness.results.numbers import significant
from harness.results.report.drawing import Scale, spanning, tick
from harness.results.report.markup import Raw, tag
from harness.results.steps import Level

WIDE, HIGH = 340, 168
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 8, 26  # room for the axes
LETTER = 6.0  # width of a letter of a run's name
MOST_LETTERS = 24


def step_plot(
    name: str, runs: Sequence[str], values: np.ndarray, levels: Sequence[Level], since: str, verdict: str
) -> Raw:
    """The plot of the ``values`` (runs,), NaN where a run has none; the level from the run ``since`` has the colour of
    the ``verdict``."""
    x = Scale(-0.5, len(runs) - 0.5, LEFT, WIDE - RIGHT)
    y = spanning([*values, *(level.value for level in levels)], HIGH - BOTTOM, TOP)
    start = list(runs).index(since)
    marks = [*_level_axis(y), *_run_axis(runs, x, start), *_change_mark(x, start), *_level_lines(levels, x, y, verdict)]
    marks += [
        tag("circle", cx=x(place), cy=y(value), r=2.6, class_="dot", data_tip=f"{run}: {significant(value)}")
        for place, (run, value) in enumerate(zip(runs, values, strict=True))
        if np.isfinite(value)
    ]
    return tag("svg", tag("title", name), marks, viewBox=f"0 0 {WIDE} {HIGH}", role="img", aria_label=name)


def _level_axis(y: Scale) -> list[Raw]:
    """Round numbers with their lines; every second one where there are many."""
    ticks = y.ticks[:: 1 + (len(y.ticks) > 5)]
    lines = [tag("line", x1=LEFT, x2=WIDE - RIGHT, y1=y(value), y2=y(value), class_="grid") for value in ticks]
    return lines + [
        tag("text", tick(value), x=LEFT - 6, y=y(value) + 4, class_="tick", text_anchor="end") for value in ticks
    ]


def _run_axis(runs: Sequence[str], x: Scale, since: int) -> list[Raw]:
    """The axis with the names of the run of the change, of the first and the last run, and of others as far as they
    fit."""
    bottom, taken, drawn = HIGH - BOTTOM, [], []
    drawn.append(tag("line", x1=LEFT, x2=WIDE - RIGHT, y1=bottom, y2=bottom, class_="axis"))
    texts = _endings(runs)
    for place in dict.fromkeys([since, 0, len(runs) - 1, *range(len(runs))]):
        text = shortened(texts[place], MOST_LETTERS)
        half = LETTER * len(text) / 2
        middle = min(max(x(place), half), WIDE - half)
        if any(abs(middle - other) < half + room + LETTER for other, room in taken):
            continue
        taken.append((middle, half))
        kind = "tick since" if place == since else "tick"
        drawn.append(tag("line", x1=x(place), x2=x(place), y1=bottom, y2=bottom + 4, class_="axis"))
        drawn.append(tag("text", text, x=round(middle, 1), y=bottom + 17, class_=kind, text_anchor="middle"))
    return drawn


def _endings(runs: Sequence[str]) -> list[str]:
    """The names from their first different part on, with an ellipsis for what all begin with: ``…09`` for
    ``nightly-2026-11-09``."""
    same = os.path.commonprefix([*runs])
    same = same[: max(same.rfind(mark) for mark in "-_. ") + 1]
    return [f"…{run.removeprefix(same)}" if len(same) > 1 else run for run in runs]


def _change_mark(x: Scale, since: int) -> list[Raw]:
    at = x(since - 0.5)
    return [tag("line", x1=at, x2=at, y1=TOP, y2=HIGH - BOTTOM, class_="bound")]


def _level_lines(levels: Sequence[Level], x: Scale, y: Scale, verdict: str) -> list[Raw]:
    """One line per level; the last has the colour of the verdict."""
    return [
        tag(
            "line",
            x1=x(level.start - 0.5),
            x2=x(level.end - 0.5),
            y1=y(level.value),
            y2=y(level.value),
            class_=f"level {verdict if level is levels[-1] else ''}".strip(),
        )
        for level in levels
    ]
