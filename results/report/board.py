"""The leaderboard on the page and in its twin in Markdown; what it shows is derived in ``harness.results.board``."""

from collections.abc import Mapping, Sequence

from harness.results.board import DIRECTIONS
from harness.results.formats import CONTROLS_ROW, starts_controls
from harness.results.place import Place
from harness.results.plain_text import markdown_text
from harness.results.report.blocks import ReportBlock
from harness.results.report.elements import Cell, Head, chips, filter_box, html_table
from harness.results.report.markup import Raw, soft, tag

BOARD_MARKS = (
    "Mean over samples with its 95 % interval, rank after #. Bold: the best explainer that is no control; underlined: "
    "not shown to be worse than it. Explainers that share a letter are not shown to differ. The chance of any false "
    "claim among all pairs of one metric is 5 %; metrics beside the headline are exploratory. A * marks a note. A rank "
    "of – means that the cells cannot be compared, for instance because not all have a score on the same samples; "
    "costs are ranked but not tested."
)
STANDINGS = {"best": "the best", "near": "not shown to be worse than the best"}
Places = Mapping[tuple[str, str], Place]


def entries(block: ReportBlock) -> Places:
    """All places of a block's leaderboard by (metric, label of the explainer)."""
    return block.places


def leaderboard_part(block: ReportBlock, places: Places) -> Raw:
    """A block's leaderboard with its filter and chips."""
    name = f"board-{block.key}"
    heads = [Head("explainer")] + [_metric_head(block, metric) for metric in block.metrics]
    rows = [
        [_explainer_cell(block, label), *(_place_cell(places[metric, label]) for metric in block.metrics)]
        for label in block.explainers
    ]
    kinds = list(dict.fromkeys(block.about["kind"][metric] for metric in block.metrics))
    tools = tag("div", filter_box(name, "Filter explainers"), chips(name, kinds), class_="tools")
    caption = f"Leaderboard of {block.heading}: {block.samples} samples"
    classes = ["control" if label in block.controls else "" for label in block.explainers]
    return tag(
        "div",
        tools,
        html_table(caption, heads, rows, classes="board", name=name, row_classes=classes),
        tag("p", BOARD_MARKS, class_="fine"),
    )


def _metric_head(block: ReportBlock, metric: str) -> Head:
    kind = block.about["kind"][metric]
    tip = f"{metric}\n{kind}; {DIRECTIONS.get(block.better(metric), 'no direction')}"
    return Head(block.head(metric), True, block.unit(metric), tip, kind)


def _explainer_cell(block: ReportBlock, label: str) -> Cell:
    word = "control" if label in block.controls else "library's row, not ranked" if label in block.with_caveat else ""
    return Cell([soft(label), tag("span", word, class_="word") if word else ""], label)


def _place_cell(place: Place) -> Cell:
    if place.hole:
        return Cell(tag("span", place.text + place.star, class_="hole"), None, "is-hole", place.note)
    below = [
        tag("span", place.interval, class_="interval"),
        tag("span", place.rank + place.star, class_="rank"),
        tag("span", place.letters, class_="letters") if place.letters else "",
    ]
    tip = "\n".join(text for text in (STANDINGS.get(place.standing), place.note) if text)
    return Cell(
        [tag("span", place.text, class_=f"mean {place.standing}"), tag("span", below, class_="below")],
        place.value,
        "",
        tip,
    )


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
