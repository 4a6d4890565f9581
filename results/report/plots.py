"""The report's drawings: quality against cost, the critical difference, and how rankings settle with samples."""

import numpy as np
import pandas as pd

from harness.results.blocks import Across
from harness.results.fonts import shortened
from harness.results.numbers import significant
from harness.results.report.blocks import ReportBlock
from harness.results.report.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Plot,
    Scale,
    number,
    placed,
    spanning,
)
from harness.results.report.markup import Raw, tag
from harness.results.verdict import COST_METRIC

LEAST_SECONDS = 1e-7  # seconds; smaller costs are drawn here


def quality_cost(block: ReportBlock) -> tuple[Raw, list[str]] | None:
    """The headline metric against seconds per sample, with the Pareto front marked; None if there are no points."""
    points = _cost_points(block)
    if points.empty:
        return None
    better = block.better(block.headline)
    x = spanning(list(points["cost"]), LEFT, WIDTH - RIGHT, log=True)
    y = spanning([*points["value"], *points["low"], *points["high"]], HEIGHT - BOTTOM, TOP)
    front = _pareto_front(points, better)
    plot = Plot(
        x,
        y,
        "seconds per sample, logarithmic ← lower is better",
        block.axis(block.headline),
        f"{block.headline} against cost: {block.heading}",
    )
    plot.marks.append(_front_line(points[points["name"].isin(front)], x, y))
    labels = placed([(x(p.cost), y(p.value), p.name) for p in points.itertuples(index=False)])
    for point, label in zip(points.itertuples(index=False), labels, strict=True):
        plot.marks += _drawn_point(point, label, x, y, point.name in front, block)
    return plot.svg(), front


def _cost_points(block: ReportBlock) -> pd.DataFrame:
    rows = []
    for name in block.explainers if block.headline else ():
        quality, cost = block.cell(block.headline, name), block.cell(COST_METRIC, name)
        if not (quality and cost) or quality["status"] != "ok" or cost["status"] != "ok":
            continue
        if np.isfinite(quality["value"]) and np.isfinite(cost["value"]):
            rows.append(
                {
                    "name": name,
                    "value": quality["value"],
                    "low": quality["ci_low"],
                    "high": quality["ci_high"],
                    "cost": max(cost["value"], LEAST_SECONDS),
                    "control": name in block.controls,
                    "caveat": name in block.with_caveat,
                }
            )
    return pd.DataFrame(rows, columns=["name", "value", "low", "high", "cost", "control", "caveat"])


def _pareto_front(points: pd.DataFrame, better: str | None) -> list[str]:
    """The Pareto front, by cost: explainers to which no other is better and cheaper; no controls, no caveats."""
    sign = -1 if better == "lower" else 1
    found, best = [], -np.inf
    own = points[~points["control"] & ~points["caveat"]].assign(quality=points["value"] * sign)
    for point in own.sort_values(["cost", "quality"], ascending=[True, False]).itertuples(index=False):
        if point.quality > best:
            best, found = point.quality, [*found, point.name]
    return found


def _front_line(front: pd.DataFrame, x: Scale, y: Scale) -> Raw:
    steps, last = [], None
    for point in front.sort_values("cost").itertuples(index=False):
        at = x(point.cost), y(point.value)
        steps += [f"{at[0]},{last}"] if last is not None else []
        steps.append(f"{at[0]},{at[1]}")
        last = at[1]
    return tag("polyline", points=" ".join(steps), class_="front") if len(front) > 1 else Raw("")


def _drawn_point(point, label, x: Scale, y: Scale, on_front: bool, block: ReportBlock) -> list[Raw]:
    cx, cy = x(point.cost), y(point.value)
    kind = "control" if point.control else "best" if on_front else "own"
    interval = f" [{number(point.low)}, {number(point.high)}]" if np.isfinite(point.low) else ""
    word = ", control" if point.control else ", Pareto front" if on_front else ""
    tip = f"{point.name}{word}\n{block.headline} {number(point.value)}{interval}\n{number(point.cost)} s a sample"
    bar = tag("line", x1=cx, x2=cx, y1=y(point.low), y2=y(point.high), class_=f"bar {kind}") if interval else Raw("")
    drawn = tag("circle", cx=cx, cy=cy, r=5, class_=f"dot {kind}", tabindex=0, role="img", data_tip=tip, aria_label=tip)
    text = (
        tag("text", point.name, x=label[0], y=label[1], text_anchor=label[2], class_=f"name {kind}") if label else None
    )
    return [bar, drawn, *([text] if text else [])]


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
        "share, tau ↑ higher is more stable",
        f"Stability of the ranking by {metric}: {heading}",
        height=260,
        x_ticks=ticks,
    )
    plot.marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(0.95), y2=y(0.95), class_="bound"))
    plot.marks.append(tag("text", "0.95", x=WIDTH - RIGHT, y=y(0.95) + 12, class_="tick", text_anchor="end"))
    for column, kind, words in (
        ("tau", "second", "mean tau-b to the ranking by all"),
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
