"""Axes for plots in SVG: scales, ticks and titles. Colours are classes of the page, so that they follow its theme."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.results.numbers import significant
from harness.results.report.markup import Raw, tag

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46
# Where a label may stand beside its point.
BESIDE = (
    (8, 4, "start"),
    (-8, 4, "end"),
    (0, -9, "middle"),
    (0, 17, "middle"),
    (7, -7, "start"),
    (-7, -7, "end"),
    (7, 15, "start"),
    (-7, 15, "end"),
)


@dataclass(frozen=True)
class Scale:
    """From values ``low..high`` to pixels ``start..end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = math.log(max(value, 1e-300)) if self.log else value
        share = (value - low) / (high - low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """A handful of round values within the scale."""
        return _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high)


def _even_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / rough)))
    return [float(f"{number * step:.10g}") for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
        if len(ticks) > 3:
            break
    return ticks if len(ticks) > 2 else _even_ticks(low, high)


def spanning(values: Sequence[float], start: float, end: float, *, log: bool = False) -> Scale:
    """A scale that holds all finite values with a little room."""
    known = np.array([value for value in values if value is not None and np.isfinite(value)], dtype=float)
    known = known[known > 0] if log else known
    low, high = (known.min(), known.max()) if len(known) else (1.0, 10.0)
    if log:
        room = max(1.25, (high / low) ** 0.06)
        return Scale(low / room, high * room, start, end, True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end)


@dataclass
class Plot:
    """A plot: marks are added to it, then ``svg`` returns it with its axes."""

    x: Scale
    y: Scale
    x_title: str
    y_title: str
    name: str
    height: int = HEIGHT
    x_ticks: Sequence[float] | None = None
    marks: list[Raw] = field(default_factory=list)

    def svg(self) -> Raw:
        """The whole plot."""
        return tag(
            "svg",
            tag("title", self.name),
            self._grid(),
            *self.marks,
            self._titles(),
            viewBox=f"0 0 {WIDTH} {self.height}",
            class_="plot",
            role="group",
            aria_label=self.name,
        )

    def _grid(self) -> list[Raw]:
        bottom, right = self.height - BOTTOM, WIDTH - RIGHT
        drawn = []
        for value in self.y.ticks:
            at = self.y(value)
            drawn.append(tag("line", x1=LEFT, x2=right, y1=at, y2=at, class_="grid" if value else "grid zero"))
            drawn.append(tag("text", tick(value), x=LEFT - 7, y=at + 4, class_="tick", text_anchor="end"))
        for value in self.x_ticks or self.x.ticks:
            at = self.x(value)
            drawn.append(tag("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
            drawn.append(tag("text", tick(value), x=at, y=bottom + 17, class_="tick", text_anchor="middle"))
        drawn.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
        return drawn

    def _titles(self) -> list[Raw]:
        middle = (TOP + self.height - BOTTOM) / 2
        return [
            tag(
                "text",
                self.x_title,
                x=(LEFT + WIDTH - RIGHT) / 2,
                y=self.height - 8,
                class_="title",
                text_anchor="middle",
            ),
            tag(
                "text",
                self.y_title,
                x=14,
                y=middle,
                class_="title",
                text_anchor="middle",
                transform=f"rotate(-90 14 {middle})",
            ),
        ]


def tick(value: float) -> str:
    """A round number as short as it can be."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.6g}" if abs(value) >= 1000 else f"{value:.6g}"


def number(value: float) -> str:
    """A number for a reader, a dash where there is none."""
    return significant(value) if value is not None and np.isfinite(value) else "–"


def placed(
    points: Sequence[tuple[float, float, str]], right: float = WIDTH - RIGHT, *, size: float = 6.3
) -> list[tuple]:
    """Positions (x, y, anchor) of points' labels that do not overlap, None for labels without room."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in points]
    positions = []
    for x, y, text in points:
        wide = size * len(text)
        tries = [(x + dx, y + dy, anchor) for dx, dy, anchor in BESIDE]
        boxes = [_label_box(*place, wide) for place in tries]
        free = [
            i
            for i, box in enumerate(boxes)
            if box[0] > LEFT and box[2] < right and not any(_overlap(box, other) for other in taken)
        ]
        positions.append(tries[free[0]] if free else None)
        taken += [boxes[free[0]]] if free else []
    return positions


def _label_box(x: float, y: float, anchor: str, wide: float) -> tuple[float, float, float, float]:
    left = x - {"start": 0, "end": wide, "middle": wide / 2}[anchor]
    return left, y - 10, left + wide, y + 3


def _overlap(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
