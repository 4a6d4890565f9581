"""Quality against cost, with a Pareto front that knows intervals: an explainer is off it only if another is shown to be
better and is cheaper."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.results.numbers import with_interval
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
from harness.results.report.markup import Raw, joined, soft, tag
from harness.results.verdict import COST_METRIC, cost_of

LEAST_SECONDS = 1e-7  # seconds; smaller costs are drawn here
WIDE_LETTER = 8.2  # of a label, so that none overlap in the larger letters of a narrow screen
# The kinds of points, in the order of the legend, with their words.
FRONT, NEAR, OFF, CONTROL, UNRANKED = "front", "near", "off", "control", "unranked"
WORDS = {
    FRONT: "On the front by the means",
    NEAR: "Not shown to be off the front",
    OFF: "Off the front",
    CONTROL: "Controls, which do not look at the model",
    UNRANKED: "Not ranked: known errors of a library",
}


@dataclass(frozen=True)
class CostPoint:
    """An explainer's headline score and cost in seconds per sample, each with its interval; NaN where there is none.

    kind   ``front``: no other has a better mean and costs less; ``off``: the explainers ``by`` are shown to be better
           and are cheaper; ``near``: neither; ``control``; ``unranked``
    """

    name: str
    value: float
    low: float
    high: float
    cost: float
    cost_low: float
    cost_high: float
    kind: str = NEAR
    by: tuple[str, ...] = ()


def pareto_part(block: ReportBlock) -> Raw | None:
    """The plot, which explainers are on the front, and those without a cost; None where no cost is known."""
    points = cost_points(block)
    if not points:
        return None
    plot = tag("div", _drawn(block, points), class_="plot-box")
    return tag("div", plot, tag("dl", list(_front_groups(block, points)), class_="front-groups"), class_="pareto")


def cost_points(block: ReportBlock) -> list[CostPoint]:
    """The explainers whose headline score and cost are known, the cheapest first."""
    found = [_point(block, name) for name in block.explainers if _is_known(block, name)]
    found = sorted(found, key=lambda point: (point.cost, point.name))
    return [_placed_in_front(block, point, found) for point in found]


def _is_known(block: ReportBlock, name: str) -> bool:
    cell = block.cell(block.headline, name) if block.headline else None
    there = cell is not None and cell["status"] == "ok" and np.isfinite(cell["value"])
    return there and cost_of(block, name) is not None


def _point(block: ReportBlock, name: str) -> CostPoint:
    quality, cost = block.cell(block.headline, name), block.cell(COST_METRIC, name)
    ends = (quality["ci_low"], quality["ci_high"], cost["value"], cost["ci_low"], cost["ci_high"])
    return CostPoint(name, float(quality["value"]), *map(float, ends))


def _placed_in_front(block: ReportBlock, point: CostPoint, points: Sequence[CostPoint]) -> CostPoint:
    """The point with its kind."""
    if point.name in block.controls or point.name in block.with_caveat:
        kind, by = (CONTROL if point.name in block.controls else UNRANKED), ()
    else:
        own = [p for p in points if p.name not in block.controls and p.name not in block.with_caveat and p != point]
        by = tuple(p.name for p in own if _is_cheaper(p, point) and _is_better(block, p.name, point.name))
        sign = -1 if block.better(block.headline) == "lower" else 1
        beaten = any(p.cost <= point.cost and sign * p.value >= sign * point.value for p in own)
        kind = OFF if by else NEAR if beaten else FRONT
    ends = (point.value, point.low, point.high, point.cost, point.cost_low, point.cost_high)
    return CostPoint(point.name, *ends, kind, by)


def _is_cheaper(first: CostPoint, second: CostPoint) -> bool:
    """Whether the first costs less: its interval lies below the other's, where both are known."""
    ends = (first.cost_low, first.cost_high, second.cost_low, second.cost_high)
    return first.cost_high < second.cost_low if np.isfinite(ends).all() else first.cost < second.cost


