"""The first screen of a run in a terminal or a log: the answer in words, and a table of one row per explainer.

Of several boards it has a sentence and a table each; of more than ``MOST_TABLES``, one table with a row for each board.
"""

import math
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from harness.results.answer import Answer, answer
from harness.results.board import Board
from harness.results.first_table import (
    NO_NUMBER,
    FirstRow,
    board_row,
    counted_boards,
    fewer_rows,
    first_rows,
    legend,
)
from harness.results.numbers import rounded_together, significant
from harness.results.terminal import in_lines, rendered, unframed_table

MOST_ROWS, MOST_TABLES, FOREST = 20, 2, 21
STYLES = {"first": "bold green", "choice": "green", "worse": "dim", "control": "dim", "none": "dim"}
POINT, LINE, ZERO = "●", "─", "│"


def first_lines(boards: Sequence[Board], width: int, colour: bool) -> Iterator[str]:
    """The first screen as lines of text."""
    if not boards:
        yield "no cells yet"
    elif len(boards) > MOST_TABLES:
        yield from _lines_of_boards(boards, width, colour)
    for board in boards if len(boards) <= MOST_TABLES else []:
        yield from _lines_of_board(board, width, colour, several=len(boards) > 1)


def sentences(answers: Sequence[Answer], width: int) -> Iterator[str]:
    """The answers in words: of each board, or of more than ``MOST_TABLES`` how many have an explainer to use."""
    if len(answers) > MOST_TABLES:
        yield in_lines(counted_boards([each.verdict for each in answers]), width)
        return
    for each in answers:
        yield in_lines(f"{each.heading}: {each.text}" if len(answers) > 1 else each.text, width)


def _lines_of_board(board: Board, width: int, colour: bool, *, several: bool) -> Iterator[str]:
    found = answer(board)
    heading = list(rendered(Text(board.heading, style="bold"), colour))[:1]
    yield from heading if several else []
    yield from (in_lines(found.text, width), "")
    if board.headline is None:
        return
    yield from [] if several else heading
    rows, more = fewer_rows(first_rows(board, found.verdict), MOST_ROWS)
    fits = max(map(cell_len, rendered(_first_table(board, found, rows, forest=True), False))) <= width
    yield from list(rendered(_first_table(board, found, rows, forest=fits), colour))[:-1]
    if more:
        yield f"… and {more} more"
    yield from (in_lines(note, width, "  ") for note in legend(board, found.verdict.control, rows))
    yield ""


def _first_table(board: Board, found: Answer, rows: Sequence[FirstRow], *, forest: bool) -> Table:
    """The rows of a board as rich's table, with a forest plot of the gains or without."""
    control = found.verdict.control
    scale = _Scale.of(rows)
    table = unframed_table()
    table.add_column("explainer", no_wrap=True)
    table.add_column(Text(f"{board.head(board.headline)}\n{board.unit(board.headline)}"), no_wrap=True, justify="right")
    if control is not None:
        table.add_column(Text(f"gain over\n{control}"), no_wrap=True)
    if control is not None and forest:
        table.add_column(Text(f"\n{scale.heading}"), no_wrap=True)
    table.add_column(Text("seconds\na sample"), no_wrap=True, justify="right")
    table.add_column("verdict", no_wrap=True)
    gains = _in_columns([(row.gain, row.gain_low, row.gain_high) for row in rows])
    last = max((place for place, row in enumerate(rows) if row.standing != "control"), default=None)
    for place, (row, gain) in enumerate(zip(rows, gains, strict=True)):
        middle = [Text(gain), Text(scale.drawn(row))][: 1 + forest] if control is not None else []
        texts = [Text(row.label), Text(row.score_text), *middle, Text(row.cost_text), Text(row.word)]
        table.add_row(*texts, style=STYLES.get(row.standing, ""), end_section=place == last)
    return table


def _in_columns(numbers: Sequence[tuple[float, float, float]]) -> list[str]:
    """Numbers with their intervals, ends and points below each other."""
    parts = [
        rounded_together(*each) if all(map(math.isfinite, each)) else (_or_dot(each[0]), "", "") for each in numbers
    ]
    widths = [max((len(part[i]) for part in parts), default=0) for i in range(3)]
    return [_number_with_ends([text.rjust(wide) for text, wide in zip(part, widths, strict=True)]) for part in parts]


def _or_dot(value: float) -> str:
    return significant(value) if math.isfinite(value) else NO_NUMBER


def _number_with_ends(parts: Sequence[str]) -> str:
    return f"{parts[0]} [{parts[1]}, {parts[2]}]" if parts[1].strip() else parts[0]


class _Scale:
    """The common scale of a forest plot: a character's place for a number."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.step = low, (high - low) / (FOREST - 1) or 1.0

    @classmethod
    def of(cls, rows: Sequence[FirstRow]) -> "_Scale":
        """The scale on which all gains, their intervals and 0 have a place."""
        ends = [end for row in rows for end in (row.gain, row.gain_low, row.gain_high) if math.isfinite(end)]
        return cls(min([0.0, *ends]), max([0.0, *ends]))

    def place(self, value: float) -> int:
        """The character of a number."""
        return round((value - self.low) / self.step)

    @property
    def heading(self) -> str:
        """``worse │ better`` with the line at 0."""
        left, right = "worse " if self.place(0) >= 6 else "", " better" if self.place(0) <= FOREST - 8 else ""
        return (left.rjust(self.place(0)) + ZERO + right).ljust(FOREST)

    def drawn(self, row: FirstRow) -> str:
        """A row's interval as a line, its gain as a point, and 0 as a bar."""
        marks = [" "] * FOREST
        if math.isfinite(row.gain_low):
            # An interval without 0 does not touch the line at 0; one that is too small for that is its point alone.
            first = self.place(0) + 2 if row.gain_low > 0 else 0
            last = self.place(0) - 2 if row.gain_high < 0 else FOREST - 1
            for place in range(max(first, self.place(row.gain_low)), min(last, self.place(row.gain_high)) + 1):
                marks[place] = LINE
        marks[self.place(0)] = ZERO
        if math.isfinite(row.gain):
            marks[self.place(row.gain)] = POINT
        return "".join(marks)


def _lines_of_boards(boards: Sequence[Board], width: int, colour: bool) -> Iterator[str]:
    """How many boards have an explainer to use, and a row for each board."""
    answers = [answer(board) for board in boards]
    yield from (*sentences(answers, width), "")
    table = unframed_table()
    for head in ("model and data", "use", "gain over the best control", "seconds\nper sample", "metric"):
        table.add_column(Text(head), no_wrap=True)
    for board, each in zip(boards, answers, strict=True):
        table.add_row(*map(Text, _row_of_board(board, each)), style="" if each.verdict.choices else "dim")
    yield from list(rendered(table, colour))[:-1]
    for each in answers:
        if each.verdict.refused:
            yield in_lines(f"{each.heading}: {each.verdict.refused}", width, "  ")
    yield in_lines("harness table --all shows each block by itself.", width)


def _row_of_board(board: Board, found: Answer) -> list[str]:
    each = board_row(board, found.verdict)
    if each.row is None:
        return [each.heading, "no verdict", "", "", ""]
    gain = each.row.gain_text if found.verdict.control is not None else "no control"
    return [each.heading, each.use, gain, each.row.cost_text, each.metric]
