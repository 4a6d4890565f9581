"""Parts of the page that several sections use: tables that sort, filter and can be saved, sections, notes."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
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
    name      what the column is called in a CSV file; its text by default
    parts     names of further columns in a CSV file, whose values the cells of this column have
    """

    text: str
    numeric: bool = False
    below: str = ""
    tip: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableCell:
    """A table's cell: what it shows, what it is sorted by (None comes last), classes, what hovering says, and the
    values of its column's ``parts`` in a CSV file."""

    shown: Any
    value: float | str | None = None
    classes: str = ""
    tip: str = ""
    parts: tuple[float | str | None, ...] = ()


def html_table(
    caption: str,
    heads: Sequence[Head],
    rows: Sequence[Sequence[Any]],
    *,
    classes: str = "",
    name: str | None = None,
    apart: tuple[str, Sequence[Sequence[Any]]] | None = None,
) -> Raw:
    """A table that sorts by its headings and can be saved as a CSV file; the first cell of a row is its heading.

    ``apart`` are a heading and rows that stand below the others, and are sorted among themselves.
    """
    bodies = [tag("tbody", [_table_row(row, heads) for row in rows])]
    if apart and apart[1]:
        between = tag("th", tag("span", apart[0]), colspan=len(heads), scope="rowgroup")
        bodies.append(tag("tbody", tag("tr", between), class_="between"))
        bodies.append(tag("tbody", [_table_row(row, heads) for row in apart[1]], class_="apart"))
    top = tag("thead", tag("tr", [_table_head(head) for head in heads]))
    table = tag("table", top, bodies, class_=f"sortable {classes}".strip(), id=name, aria_label=caption)
    save = tag("button", "CSV", type="button", class_="csv", aria_label=f"Save as CSV: {caption}")
    return tag(
        "div",
        tag("div", tag("p", caption, class_="caption"), save, class_="table-top"),
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption),
        class_="table-box",
    )


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
        data_name=head.name or head.text,
        data_parts=_parts_text(head.parts),
    )


def _parts_text(parts: Sequence[Any]) -> str | None:
    """Values as JSON, null for a number that is not finite; None where there are none."""
    known = [None if isinstance(part, float) and not math.isfinite(part) else part for part in parts]
    return json.dumps(known, separators=(",", ":"), ensure_ascii=False) if parts else None


def _table_row(row: Sequence[Any], heads: Sequence[Head]) -> Raw:
    return tag("tr", [_table_cell(*pair, place == 0) for place, pair in enumerate(zip(row, heads, strict=True))])


def _table_cell(cell: Any, head: Head, first: bool) -> Raw:
    cell = cell if isinstance(cell, TableCell) else TableCell(cell, cell if isinstance(cell, str) else None)
    classes = f"{'number' if head.numeric else ''} {cell.classes}".strip()
    about = {
        "class_": classes or None,
        "data_tip": cell.tip or None,
        "data_value": None if cell.value is None else cell.value,
        "data_parts": _parts_text(cell.parts),
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


def column_chooser(target: str, groups: Mapping[str, Sequence[str]], main: Collection[str]) -> Raw:
    """Boxes that show and hide the columns of a table, by group; ``main`` are those that a narrow page shows at first.

    Columns go by their ``Head.name``; those that are in no group are always shown.
    """
    box = lambda name: tag("input", type="checkbox", checked=True, data_column=name, data_main=name in main)
    fields = [
        tag(
            "fieldset",
            tag("legend", tag("label", tag("input", type="checkbox", checked=True, data_group=True), " ", group)),
            [tag("label", box(name), " ", soft(name)) for name in names],
        )
        for group, names in groups.items()
    ]
    presets = [tag("button", word.capitalize(), type="button", data_show=word) for word in ("all", "main")]
    summary = tag("summary", "Columns", tag("span", class_="count"))
    return tag(
        "details",
        summary,
        tag("div", fields, class_="groups"),
        tag("div", presets),
        class_="chooser",
        data_columns=target,
    )


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
