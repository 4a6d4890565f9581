"""Puts the main job's table and contact sheet into the README: run ``harness run``, then ``python docs/make.py``.

The tables of docs/speed.md are put there by ``pytest tests/speed --speed-table docs/speed.md``.
"""

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from pages import replaced
from PIL import Image

from harness.cli.main import main

ROOT = Path(__file__).parents[1]
SHEET_WIDTH = 1600


def first_panels(text: str, count: int = 2) -> str:
    """The heading and the first panels of a printed leaderboard."""
    panels = text.strip("\n").split("\n\n")
    return "\n\n".join(panels[: count + 2])


def make(run: str) -> None:
    """Update the README and the picture it shows from a run."""
    printed = StringIO()
    with redirect_stdout(printed):
        main(["table", run])
    readme, table = ROOT / "README.md", f"```\n{first_panels(printed.getvalue())}\n...\n```"
    readme.write_text(replaced(readme.read_text(encoding="utf-8"), "main job", table), encoding="utf-8")
    (sheet,) = (ROOT / "runs" / run).glob("lite0-photos*.png")
    picture = Image.open(sheet).convert("RGB")
    picture.thumbnail((SHEET_WIDTH, 10 * SHEET_WIDTH), Image.Resampling.LANCZOS)
    picture.save(ROOT / "docs" / "contact_sheet.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else "main")
