"""A table as lines of text without colours, however wide."""

from collections.abc import Mapping, Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.results.leaderboard import LINES


def plain_table(columns: Mapping[str, str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """The lines of the header, and one line for each row.

    columns   header -> where its texts stand: left or right
    """
    table = Table(box=LINES, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for header, justify in columns.items():
        table.add_column(Text(header), no_wrap=True, justify=justify)
    for row in rows:
        table.add_row(*map(Text, row))  # in plain strings rich takes ``[a=b]`` for markup and drops it
    console = Console(file=StringIO(), width=10_000, force_jupyter=False, color_system=None)
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return lines[: len(lines) - len(rows)], lines[len(lines) - len(rows) :]
