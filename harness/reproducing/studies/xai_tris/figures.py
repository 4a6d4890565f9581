"""The box plots of XAI-TRIS: scores of every method by net, scenario and background (Clark et al. 2023, 2306.12816)."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.reproducing.studies.xai_tris.nets import CNN, LINEAR, MLP
from harness.reproducing.studies.xai_tris.scores import (
    CONTROLS,
    DEEP_TAYLOR,
    GUIDED_GRAD_CAM,
    METHODS,
    NO_NET,
    PATTERN,
)
from harness.results.figures import COLOURS, GREY, INK, RULE, figure, tidy

METHODS_SHOWN = [*METHODS, *GUIDED_GRAD_CAM, *DEEP_TAYLOR, *PATTERN]
SHOWN = [*METHODS_SHOWN, *CONTROLS]
COLUMNS_OF_NETS = (MLP, CNN, LINEAR)  # the linear net comes last: most rows do not have it
ROW_HEIGHT, REST_OF_HEIGHT = 1.05, 1.9  # inches


def boxes_drawn(scores: pd.DataFrame, column: str, title: str, label: str, note: str, low: float) -> Figure:
    """A row of panels for each scenario and background, a column for each net, and a box for each method.

    ``scores`` has the columns scenario, backdrop, net, explainer and ``column``; rows of controls have no net and are
    drawn for all nets. ``low`` is where the vertical axis begins.
    """
    settings = list(scores.groupby(["scenario", "backdrop"], sort=False).groups)
    nets = [net for net in COLUMNS_OF_NETS if net in set(scores["net"])]
    drawing = figure(ROW_HEIGHT * len(settings) + REST_OF_HEIGHT, title, note)
    grid = drawing.subplots(len(settings), len(nets), squeeze=False, sharex=True, sharey=True)
    for (scenario, backdrop), line in zip(settings, grid, strict=True):
        own = scores[(scores["scenario"] == scenario) & (scores["backdrop"] == backdrop)]
        for net, axes in zip(nets, line, strict=True):
            if net in set(own["net"]):
                _boxes(axes, own[own["net"].isin([net, NO_NET])], column)
                axes.set_ylim(low, 1.04)
                _label_panel(axes, net, f"{scenario}\n{backdrop}\n{label}")
            else:
                axes.set_axis_off()
    for line in grid.T:
        _name_methods([axes for axes in line if axes.axison])
    colours = {"methods": COLOURS[0], "controls": COLOURS[1]}
    handles = [Patch(facecolor=colour, alpha=0.5, label=name) for name, colour in colours.items()]
    drawing.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=7.5, frameon=False)
    return drawing


def _boxes(axes: Axes, scores: pd.DataFrame, column: str) -> None:
    """A box for each method that has scores: quartiles, median, and whiskers to 1.5 times their distance."""
    for place, name in enumerate(SHOWN):
        values = scores.loc[scores["explainer"] == name, column].dropna()
        colour = COLOURS[0] if name in METHODS_SHOWN else COLOURS[1]
        if len(values):
            axes.boxplot(
                values,
                positions=[place],
                widths=0.7,
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": colour, "alpha": 0.5, "linewidth": 0.5},
                whiskerprops={"linewidth": 0.5, "color": GREY},
                capprops={"linewidth": 0.5, "color": GREY},
                medianprops={"linewidth": 1.2, "color": INK},
            )
    axes.set_xlim(-0.7, len(SHOWN) - 0.3)
    axes.grid(axis="y", color=RULE, linewidth=0.4)


def _label_panel(axes: Axes, net: str, words: str) -> None:
    """The net above a panel of the first row, and the setting in front of a panel of the first column."""
    place = axes.get_subplotspec()
    tidy(axes, net if place.is_first_row() else "", "", words if place.is_first_col() else "")
    axes.tick_params(labelleft=place.is_first_col(), labelbottom=False)


def _name_methods(column: Sequence[Axes]) -> None:
    """The names of the methods below the last panel of a column; where nothing is below it, they take no room."""
    last = column[-1]
    last.set_xticks(range(len(SHOWN)), SHOWN, rotation=90)
    last.tick_params(labelbottom=True, labelsize=6)
    last.xaxis.set_in_layout(last.get_subplotspec().is_last_row())
