"""The first table of the page: a row per explainer with its headline score, its gain over the best control as a forest
plot, its cost and a verdict; for several blocks also one table with a row per block."""

import math
from collections.abc import Iterator, Sequence

from harness.results.answer import Answer
from harness.results.first_table import (
    NO_NUMBER,
    BoardRow,
    FirstRow,
    board_row,
    counted_boards,
    fewer_rows,
    first_rows,
    legend,
)
from harness.results.numbers import rounded_together, significant, with_interval, with_sign
from harness.results.report.blocks import ReportBlock
from harness.results.report.drawing import Scale, tick
from harness.results.report.markup import Raw, soft, tag

ROOM = 3.0  # percent of a strip's width that stays free at both sides
SIDE = 0.2  # of the longer side of 0: the shorter one is at least so long, to hold its word
HIGH = 26  # pixels of a strip
MOST_NARROW_TICKS = 4  # of an axis on a narrow screen, above which it has every second one
MOST_ROWS = 20  # that are shown at once, if scripts run


def gains_part(block: ReportBlock, answer: Answer) -> Raw:
    """The first table of a block, and what its words mean; nothing where there is no headline metric."""
    if block.headline is None:
        return Raw("")
    rows, control = first_rows(block, answer.verdict), answer.verdict.control
    strips = _strips_of(rows) if control is not None else None
    kept = {row.label for row in fewer_rows(rows, MOST_ROWS)[0]}
    drawn = [(row.standing == "control", _explainer_row(row, strips, extra=row.label not in kept)) for row in rows]
    groups = [[each for is_control, each in drawn if is_control == wanted] for wanted in (False, True)]
    heads = tag("tr", list(_heads_of_explainers(block, control, strips)))
    caption = tag("caption", f"Explainers by {block.headline}: {block.heading}", class_="unseen")
    bodies = [tag("tbody", each) for each in groups if each]
    table = tag("table", caption, tag("thead", heads), bodies, class_="gains", style=_zero_of(strips))
    more = len(rows) - len(kept)
    button = tag("button", f"Show {more} more", type="button", class_="show-more", hidden=True) if more else ""
    return tag("div", table, button, [tag("p", f"{text}.", class_="fine") for text in legend(block, control, rows)])


def blocks_part(blocks: Sequence[ReportBlock], answers: Sequence[Answer]) -> Raw:
    """On how many blocks an explainer can be recommended, and a row per block: which one, its gain and its cost."""
    verdicts = [each.verdict for each in answers]
    rows = [board_row(*each) for each in zip(blocks, verdicts, strict=True)]
    units = {(row.metric, block.unit(row.metric)) for row, block in zip(rows, blocks, strict=True) if row.row}
    gains = [row.row for row in rows if row.row and math.isfinite(row.row.gain)]
    # A common scale needs a common unit.
    strips = _strips_of(gains) if len(units) == 1 and gains else None
    unit = _unit_in_words(next(iter(units))[1]) if len(units) == 1 else ""
    heads = [
        _head("model and data"),
        _head("use", class_="wide"),
        *_gain_heads("gain over the best control", unit, strips),
    ]
    heads += [_head("seconds", "a sample", "number"), _head("metric", class_="wide")]
    caption = tag("caption", "The answer for each model and data set", class_="unseen")
    body = tag("tbody", [_block_row(row, strips) for row in rows])
    return tag(
        "div",
        tag("p", counted_boards(verdicts), class_="answer"),
        tag("table", caption, tag("thead", tag("tr", heads)), body, class_="gains blocks", style=_zero_of(strips)),
    )


def _heads_of_explainers(block: ReportBlock, control: str | None, strips: "_Strips | None") -> Iterator[Raw]:
    unit = _unit_in_words(block.unit(block.headline))
    yield _head("explainer")
    yield _head(block.head(block.headline), unit, "number" if strips is None else "number wide")
    if control is not None:
        yield from _gain_heads(f"gain over {control}", unit, strips)
    yield _head("seconds", "a sample", "number")
    yield _head("verdict", class_="wide")


def _gain_heads(text: str, unit: str, strips: "_Strips | None") -> Iterator[Raw]:
    yield _head(text, unit, "number" if strips is None else "number wide")
    if strips is not None:
        narrow = tag("span", soft(text), class_="narrow")
        yield tag("th", narrow, strips.axis(), scope="col", class_="forest")


def _head(text: str, below: str = "", class_: str = "") -> Raw:
    second = tag("span", below, class_="below") if below else ""
    return tag("th", soft(text), second, scope="col", class_=class_ or None)


