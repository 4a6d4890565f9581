"""What the commands that write pages share: parts of a page between two marks, tables, and pictures."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


def replaced(page: str, mark: str, part: str) -> str:
    """The text of a page with what stands between the marks ``mark: begin`` and ``mark: end`` replaced."""
    start, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, found, rest = page.partition(start)
    if not found or end not in rest:
        raise ValueError(f"the page has no marks {start} and {end}")
    return f"{before}{start}\n{part}\n{end}{rest.partition(end)[2]}"


def as_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    cells = (tuple(heads), ("---",) * len(heads), *(tuple(map(str, row)) for row in rows))
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def save_picture(drawing: Figure, path: Path, width: int, colours: int | None = None) -> None:
    """Write a figure as a PNG at most ``width`` pixels wide, with at most so many ``colours`` (None: all)."""
    drawing.savefig(path, format="png")
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
    (picture if colours is None else picture.quantize(colours)).save(path, optimize=True)
