"""Parts of the page that several sections use: tables that sort and filter, sections, notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.results.report.blocks import ReportBlock
from harness.results.report.markup import Raw, soft, tag


@dataclass(frozen=True)
class Head:
    """A column's heading.

    text      what stands there
    numeric   whether its values are numbers, to the right
    below     a second, smaller line
    tip       what hovering says
    kind      which chip shows and hides the column
    """

    text: str
    numeric: bool = False
    below: str = ""
    tip: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Cell:
    """A table's cell: what it shows, what it is sorted by (None comes last), classes, what hovering says."""

    shown: Any
    value: float | str | None = None
    classes: str = ""
    tip: str = ""


def html_table(
    caption: str,
    heads: Sequence[Head],
    rows: Sequence[Sequence[Any]],
    *,
    classes: str = "",
    name: str | None = None,
    row_classes: Sequence[str] = (),
) -> Raw:
    """A table that sorts by its headings; the first cell of a row is its heading."""
    top = tag("tr", [_table_head(head) for head in heads])
    body = [
        tag(
            "tr",
            [_table_cell(cell, head, place == 0) for place, (cell, head) in enumerate(zip(row, heads, strict=True))],
            class_=row_classes[number] or None if row_classes else None,
        )
        for number, row in enumerate(rows)
    ]
    inner = tag(
        "table", tag("caption", caption), tag("thead", top), tag("tbody", body), class_=f"sortable {classes}", id=name
    )
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _table_head(head: Head) -> Raw:
    inner = [tag("span", soft(head.text)), tag("span", class_="mark", aria_hidden="true")]
    below = tag("span", head.below, class_="below") if head.below else ""
    return tag(
        "th",
        tag("button", inner, type="button", data_tip=head.tip or None),
        below,
        scope="col",
        aria_sort="none",
        class_="number" if head.numeric else None,
        data_kind=head.kind or None,
    )


def _table_cell(cell: Any, head: Head, first: bool) -> Raw:
    cell = cell if isinstance(cell, Cell) else Cell(cell, cell if isinstance(cell, str) else None)
    classes = f"{'number' if head.numeric else ''} {cell.classes}".strip()
    about = {
        "class_": classes or None,
        "data_kind": head.kind or None,
        "data_tip": cell.tip or None,
        "data_value": None if cell.value is None else cell.value,
        "tabindex": 0 if cell.tip else None,
    }
    shown = soft(cell.shown) if isinstance(cell.shown, str) else cell.shown
    return tag("th", shown, scope="row", **about) if first else tag("td", shown, **about)


def filter_box(target: str, words: str) -> Raw:
    """A box that shows those rows of a table that hold its text."""
    return tag(
        "label",
        tag("span", words),
        tag("input", type="search", data_filter=target, autocomplete="off", spellcheck="false"),
        class_="filter",
    )


def chips(target: str, kinds: Sequence[str]) -> Raw:
    """Buttons that show and hide kinds of columns."""
    buttons = [
        tag("button", kind, type="button", class_="chip", aria_pressed="true", data_chip=kind, data_target=target)
        for kind in kinds
    ]
    return tag("div", buttons, class_="chips", role="group", aria_label="Kinds of metrics shown")


def section(name: str, title: str, about: Any, body: Any) -> Raw:
    """A section of the page with its heading and a line on how to read it."""
    lead = tag("p", about, class_="lead") if about else ""
    return tag("section", tag("h2", title, id=f"{name}-title"), lead, body, id=name, aria_labelledby=f"{name}-title")


def of_block(block: ReportBlock, body: Any, *, several: bool) -> Raw:
    """A block's part of a section; it has a heading where there are several blocks."""
    return tag("div", tag("h3", block.heading) if several else "", body, class_="block", data_block=block.key)


def note(text: Any) -> Raw:
    """A remark where there is nothing to show."""
    return tag("p", text, class_="note")


def folded(summary: Any, body: Any, *, opened: bool = False) -> Raw:
    """A part that opens on a click."""
    return tag("details", tag("summary", summary), body, open=opened)
