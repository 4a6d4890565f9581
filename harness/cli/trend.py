"""``harness trend``: how every cell moved over many runs."""

import argparse
from typing import Any

from harness.cli.compare import chosen_verdicts
from harness.cli.filters import add_filters
from harness.cli.parser import RUN_HELP, Parser, add_file, add_runs_folder, add_verb
from harness.cli.words import TREND_VERDICTS

EXAMPLES = {
    "harness trend monday tuesday wednesday thursday": "the cells that moved over four runs",
    "harness trend nightly-1 nightly-2 nightly-3 nightly-4 --fail-on worse --csv trend.csv": (
        "the exit status is 1 if a cell ended worse than it was"
    ),
    "harness trend nightly-1 nightly-2 nightly-3 nightly-4 --html trend.html": "the same as a page with plots",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "trend",
        "show how every cell moved over many runs",
        """
Runs are ordered by the time of their last row. The means of a cell over the runs are divided into levels, and the last
level is compared with the best one before it. The verdicts: worse, better, moved (a metric without a direction), stable
(there is only one level), few (the values vary, and fewer than eight runs have one, so that nothing can be tested; or
only one run has one). Values that repeat from run to run need no test. First comes a sentence, then a table of the
cells that changed, the worst first. --metric and --explainer decide what is shown and written, and what --fail-on looks
at; tests stay corrected over all cells.""",
        EXAMPLES,
    )
    parser.add_argument("names", nargs="+", metavar="RUN", help=f"the runs, in any order: {RUN_HELP}")
    parser.add_argument(
        "--fail-on",
        default="",
        metavar="A,B",
        help=f"exit status 1 if a cell has one of the verdicts {', '.join(TREND_VERDICTS)}",
    )
    parser.add_argument("--all", action="store_true", help="list every cell, with all its levels")
    add_filters(parser)
    add_file(parser, "--csv", "write every cell as CSV, with its value in each run")
    add_file(parser, "--html", "write a page for a browser, with a plot of each cell that changed; it needs no network")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print the cells that moved; 1 if a cell that is shown has a verdict that ``--fail-on`` names."""
    failing = chosen_verdicts(chosen.fail_on, TREND_VERDICTS)
    from harness.cli.trend_text import show_trend  # its libraries take a second to import

    return show_trend(chosen, failing)
