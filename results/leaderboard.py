"""The leaderboards of a run for a terminal or a log.

There is one block per model, data set and protocol. Explainers are rows, metrics are columns; if the columns exceed the
width, they are divided into panels. Notes stand below. ``harness.results.board`` computes the content.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import pandas as pd
from rich.table import Table
from rich.text import Text

from harness.results.board import ARROWS, Board
from harness.results.board import KINDS as KINDS  # read here by what writes the pages of docs/
from harness.results.boards import boards_of
from harness.results.family import LEAST_SAMPLES
from harness.results.footnotes import WORDS, footnotes
from harness.results.one_vote import one_vote_notes
from harness.results.place import Place
from harness.results.terminal import GAP, in_lines, rendered, unframed_table, width_of

LETTERS = "; explainers that share a letter are not shown to differ (at most 5 % false claims for a metric)"
BOARD_LEGEND = "mean [95 % interval] #rank; ↑ higher is better, ↓ lower is better; * see the notes below the block"
STYLES = {WORDS["failed"]: "bold red"}


@dataclass(frozen=True)
class PanelColumn:
    """One metric's column: a header of two lines, and a text for each explainer."""

    header: str
    texts: Mapping[str, Text]

    @property
    def width(self) -> int:
        """Characters of its widest line."""
        return max(len(line) for line in [*self.header.split("\n"), *(text.plain for text in self.texts.values())])


def print_table(
    cells: pd.DataFrame,
    scores: pd.DataFrame | None = None,
    *,
    file: TextIO | None = None,
    width: int | None = None,
) -> None:
    """Print the cells of a run as leaderboards of explainers, with the metrics' means, intervals and ranks.

    Rows are in the order of the headline metric, controls last. A library's implementation that differs from the
    publication is marked with the library's name and has no rank. Without a terminal there are no colours, and lines
    have 120 characters. With the run's ``scores``, letters follow the ranks: explainers that share one are not
    shown to differ. Notes say why a cell is n/a or failed, and list flags.
    """
    file = file or sys.stdout
    file.write("\n".join(table_lines(boards_of(cells, scores), width or width_of(file), file.isatty())) + "\n")


def table_lines(boards: Sequence[Board], width: int, colour: bool) -> Iterator[str]:
    """The leaderboards as lines of text."""
    if not boards:
        yield "no cells yet"
        return
    lettered = any(place.letters for board in boards for place in board.places.values())
    yield in_lines(BOARD_LEGEND + (LETTERS if lettered else ""), width)
    for board in boards:
        yield ""
        yield from _board_lines(board, width, colour)


def _board_lines(board: Board, width: int, colour: bool) -> Iterator[str]:
    names = {label: board.named(label) for label in board.explainers}
    yield from rendered(Text(f"{board.heading}: {_sizes(board.visible)}", style="bold"), colour)
    costs = [metric for metric in board.metrics if board.about.loc[metric, "kind"] == "cost"]
    room = width - max(len(name) for name in names.values())
    for group in ([metric for metric in board.metrics if metric not in costs], costs):
        columns = [_panel_column(board, metric) for metric in group]
        for columns_of_panel in groups_that_fit(columns, room, GAP):
            yield from rendered(_panel_table(columns_of_panel, names, board), colour)
    for note in [*footnotes(board.visible), *_too_few_samples(board), *same_votes(board)]:
        yield in_lines(note, width, "  ")


def _too_few_samples(board: Board) -> Iterator[str]:
    """A note on the metrics that have too few samples for any two explainers to be shown to differ."""
    few = [metric for metric, family in board.families.items() if not family.able]
    if few:
        yield f"– no differences can be shown: {', '.join(few)}: {LEAST_SAMPLES} samples are the fewest for a test"


def same_votes(board: Board) -> Iterator[str]:
    """A note on each metric that ranks explainers identically to one before it, so that nobody counts both."""
    ranking = [board.matrices[m] for m in board.metrics if m in board.families]
    yield from (f"– {text}" for text in one_vote_notes(ranking))


def _sizes(cells: pd.DataFrame) -> str:
    samples = (cells["n"] + cells["n_invalid"])[cells["status"] == "ok"].dropna().unique()
    words = " or ".join(str(number) for number in sorted(samples)) or "no"
    return f"{words} samples, {cells['explainer'].nunique()} explainers, {cells['metric'].nunique()} metrics"


def _panel_column(board: Board, metric: str) -> PanelColumn:
    """A metric's places, with means, bounds and ranks aligned below each other."""
    places = {label: board.places[metric, label] for label in board.explainers}
    parts = {label: _place_parts(place) for label, place in places.items()}
    widths = [max((len(part[i]) for part in parts.values() if len(part) > 1), default=0) for i in range(4)]
    arrow = ARROWS.get(board.better(metric), "")
    header = f"{metric} {arrow}".rstrip() + f"\n{board.unit(metric)}"
    return PanelColumn(header, {label: _place_text(places[label], parts[label], widths) for label in places})


def _place_parts(place: Place) -> tuple[str, ...]:
    """Mean, low, high, and rank with letters; or a single word if there is no number."""
    if place.hole:
        return (place.text + place.star,)
    return place.text, place.low, place.high, f"{place.rank} {place.letters}".rstrip() + place.star


def _place_text(place: Place, parts: tuple[str, ...], widths: list[int]) -> Text:
    if place.hole:
        return Text(parts[0], style=STYLES.get(place.text, "dim"))
    mean, low, high = (part.rjust(wide) for part, wide in zip(parts[:3], widths, strict=False))
    interval = f" [{low}, {high}]" if place.interval else " " * (widths[1] + widths[2] + 5 if widths[1] else 0)
    text = Text(mean, style="bold" if place.standing == "best" else "")
    text.append(interval, style="not bold dim")
    return text.append(f" {parts[3]}".ljust(widths[3] + 1))


def groups_that_fit(columns: Sequence[Any], room: float, gap: float) -> Iterator[list[Any]]:
    """Columns, each with a ``width``, in groups that fit into ``room`` with a gap behind each; at least one in each."""
    group: list[Any] = []
    for column in columns:
        if group and sum(each.width + gap for each in [*group, column]) > room:
            yield group
            group = []
        group.append(column)
    if group:
        yield group


def _panel_table(columns: list[PanelColumn], names: Mapping[str, str], board: Board) -> Table:
    """A table of some columns; labels are texts, for in plain strings rich takes ``[a=b]`` for markup and drops it."""
    table = unframed_table()
    table.add_column("explainer", no_wrap=True)
    for column in columns:
        table.add_column(Text(column.header), no_wrap=True)
    last_explainer = next((label for label in reversed(names) if label not in board.controls), None)
    for label, name in names.items():
        table.add_row(Text(name), *(column.texts[label] for column in columns), end_section=label == last_explainer)
    return table
