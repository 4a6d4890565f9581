"""The figures of the atlas: places, critical difference, agreement of metrics, stability."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from harness.results.blocks import Across
from harness.results.figures import DIVERGING, GREY, INK, RULE, SEQUENTIAL, figure, looks, tidy

MODALITIES = ("image", "table", "tokens", "series")


def places_figure(places: pd.DataFrame, modality: dict[str, str], ignoring: list[str]) -> Figure:
    """Explainers down, blocks across: the share of the other explainers of a block that are worse."""
    blocks = sorted(places.index, key=lambda block: (MODALITIES.index(modality[block]), block))
    order = places.mean().sort_values(ascending=False).index
    values = places.loc[blocks, order].T
    drawing = figure(
        0.155 * len(order) + 1.6,
        "Where explainers stand in each block, by srg",
        "1: better than all others of the block; 0: worse than all; grey: not applicable. (c): a control, which\n"
        "ignores the model. Explainers in the order of their mean over the blocks that they apply to.",
    )
    axes = tidy(drawing.subplots())
    shades = axes.imshow(np.ma.masked_invalid(values), aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=1)
    axes.set_facecolor("#e3e3e6")
    axes.set_yticks(range(len(order)), [f"{name} (c)" if name in ignoring else name for name in order], fontsize=6)
    axes.set_xticks(range(len(blocks)), [f"{block} ({modality[block]})" for block in blocks], rotation=60, ha="right")
    axes.tick_params(axis="x", labelsize=6.5)
    drawing.colorbar(shades, ax=axes, shrink=0.4, label="share of others that are worse")
    return drawing


def critical_difference_figure(across: Across) -> Figure:
    """Mean ranks on a line; a bar joins explainers whose difference is below the critical one (Demšar 2006)."""
    names, ranks, groups = list(across.mean_ranks.index), across.mean_ranks.to_numpy(), across.groups
    half = -(-len(names) // 2)
    drawing = figure(
        0.19 * half + 0.1 * len(groups) + 1.1,
        f"Mean ranks by {across.metric} over {len(across.ranks)} blocks",
        f"1 is the best. Bars join explainers that Nemenyi's test does not tell apart: critical difference "
        f"{across.critical:.2f}.\nFriedman's test in the form of Iman and Davenport: p = {across.p:.2g}.",
    )
    axes = drawing.subplots()
    axes.set_axis_off()
    low, high = 1, len(names)
    top = -0.6 - 0.45 * len(groups)
    axes.plot([low, high], [0, 0], color=INK, linewidth=0.8)
    for rank in range(low, high + 1, max(1, high // 10)):
        axes.plot([rank, rank], [0, 0.15], color=INK, linewidth=0.8)
        axes.text(rank, 0.25, str(rank), ha="center", va="bottom", fontsize=7)
    for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = place < half
        y = top - 0.8 * (place if left else len(names) - 1 - place)
        end = low - 0.4 if left else high + 0.4
        axes.plot([rank, rank, end], [0, y, y], color=RULE, linewidth=0.8)
        text = f"{name} {rank:.1f}"
        axes.text(end, y, f"{text} " if left else f" {text}", ha="right" if left else "left", va="center", fontsize=7)
    for place, group in enumerate(groups):
        ends = across.mean_ranks[group]
        y = -0.35 - 0.45 * place
        axes.plot([ends.min() - 0.06, ends.max() + 0.06], [y, y], color=INK, linewidth=2.2, solid_capstyle="butt")
    room = 0.34 * (high - low)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(top - 0.8 * half, 1.2)
    return drawing


def agreement_figure(pairs: pd.DataFrame) -> Figure:
    """Kendall's tau-b between metrics, mean over blocks, metrics that agree side by side."""
    names = sorted({*pairs["first"], *pairs["second"]})
    square = pd.DataFrame(np.eye(len(names)), names, names)
    for row in pairs.itertuples():
        square.loc[row.first, row.second] = square.loc[row.second, row.first] = row.tau
    far = squareform((1 - square.fillna(0)).clip(lower=0).to_numpy(), checks=False)
    names = [names[i] for i in leaves_list(linkage(far, "average", optimal_ordering=True))]
    drawing = figure(
        7.6,
        "Which metrics rank explainers alike",
        "Kendall's tau-b between the rankings of a block's explainers by two metrics, mean over the blocks. Controls\n"
        "are left out. The order is that of an average-linkage clustering. White: fewer than eight common explainers.",
    )
    axes = tidy(drawing.subplots())
    shades = axes.imshow(square.loc[names, names], cmap=DIVERGING, vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    drawing.colorbar(shades, ax=axes, shrink=0.6, label="tau-b")
    return drawing


def stability_figure(curves: dict[str, pd.DataFrame], modality: dict[str, str]) -> Figure:
    """Tau-b between the rankings by two disjoint sets of n samples, a line for each block."""
    drawing = figure(
        4.2,
        "How stable the rankings are",
        "Kendall's tau-b between the rankings by srg of two disjoint sets of n samples, mean of 200 draws. Controls\n"
        "are left out. The rankings of this page rest on twice as many samples as the right end of each line.",
    )
    axes = tidy(drawing.subplots(), x="samples in each set (logarithmic)", y="tau-b")
    colours = dict(zip(MODALITIES, (colour for colour, _ in looks(len(MODALITIES))), strict=True))
    for block, curve in sorted(curves.items()):
        axes.plot(curve["n"], curve["tau"], color=colours[modality[block]], linewidth=1, marker="o", markersize=2.5)
    axes.set_xscale("log")
    ticks = [3, 5, 10, 20, 40]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    lowest = min(curve["tau"].min() for curve in curves.values())
    axes.set_ylim(np.floor(10 * lowest) / 10, 1.02)
    axes.set_xlim(2.8, 1.9 * max(curve["n"].max() for curve in curves.values()))
    for name, colour in colours.items():
        axes.plot([], [], color=colour, label=name)
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    _name_lines(axes, {block: (curve["n"].iloc[-1], curve["tau"].iloc[-1]) for block, curve in curves.items()})
    return drawing


def _name_lines(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """The name of each line at its right end, moved down where it would cover the one above."""
    apart = 0.034 * float(np.ptp(axes.get_ylim()))
    right, last = max(x for x, _ in ends.values()), np.inf
    for name, (_, y) in sorted(ends.items(), key=lambda item: -item[1][1]):
        last = min(y, last - apart)
        axes.text(right * 1.05, last, name, fontsize=6, color=GREY, va="center")
