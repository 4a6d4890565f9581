"""The report's drawings: the critical difference, and how rankings settle with samples."""

import numpy as np
import pandas as pd

from harness.results.blocks import Across
from harness.results.fonts import shortened
from harness.results.numbers import significant
from harness.results.report.drawing import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Plot,
    Scale,
    spanning,
)
from harness.results.report.markup import Raw, tag


def critical_difference_plot(across: Across) -> Raw:
    """Mean ranks on a line; bars join explainers whose difference is below the critical one."""
    names, ranks = list(across.mean_ranks.index), across.mean_ranks.to_numpy()
    groups = across.groups
    half = -(-len(names) // 2)
    top = 58 + 11 * len(groups)
    height = top + 19 * half + 14
    x = Scale(1, max(len(names), 2), 150, WIDTH - 150)
    drawn = [tag("line", x1=x(1), x2=x(len(names)), y1=40, y2=40, class_="axis")]
    step = max(1, len(names) // 10)
    for rank in range(1, len(names) + 1, step):
        drawn += [
            tag("line", x1=x(rank), x2=x(rank), y1=35, y2=40, class_="axis"),
            tag("text", rank, x=x(rank), y=30, class_="tick", text_anchor="middle"),
        ]
    drawn.append(tag("text", "mean rank ← lower is better", x=WIDTH / 2, y=14, class_="title", text_anchor="middle"))
    for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = place < half
        y = top + 19 * (place if left else len(names) - 1 - place)
        end = 140 if left else WIDTH - 140
        drawn.append(tag("polyline", points=f"{x(rank)},40 {x(rank)},{y} {end},{y}", class_="stem"))
        drawn.append(
            tag(
                "text",
                f"{shortened(name, 17)} {rank:.2f}",
                x=end - 4 if left else end + 4,
                y=y + 4,
                class_="name",
                text_anchor="end" if left else "start",
                data_tip=f"{name}\nmean rank {rank:.3f}",
            )
        )
    for place, group in enumerate(groups):
        ends = across.mean_ranks[group]
        y = 50 + 11 * place
        tip = f"not shown to differ: {', '.join(group)}"
        drawn.append(tag("line", x1=x(ends.min()) - 3, x2=x(ends.max()) + 3, y1=y, y2=y, class_="tie", data_tip=tip))
    name = f"Critical difference diagram, {across.metric}: {len(across.ranks)} blocks, CD {across.critical:.2f}"
    return tag(
        "svg", tag("title", name), *drawn, viewBox=f"0 0 {WIDTH} {height}", class_="plot", role="group", aria_label=name
    )


def settling(curve: pd.DataFrame, metric: str, heading: str) -> Raw:
    """How often the best explainer stays the best, and how similar the rankings are, if only n samples are drawn."""
    x = spanning(list(curve["n"]), LEFT, WIDTH - RIGHT, log=True)
    y = Scale(min(0.0, float(np.nanmin(curve["tau"].to_numpy(), initial=0.0))), 1.04, 260 - BOTTOM, TOP)
    ticks = sorted({int(n) for n in curve["n"][::2]})
    plot = Plot(
        x,
        y,
        "number of samples, logarithmic →",
        "share, tau ↑",
        f"Stability of the ranking by {metric}: {heading}",
        height=260,
        x_ticks=ticks,
    )
    plot.marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(0.95), y2=y(0.95), class_="bound"))
    plot.marks.append(tag("text", "0.95", x=WIDTH - RIGHT, y=y(0.95) + 12, class_="tick", text_anchor="end"))
    for column, kind, words in (
        ("tau", "second", "mean tau-b with the ranking by all"),
        ("top_stays", "first", "the first stays first"),
    ):
        known = curve[np.isfinite(curve[column])]
        points = [(x(n), y(value)) for n, value in zip(known["n"], known[column], strict=True)]
        plot.marks.append(tag("polyline", points=" ".join(f"{a},{b}" for a, b in points), class_=f"line {kind}"))
        for (a, b), n, value in zip(points, known["n"], known[column], strict=True):
            tip = f"{n} samples\n{words}: {significant(value)}"
            plot.marks.append(
                tag(
                    "circle",
                    cx=a,
                    cy=b,
                    r=4,
                    class_=f"dot {kind}",
                    data_tip=tip,
                    tabindex=0,
                    role="img",
                    aria_label=tip,
                )
            )
    return plot.svg()