def _is_better(block: ReportBlock, first: str, second: str) -> bool:
    family = block.family
    return {first, second} <= set(family.names if family else ()) and family.better(first, second)


def _drawn(block: ReportBlock, points: Sequence[CostPoint]) -> Raw:
    costs = [max(end, LEAST_SECONDS) for p in points for end in (p.cost, p.cost_low, p.cost_high) if np.isfinite(end)]
    x = spanning(costs, LEFT, WIDTH - RIGHT, log=True)
    y = spanning([end for p in points for end in (p.value, p.low, p.high)], HEIGHT - BOTTOM, TOP)
    title = f"{block.headline} against cost: {block.heading}"
    plot = Plot(x, y, "seconds per sample (logarithmic), lower is better", block.axis(block.headline), title)
    labels = placed([(x(p.cost), y(p.value), p.name) for p in points], size=WIDE_LETTER)
    plot.marks += [mark for p, label in zip(points, labels, strict=True) for mark in _marks(block, p, label, x, y)]
    return plot.svg()


def _marks(block: ReportBlock, point: CostPoint, label: tuple | None, x: Scale, y: Scale) -> Iterator[Raw]:
    """A point with its intervals and, where there is room, its name."""
    at, across = x(max(point.cost, LEAST_SECONDS)), y(point.value)
    if np.isfinite(point.low):
        yield tag("line", x1=at, x2=at, y1=y(point.low), y2=y(point.high), class_=f"bar {point.kind}")
    if np.isfinite(point.cost_low):
        ends = [x(max(end, LEAST_SECONDS)) for end in (point.cost_low, point.cost_high)]
        yield tag("line", x1=ends[0], x2=ends[1], y1=across, y2=across, class_=f"bar {point.kind}")
    tip = "\n".join(_words_of(block, point))
    about = {"tabindex": 0, "role": "img", "data_tip": tip, "aria_label": tip}
    yield tag("circle", cx=at, cy=across, r=5, class_=f"dot {point.kind}", **about)
    if label:
        yield tag("text", point.name, x=label[0], y=label[1], text_anchor=label[2], class_=f"name {point.kind}")


def _words_of(block: ReportBlock, point: CostPoint) -> Iterator[str]:
    yield point.name
    yield f"{block.headline} {with_interval(point.value, point.low, point.high)}"
    known = f" [{number(point.cost_low)}, {number(point.cost_high)}]" if np.isfinite(point.cost_low) else ""
    yield f"{number(point.cost)}{known} s a sample"
    yield f"shown to be worse, and dearer, than {', '.join(point.by)}" if point.by else WORDS[point.kind].lower()


def _front_groups(block: ReportBlock, points: Sequence[CostPoint]) -> Iterator[Raw]:
    """The explainers by kind, in words, and those without a cost."""
    for kind, words in WORDS.items():
        names = [soft(point.name) for point in points if point.kind == kind]
        if names:
            reason = _why_off(points) if kind == OFF else ""
            yield _group(words + reason, names, f"key-dot {kind}")
    known = {point.name for point in points}
    without = [soft(name) for name in block.explainers if _has_score(block, name) and name not in known]
    if without:
        yield _group("No cost was measured, so not drawn", without, "")


def _why_off(points: Sequence[CostPoint]) -> str:
    by = list(dict.fromkeys(name for point in points for name in point.by))
    some = by if len(by) < 3 else [*by[:2], "others"]
    return f": shown to be worse, and dearer, than {' or '.join(some)}"


def _has_score(block: ReportBlock, name: str) -> bool:
    cell = block.cell(block.headline, name)
    return cell is not None and cell["status"] == "ok"


def _group(words: str, names: Sequence[Raw], class_: str) -> Raw:
    return tag("div", tag("dt", words, class_=class_ or None), tag("dd", joined(names, ", ")))
