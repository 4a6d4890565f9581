"""Writes the main job's results into the pages: run ``harness run``, then ``python docs/make.py``.

The README gets what ``harness table`` prints, docs/main_job.md also the leaderboard, docs/contact_sheet.jpg the
picture.
``python docs/make.py RUN RUNS`` takes another run and another folder of runs. Other generated parts of the pages:
``python docs/capabilities.py`` (lists of items), ``python docs/agreement.py`` (docs/agreement.md) and
``pytest tests/speed --speed-table docs/speed.md``.
"""

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from pages import replaced
from PIL import Image

from harness.cli.main import main
from harness.results.plain_text import fenced

ROOT = Path(__file__).parents[1]
MARK = "main job"
SHEET_WIDTH = 1600


def printed(*command: str) -> str:
    """What ``harness`` prints with these arguments."""
    text = StringIO()
    with redirect_stdout(text):
        main(list(command))
    return text.getvalue().strip("\n")


def write(page: Path, text: str) -> None:
    """Put a text as a block between the marks of a page."""
    page.write_text(replaced(page.read_text(encoding="utf-8"), MARK, fenced(text)), encoding="utf-8")


def write_contact_sheet(folder: Path) -> None:
    """Write the run's contact sheet in the size of a page."""
    (sheet,) = folder.glob("lite0-photos*.png")
    picture = Image.open(sheet).convert("RGB")
    picture.thumbnail((SHEET_WIDTH, 10 * SHEET_WIDTH), Image.Resampling.LANCZOS)
    picture.save(ROOT / "docs" / "contact_sheet.jpg", quality=85, optimize=True)


def make(run: str = "main", runs: str = str(ROOT / "runs")) -> None:
    """Update the pages and their picture from a run."""
    write(ROOT / "README.md", printed("table", run, "--runs", runs))
    write(ROOT / "docs" / "main_job.md", printed("table", run, "--runs", runs, "--all"))
    write_contact_sheet(Path(runs, run))


if __name__ == "__main__":
    make(*sys.argv[1:])
