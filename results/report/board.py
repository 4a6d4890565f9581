"""The leaderboard on the page and in its twin in Markdown; what it shows is derived in ``harness.results.board``."""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.results.board import DIRECTIONS
from harness.results.formats import CONTROLS_ROW, starts_controls
from harness.results.place import Place
from harness.results.plain_text import markdown_text
from harness.results.report.blocks import ReportBlock
from harness.results.report.elements import Head, TableCell, column_chooser, filter_box, html_table
from harness.results.report.markup import Raw, soft, tag

BOARD_MARKS = (
    "Mean over samples with its 95 % interval, rank after #. Bold: the best explainer that is no control; underlined: "
    "not shown to be worse than it. The chance of any false claim among all pairs of one metric is 5 %; metrics beside "
    "the headline are exploratory. A * marks a note. A rank of – means that the cells cannot be compared, for instance "
    "because not all have a score on the same samples; costs are ranked but not tested."
)
LETTER_MARK = "Explainers that share a letter are not shown to differ."
CONTROLS = "Controls, which do not look at the model"
STANDINGS = {"best": "the best", "near": "not shown to be worse than the best"}
Places = Mapping[tuple[str, str], Place]


def entries(block: ReportBlock) -> Places:
    """All places of a block's leaderboard by (metric, label of the explainer)."""
    return block.places


def leaderboard_part(block: ReportBlock, places: Places) -> Raw:
    """A block's leaderboard, the headline metric first, with a filter for its rows and a chooser for its columns."""
    name, metrics = f"board-{block.key}", sorted(block.metrics, key=lambda metric: metric != block.headline)
    heads = [Head("explainer", parts=("mark",))] + [_metric_head(block, metric) for metric in metrics]
    row = lambda label: [_explainer_cell(block, label), *(_place_cell(block, places, m, label) for m in metrics)]
    own, controls = ([row(x) for x in block.explainers if (x in block.controls) == apart] for apart in (False, True))
    caption = f"Leaderboard of {block.heading}: {block.samples} samples"
    tools = tag("div", filter_box(name, "Filter explainers"), _metric_chooser(block, name, metrics), class_="tools")
    table = html_table(caption, heads, own, classes="board", name=name, apart=(CONTROLS, controls))
    return tag("div", tools, table, tag("p", BOARD_MARKS, class_="fine"))


def _metric_chooser(block: ReportBlock, name: str, metrics: Sequence[str]) -> Raw:
    """The metrics by kind; the main ones are the headline metric and the first one of every other kind."""
    kinds: dict[str, list[str]] = {}
    for metric in metrics:
        kinds.setdefault(block.about["kind"][metric] or "other", []).append(metric)
    return column_chooser(name, kinds, {of_kind[0] for of_kind in kinds.values()})


def _metric_head(block: ReportBlock, metric: str) -> Head:
    tip = f"{metric}\n{block.about['kind'][metric]}; {DIRECTIONS.get(block.better(metric), 'no direction')}"
    text = "\u00a0".join(block.head(metric).rsplit(" ", 1)) if block.better(metric) else metric
    return Head(text, True, block.unit(metric), tip, metric, ("low", "high", "rank", "note"))


def _explainer_cell(block: ReportBlock, label: str) -> TableCell:
    word = tag("span", "library's row, not ranked", class_="word") if label in block.with_caveat else ""
    return TableCell([soft(label), word], label, parts=(block.mark(label),))


def _place_cell(block: ReportBlock, places: Places, metric: str, label: str) -> TableCell:
    place, row = places[metric, label], block.cell(metric, label)
    if place.hole:
        shown = tag("span", place.text + place.star, class_="hole")
        return TableCell(shown, None, "is-hole", place.note, (None, None, None, place.note))
    first = [
        tag("span", place.rank, class_="rank") if place.rank else "",
        tag("span", place.text, class_=f"mean {place.standing}".strip()),
        place.star,
    ]
    shown = [*first, tag("span", place.interval, class_="below") if place.interval else ""]
    tip = "\n".join(text for text in (STANDINGS.get(place.standing), place.note) if text)
    numbers = tuple(float(row[name]) if np.isfinite(row[name]) else None for name in ("ci_low", "ci_high", "rank"))
    return TableCell(shown, place.value, "", tip, (*numbers, place.note))


def markdown_lines(block: ReportBlock, places: Places) -> list[str]:
    """The leaderboard as a table in Markdown."""
    heads = ["explainer", *map(block.head, block.metrics)]
    rows = []
    for row, label in enumerate(block.explainers):
        rows += [[Formatted(CONTROLS_ROW), *[""] * len(block.metrics)]] if starts_controls(block, row) else []
        shown = (Formatted(_place_in_markdown(places[metric, label])) for metric in block.metrics)
        rows.append([block.named(label), *shown])
    return markdown_rows(heads, rows)


def _place_in_markdown(place: Place) -> str:
    if place.hole:
        return markdown_text(place.text + place.star)
    mean = {"best": f"**{place.text}**", "near": f"<u>{place.text}</u>"}.get(place.standing, place.text)
    parts = [mean, markdown_text(place.interval), place.rank + markdown_text(place.star), place.letters]
    return " ".join(part for part in parts if part)


def remarks(block: ReportBlock, places: Places) -> list[str]:
    """What the ``*`` and the ``–`` of the leaderboard say, each text once, as a list in Markdown."""
    concerned: dict[tuple[str, str], list[str]] = {}
    for (metric, label), place in places.items():
        if place.remarks:
            concerned.setdefault(("*", " · ".join(place.remarks)), []).append(f"{label} {metric}")
    for metric in block.metrics:
        for reason in dict.fromkeys(places[metric, label].unranked for label in block.explainers):
            if reason:
                concerned.setdefault(("–", f"no rank: {reason}"), []).append(metric)
    texts = [f"{mark} {', '.join(who)}: {text}" for (mark, text), who in concerned.items()]
    return [f"- {markdown_text(text)}" for text in texts]


class Formatted(str):
    """Text that is Markdown already."""


def markdown_rows(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table in Markdown; all text that is not ``Formatted`` is escaped."""
    shown = lambda cell: cell if isinstance(cell, Formatted) else markdown_text(cell)
    line = lambda cells: f"| {' | '.join(map(shown, cells))} |"
    return [line(heads), f"|{' --- |' * len(heads)}", *map(line, rows)]
