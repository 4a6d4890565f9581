"""``harness report``: runs as one page that works offline, and its twin in Markdown."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.results.frames import find_run


def report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    runs_directory: str | Path = "runs",
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write the report of one run or several, a block for each model and data set; gives the page's path.

    ``runs`` are names under ``runs_directory``, folders, ``latest`` or ``previous``. The page is ``report.html`` in the
    last one's folder, or ``out``; the same in Markdown lies beside it. ``tell`` hears what is being made.
    """
    from harness.results.disk import whole_file
    from harness.results.report.blocks import blocks_of
    from harness.results.report.board import entries
    from harness.results.report.gallery import MOST_TILES, gallery
    from harness.results.report.markdown import markdown
    from harness.results.report.page import page
    from harness.results.report.verdict import verdict

    tell = tell or (lambda text: None)
    asked = [runs] if isinstance(runs, str | Path) else list(runs)
    directories = list(dict.fromkeys(find_run(run, runs_directory) for run in asked or ["latest"]))
    path = Path(out) if out else directories[-1] / "report.html"
    tell(f"reading {', '.join(directory.name for directory in directories)}")
    blocks = blocks_of(directories)
    tell("comparing explainers")
    verdicts, boards = [verdict(block) for block in blocks], [entries(block) for block in blocks]
    tell("drawing maps")
    galleries = [gallery(block, MOST_TILES // max(1, len(blocks))) for block in blocks]
    title = f"Report of {', '.join(directory.name for directory in directories)}"
    texts = {
        path: page(title, blocks, verdicts, boards, galleries, tell=tell),
        path.with_suffix(".md"): markdown(title, blocks, verdicts, boards, galleries),
    }
    for place, text in texts.items():
        with whole_file(place) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


def show_report(arguments: list[str]) -> int:
    """What ``harness report`` was asked for with these arguments; the exit status."""
    parser = argparse.ArgumentParser(prog="harness report")
    runs_help = "a name under runs/, a folder, latest or previous; several are put on one page"
    parser.add_argument("runs", nargs="*", default=["latest"], metavar="RUN", help=runs_help)
    parser.add_argument("--out", metavar="FILE", help="the page (default: report.html in the last run's folder)")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    parser.add_argument("--runs", dest="folder", default="runs", help="the folder in which runs lie (default: runs)")
    chosen = parser.parse_args(arguments)
    shown = sys.stderr.isatty() and not chosen.quiet
    tell = lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    path = report(chosen.runs, chosen.out, runs_directory=chosen.folder, tell=tell if shown else None)
    if shown:
        print("\r\033[K", end="", file=sys.stderr)
    print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB) and {path.with_suffix('.md').name}")
    return 0
