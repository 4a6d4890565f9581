"""The figures of the degradation ladder: a small panel for each metric, and the fidelities beside each other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reproducing.studies.degradation_ladder.scores import RUNGS, SIGMAS
from harness.reproducing.studies.degradation_ladder.tables import LadderTables, scaled_ladder
from harness.results.figures import COLOURS, GREY, MARKERS, RULE, figure, panels, tidy

ACROSS, MOST_PANELS = 6, 42  # panels beside each other, and in one figure
LONGEST = 20  # letters of a title on one line


def ladder_figures(tables: LadderTables, metrics: Sequence[str], wrong: Sequence[str]) -> dict[str, Figure]:
    """The ladder of each metric, in as many figures as are needed; the titles of ``wrong`` metrics are marked."""
    pages = [metrics[start : start + MOST_PANELS] for start in range(0, len(metrics), MOST_PANELS)]
    names = ["ladder", *(f"ladder_{number}" for number in range(2, len(pages) + 1))]
    return {name: _page(tables, page, wrong) for name, page in zip(names, pages, strict=True)}


def _page(tables: LadderTables, metrics: Sequence[str], wrong: Sequence[str]) -> Figure:
    rows = -(-len(metrics) // ACROSS)
    drawing = figure(
        1.3 + 1.2 * rows,
        "Scores of maps with more and more noise",
        "Across: noise in root mean squares of the map. Up: better; the best and the worst mean of a ground are 1 and "
        "0. Bars: 95 % intervals.\nA right metric falls from left to right. A star marks one that is not shown to rank "
        "the ladders of exact contributions rightly.",
    )
    grounds = list(tables.scores)
    for place, (axes, metric) in enumerate(zip(panels(drawing, rows, ACROSS, len(metrics)), metrics, strict=True)):
        for number, ground in enumerate(grounds):
            if tables.applies(ground, metric) and len(tables.ladder(ground, metric)) > 1:
                _draw_ladder(axes, tables.ladder(ground, metric), number, len(grounds))
        tidy(axes, _two_lines(metric) + (" *" if metric in wrong else ""))
        axes.title.set_fontsize(6.5)
        axes.set_ylim(-0.35, 1.35)
        axes.set_yticks([0, 1], ["0", "1"] if place % ACROSS == 0 else ["", ""])
        below = place + ACROSS >= len(metrics)
        axes.set_xticks(range(len(SIGMAS)), [f"{sigma:g}" for sigma in SIGMAS] if below else [""] * len(SIGMAS))
        axes.tick_params(labelsize=6, length=2)
    handles = [
        drawing.axes[0].plot([], [], color=COLOURS[number], marker=MARKERS[number], markersize=3, linewidth=1)[0]
        for number in range(len(grounds))
    ]
    drawing.legend(handles, grounds, loc="outside upper right", ncols=len(grounds), fontsize=7, frameon=False)
    return drawing


def _draw_ladder(axes: Axes, scores: np.ndarray, number: int, grounds: int) -> None:
    """The means of one ground with their intervals, beside those of the other grounds."""
    means, low, high = scaled_ladder(scores)
    across = np.arange(len(RUNGS)) + 0.16 * (number - (grounds - 1) / 2)
    bars = np.stack([means - low, high - means])
    look = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 2.2, "linewidth": 0.7}
    axes.errorbar(across, means, bars, elinewidth=0.7, **look)


def _two_lines(name: str) -> str:
    """A name on at most two lines, broken at an underscore near its middle."""
    breaks = [place for place, letter in enumerate(name) if letter == "_"]
    if len(name) <= LONGEST or not breaks:
        return name
    middle = min(breaks, key=lambda place: abs(place - len(name) / 2))
    return f"{name[: middle + 1]}\n{name[middle + 1 :]}"


def fidelities_figure(tables: LadderTables, names: Sequence[str]) -> Figure:
    """The recovery in small groups of samples by several fidelities: a panel for each ground."""
    drawing = figure(
        3.0,
        f"How well means of {tables.group} samples follow the ladder, by fidelity",
        "1: each step of noise scores worse; -1: each scores better. Bars: twice the standard error over groups.",
    )
    grounds = list(tables.scores)
    for place, (axes, ground) in enumerate(
        zip(panels(drawing, 1, len(grounds), len(grounds), sharey=True), grounds, strict=True)
    ):
        shown = [name for name in names if tables.applies(ground, name)]
        for number, name in enumerate(names):
            if name in shown:
                groups = tables.in_groups(ground, name)
                error = 2 * groups.std(ddof=1) / np.sqrt(len(groups)) if len(groups) > 1 else 0.0
                colour = COLOURS[1] if number == 0 else COLOURS[0]
                axes.errorbar(groups.mean(), -number, xerr=error, color=colour, marker="o", markersize=4)
        axes.axvline(0, color=RULE, linewidth=0.6)
        axes.axvline(1, color=RULE, linewidth=0.6)
        axes.set_xlim(-1.1, 1.1)
        tidy(axes, ground, "recovery")
        if place == 0:  # all panels share these names
            axes.set_yticks([-number for number in range(len(names))], names)
        axes.tick_params(axis="y", labelcolor=GREY, length=0)
    return drawing
