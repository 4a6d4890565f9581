"""Writes the main job's results into the pages: run ``harness run``, then ``python docs/make.py``.

The README gets a part of the leaderboard, docs/main_job.md the whole of it, and docs/contact_sheet.jpg the picture.
``python docs/make.py RUN RUNS`` takes another run and another folder of runs. Other generated parts of the pages:
``python docs/capabilities.py`` (lists of items), ``python docs/agreement.py`` (docs/agreement.md) and
``pytest tests/speed --speed-table docs/speed.md``.
"""

import sys
from contextlib import redirect_stdout
from io import StringIO
from itertools import groupby
from pathlib import Path

from pages import replaced
from PIL import Image

from harness.cli.main import main

ROOT = Path(__file__).parents[1]
MARK = "main job"
SHEET_WIDTH = 1600
MOST_EXPLAINERS, MOST_CONTROLS = 6, 2  # shown in the README
RULES = "─┄"  # of the lines below the headings of a panel, and above its controls


def leaderboard(run: str, runs: str) -> str:
    """What ``harness table`` prints of the run."""
    printed = StringIO()
    with redirect_stdout(printed):
        main(["table", run, "--runs", runs])
    return printed.getvalue().strip("\n")


def part(text: str) -> str:
    """The first panel of a printed leaderboard: its best explainers and controls, and how many more there are."""
    legend, heading, panel = text.split("\n\n")[:3]
    parts = [list(lines) for _, lines in groupby(panel.splitlines(), key=lambda line: bool(set(line) & set(RULES)))]
    headings, below, explainers, above, controls = parts
    shown = [
        *headings,
        *below,
        *_first(explainers, MOST_EXPLAINERS, "explainers"),
        *above,
        *_first(controls, MOST_CONTROLS, "controls"),
    ]
    return "\n".join([legend, "", heading, "", *(line.rstrip() for line in shown)])


def _first(lines: list[str], most: int, what: str) -> list[str]:
    rest = len(lines) - most
    return lines if rest <= 0 else [*lines[:most], f"... {rest} more {what}"]


def write(page: Path, text: str) -> None:
    """Put a text as a block between the marks of a page."""
    page.write_text(replaced(page.read_text(encoding="utf-8"), MARK, f"```\n{text}\n```"), encoding="utf-8")


def write_contact_sheet(folder: Path) -> None:
    """Write the run's contact sheet in the size of a page."""
    (sheet,) = folder.glob("lite0-photos*.png")
    picture = Image.open(sheet).convert("RGB")
    picture.thumbnail((SHEET_WIDTH, 10 * SHEET_WIDTH), Image.Resampling.LANCZOS)
    picture.save(ROOT / "docs" / "contact_sheet.jpg", quality=85, optimize=True)


def make(run: str = "main", runs: str = str(ROOT / "runs")) -> None:
    """Update the pages and their picture from a run."""
    text = leaderboard(run, runs)
    write(ROOT / "README.md", part(text))
    write(ROOT / "docs" / "main_job.md", text)
    write_contact_sheet(Path(runs, run))


if __name__ == "__main__":
    make(*sys.argv[1:])
