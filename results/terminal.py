"""What tables in a terminal or a log share: their lines, their width, and rich's tables as lines of text."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from textwrap import fill
from typing import TextIO

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

LOG_WIDTH, LEAST_WIDTH, GAP = 120, 100, 3
LINES = Box("    \n    \n ── \n    \n ┄┄ \n    \n    \n    \n")


def width_of(file: TextIO) -> int:
    """Characters in a line: those of the terminal, at least 100; 120 in a log."""
    return max(LEAST_WIDTH, shutil.get_terminal_size().columns) if file.isatty() else LOG_WIDTH


def unframed_table() -> Table:
    """An empty table without a frame."""
    return Table(box=LINES, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")


def rendered(thing: Table | Text, colour: bool) -> Iterator[str]:
    """What rich makes of it, as lines however wide, and an empty one; whoever makes a table sees to its width."""
    colours = "standard" if colour else None
    console = Console(file=StringIO(), width=10_000, force_terminal=colour, color_system=colours, force_jupyter=False)
    with console.capture() as capture:
        console.print(thing, soft_wrap=True)
    yield from (line.rstrip() for line in capture.get().splitlines())
    yield ""


def header_and_rows(columns: Mapping[str, str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """The lines of a table's header, and one line for each row, without colours and however wide.

    columns   header -> where its texts stand: left or right
    """
    table = Table(box=LINES, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for header, justify in columns.items():
        table.add_column(Text(header), no_wrap=True, justify=justify)
    for row in rows:
        table.add_row(*map(Text, row))  # in plain strings rich takes ``[a=b]`` for markup and drops it
    lines = list(rendered(table, False))[:-1]
    return lines[: len(lines) - len(rows)], lines[len(lines) - len(rows) :]


def in_lines(text: str, width: int, indent: str = "") -> str:
    """A paragraph broken at spaces; lines after the first are indented."""
    return fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
