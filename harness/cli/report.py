"""``harness report``: runs as one page that works offline, and the same in Markdown."""

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.cli.parser import RUN_HELP, Parser, add_runs_folder, add_verb, some_text
from harness.cli.progress_line import progress_line

EXAMPLES = {
    "harness report": "runs/RUN/report.html and report.md for the latest run",
    "harness report monday tuesday --out both.html": "two runs on one page, and what changed between them",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "report",
        "write one page about runs for a browser, and the same in Markdown",
        """
For each model and data set: the verdict in words, the leaderboard, curves, maps, and how to reproduce it. Where several
runs measured the same, they stand side by side with what changed. The page needs no network. Of a choice of harness
choose, the page is there already: its answer and its place are printed.""",
        EXAMPLES,
    )
    parser.add_argument(
        "names", nargs="*", metavar="RUN", help=f"{RUN_HELP} (default: latest); several are put on one page"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=some_text, help="the page (default: report.html in the folder of the last run)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Write the report; print its first sentences and where it is."""
    from harness.results.choice_files import PAGE, find_choice

    choice = find_choice(chosen.names[0], chosen.runs) if len(chosen.names) == 1 else None
    if choice is not None:
        from harness.cli.choice_text import report_choice

        return report_choice(choice, chosen.out)
    from harness.results.first_screen import sentences
    from harness.results.frames import find_run
    from harness.results.plain_text import drawable, drawable_lines
    from harness.results.terminal import width_of
    from harness.views.report import write_report

    answers = []
    with progress_line(quiet=chosen.quiet):
        path = write_report(chosen.names, chosen.out, runs_directory=chosen.runs, tell=answers.extend)
    for line in sentences(answers, width_of(sys.stdout)):
        print(drawable_lines(line))
    print(f"report: {drawable(path)} ({path.stat().st_size / 1e6:.1f} MB) and {drawable(path.with_suffix('.md').name)}")
    pages = dict.fromkeys(find_run(name, chosen.runs) / PAGE for name in chosen.names or ["latest"])
    for page in filter(Path.is_file, pages):
        print(f"choice of harness choose: {drawable(page)}")
    return 0