def _explainer_row(row: FirstRow, strips: "_Strips | None", *, extra: bool) -> Raw:
    return tag(
        "tr",
        tag("th", soft(row.label), tag("span", row.word, class_="word narrow"), scope="row"),
        _headline_cell(row, alone=strips is None),
        _gain_cells(row, strips) if strips is not None else "",
        tag("td", row.cost_text, class_="number"),
        tag("td", row.word, class_="wide"),
        class_=f"is-{row.standing}{' extra' if extra else ''}",
    )


def _headline_cell(row: FirstRow, *, alone: bool) -> Raw:
    """The headline score; with its interval where no gain stands beside it."""
    if not math.isfinite(row.score):
        text = NO_NUMBER
    else:
        text = with_interval(row.score, row.score_low, row.score_high) if alone else significant(row.score)
    return tag("td", text, class_="number" if alone else "number wide")


def _block_row(row: BoardRow, strips: "_Strips | None") -> Raw:
    named = tag("span", soft(row.use), class_="word use narrow")
    first = tag("th", soft(row.heading), named, scope="row")
    if row.row is None:
        return tag("tr", first, tag("td", row.refused, colspan=4 + (strips is not None)), class_="is-none")
    use = tag("td", soft(row.use), class_="use wide")
    gain = _gain_cells(row.row, strips) if strips is not None else tag("td", _gain_in_words(row.row), class_="number")
    cost = tag("td", row.row.cost_text, class_="number")
    standing = "first" if row.row.standing == "first" else "near"
    return tag("tr", first, use, gain, cost, tag("td", soft(row.metric), class_="wide"), class_=f"is-{standing}")


def _gain_cells(row: FirstRow, strips: "_Strips") -> list[Raw]:
    """The gain in numbers, and drawn."""
    words = _gain_in_words(row)
    drawn = [strips.drawn(row), tag("span", words, class_="narrow")]
    return [tag("td", words, class_="number wide"), tag("td", drawn, class_="forest")]


def _gain_in_words(row: FirstRow) -> str:
    if not math.isfinite(row.gain):
        return NO_NUMBER
    if not math.isfinite(row.gain_low):
        return with_sign(significant(row.gain))
    value, low, high = rounded_together(row.gain, row.gain_low, row.gain_high)
    return f"{with_sign(value)} [{low}, {high}]"


def _unit_in_words(unit: str) -> str:
    return {"probability": "class probability"}.get(unit, unit)


class _Strips:
    """The rows of a forest plot on one scale; places are percentages, so that a strip fills its column."""

    def __init__(self, low: float, high: float) -> None:
        self.at = Scale(low, high, ROOM, 100 - ROOM)

    def axis(self) -> Raw:
        """Which side is better, and round numbers."""
        zero = self.at(0)
        sides = [
            tag("text", "← worse", x=f"{zero}%", dx=-7, y=11, text_anchor="end", class_="wide" if zero < 35 else None),
            tag("text", "better →", x=f"{zero}%", dx=7, y=11, class_="wide" if zero > 65 else None),
        ]
        values = self.at.ticks
        beside = len(values) > MOST_NARROW_TICKS
        ticks = [self._tick(v, wide=beside and (place - values.index(0)) % 2 == 1) for place, v in enumerate(values)]
        return _strip([*sides, *ticks], 32)

    def _tick(self, value: float, *, wide: bool) -> Raw:
        """A round number, which is left out where the screen is narrow and many stand there."""
        at = f"{self.at(value)}%"
        marks = [tag("text", tick(value), x=at, y=25), tag("line", x1=at, x2=at, y1=28, y2=32)]
        return tag("g", marks, class_="tick wide" if wide else "tick")

    def drawn(self, row: FirstRow) -> Raw:
        """A row's interval as a line, and its gain as a point."""
        marks = []
        if math.isfinite(row.gain_low):
            low, high = self.at(row.gain_low), self.at(row.gain_high)
            marks.append(tag("line", x1=f"{low}%", x2=f"{high}%", y1=HIGH / 2, y2=HIGH / 2, class_="span"))
        if math.isfinite(row.gain):
            marks.append(tag("circle", cx=f"{self.at(row.gain)}%", cy=HIGH / 2, r=4.5))
        return _strip(marks, HIGH)


def _zero_of(strips: _Strips | None) -> str | None:
    """Where the style sheet draws the line of 0 through all rows."""
    return f"--zero:{strips.at(0)}" if strips is not None else None


def _strip(marks: Sequence[Raw | str], height: int) -> Raw:
    return tag("svg", list(marks), width="100%", height=height, aria_hidden="true")


def _strips_of(rows: Sequence[FirstRow]) -> _Strips:
    """The scale on which all gains, their intervals and 0 have a place."""
    ends = [end for row in rows for end in (row.gain, row.gain_low, row.gain_high) if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    low, high = min(low, -SIDE * high), max(high, -SIDE * low)
    return _Strips(low, high) if high > low else _Strips(-1.0, 1.0)
