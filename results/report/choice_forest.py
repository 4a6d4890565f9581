"""Gains over the best control as a forest plot in a table: of the explainers in the answer, and of those confirmed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.results.numbers import rounded_together, with_sign
from harness.results.report.drawing import Scale, number, tick
from harness.results.report.markup import Raw, soft, tag

ROOM = 3.0  # percent of the drawing's width that stays free at both sides
SHORTER = 0.2  # of the longer side of 0: the shorter one is at least so long, to hold its word
HIGH = 26  # pixels of a row's drawing
MOST_TICKS = 4  # of the axis on a narrow screen; of more, every second one is left out there


@dataclass(frozen=True)
class GainRow:
    """One explainer: its score, its gain over the best control with its interval, and words on it.

    standing  the colour: ``first``, ``choice``, ``near``, ``worse`` or ``control``
    score     a text, since some scores have an interval
    """

    name: str
    score: str
    gain: float | None
    low: float | None
    high: float | None
    seconds: float | None
    words: str
    standing: str

    @property
    def ends(self) -> list[float]:
        """The gain and the ends of its interval, as far as they are known."""
        return [each for each in (self.gain, self.low, self.high) if is_known(each)]

    @property
    def gain_text(self) -> str:
        """The gain with its sign and its interval; a dash where there is none."""
        if len(self.ends) < 3:
            return with_sign(number(self.gain)) if self.ends else "–"
        value, low, high = rounded_together(self.gain, self.low, self.high)
        return f"{with_sign(value)} [{low}, {high}]"


@dataclass(frozen=True)
class GainTable:
    """The table; ``head`` names its last column, ``control`` is what gains are over, "" for none."""

    caption: str
    rows: Sequence[GainRow]
    control: str
    metric: str
    unit: str
    head: str
    at: Scale = field(init=False)

    def __post_init__(self) -> None:
        ends = [0.0, *(end for row in self.rows for end in row.ends)]
        low, high = min(ends), max(ends)
        low, high = (min(low, -SHORTER * high), max(high, -SHORTER * low)) if high > low else (-1.0, 1.0)
        object.__setattr__(self, "at", Scale(low, high, ROOM, 100 - ROOM))

    def html(self) -> Raw:
        """The whole table; controls stand below."""
        bodies = [[row for row in self.rows if (row.standing == "control") == wanted] for wanted in (False, True)]
        return tag(
            "table",
            tag("caption", self.caption, class_="unseen"),
            tag("thead", tag("tr", self._heads())),
            [tag("tbody", [self._row(row) for row in rows]) for rows in bodies if rows],
            class_="gains",
            style=f"--zero:{self.at(0)}" if self.control else None,
        )

    def _heads(self) -> list[Raw]:
        gain = f"gain over {self.control}"
        heads = [
            _gain_head("explainer"),
            _gain_head(self.metric, self.unit, "number wide" if self.control else "number"),
        ]
        if self.control:
            narrow = tag("span", soft(gain), class_="narrow")
            heads.append(_gain_head(gain, self.unit, "number wide"))
            heads.append(tag("th", narrow, self._axis(), scope="col", class_="forest"))
        return [*heads, _gain_head("seconds", "a sample", "number"), _gain_head(self.head, class_="wide")]

    def _row(self, row: GainRow) -> Raw:
        narrow = tag("span", soft(row.words), class_="word narrow")
        cells = [tag("th", soft(row.name), narrow, scope="row")]
        cells.append(tag("td", row.score, class_="number wide" if self.control else "number"))
        if self.control:
            cells.append(tag("td", row.gain_text, class_="number wide"))
            cells.append(tag("td", self._drawing(row), tag("span", row.gain_text, class_="narrow"), class_="forest"))
        cells.append(tag("td", number(row.seconds), class_="number"))
        return tag("tr", cells, tag("td", soft(row.words), class_="wide words"), class_=f"is-{row.standing}")

    def _axis(self) -> Raw:
        """Which side is better, and round numbers."""
        zero, values = self.at(0), self.at.ticks
        left, right = ("wide tight" if zero < 35 else None), ("wide tight" if zero > 65 else None)
        marks = [
            tag("text", "← worse", x=f"{zero}%", dx=-7, y=11, text_anchor="end", class_=left),
            tag("text", "better →", x=f"{zero}%", dx=7, y=11, class_=right),
        ]
        for place, value in enumerate(values):
            rare = len(values) > MOST_TICKS and (place - values.index(0)) % 2
            at = f"{self.at(value)}%"
            pair = [tag("text", tick(value), x=at, y=25), tag("line", x1=at, x2=at, y1=28, y2=32)]
            marks.append(tag("g", pair, class_="tick wide" if rare else "tick"))
        return _row_drawing(marks, 32)

    def _drawing(self, row: GainRow) -> Raw:
        """The interval as a line, the gain as a point."""
        marks, middle = [], HIGH / 2
        if len(row.ends) == 3:
            ends = {"x1": f"{self.at(row.low)}%", "x2": f"{self.at(row.high)}%"}
            marks.append(tag("line", **ends, y1=middle, y2=middle, class_="span"))
        if is_known(row.gain):
            marks.append(tag("circle", cx=f"{self.at(row.gain)}%", cy=middle, r=4.5))
        return _row_drawing(marks, HIGH)


def is_known(value: Any) -> bool:
    """Whether a value of a table is a number: neither a text nor None nor NaN."""
    return not isinstance(value, str) and value is not None and math.isfinite(value)


def _gain_head(text: str, below: str = "", class_: str = "") -> Raw:
    second = tag("span", below, class_="below") if below else ""
    return tag("th", soft(text), second, scope="col", class_=class_ or None)


def _row_drawing(marks: list[Raw], height: int) -> Raw:
    return tag("svg", marks, width="100%", height=height, aria_hidden="true")
