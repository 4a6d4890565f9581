"""``harness table``: a run's leaderboard, or another table of its results, printed or written to files."""

import argparse
from typing import Any

from harness.cli.filters import add_filters
from harness.cli.parser import RUN_HELP, Parser, add_file, add_runs_folder, add_verb
from harness.cli.words import TABLES

EXAMPLES = {
    "harness table": "which explainer to use, by the latest run",
    "harness table --all": "also the leaderboard: all metrics and explainers",
    "harness table --metric road --explainer lime,rise": "the answer by road, with the rows of two explainers",
    "harness table main --csv cells.csv": "the cells of the run main as a file",
    "harness table adult --by sex": "differences between groups of people in the run adult",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "table",
        "print the results of a run, or write them to files",
        """
Without flags: which explainer to use, in words, and for each explainer its score on the headline metric, its gain over
the best control, its cost and a verdict. --all adds the leaderboard: for each metric, the mean of every explainer with
its 95 % interval, its rank, and letters (explainers that share a letter are not shown to differ). One of the flags from
--samples to --seeds chooses another table. --metric and --explainer choose what is shown; tests still count all
explainers. With a flag that names a file, the table is written to it and not printed. Of a choice of harness choose,
the answer and what was confirmed are shown.""",
        EXAMPLES,
        usage="%(prog)s [RUN] [--samples | --long | --by DIVISION | ...] [flags]",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", default="latest", help=f"{RUN_HELP} (default: latest)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="the answer and the leaderboard of all metrics")
    for name, words in TABLES.items():
        settings = {"metavar": "DIVISION"} if name == "by" else {"action": "store_true"}
        which.add_argument(f"--{name}", help=words, **settings)
    add_filters(parser)
    parser.add_argument(
        "--least", metavar="N", type=int, default=30, help="with --by: leave out groups of fewer samples (default: 30)"
    )
    for name, words in (("csv", "CSV"), ("parquet", "Parquet")):
        add_file(parser, f"--{name}", f"write the rows as {words}")
    for name, words in (("markdown", "Markdown"), ("latex", "LaTeX (booktabs)")):
        add_file(parser, f"--{name}", f"write the leaderboard as {words}")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print the table that was asked for, or write it to files."""
    from harness.results.choice_files import find_choice

    choice = find_choice(chosen.run, chosen.runs)
    if choice is not None:
        from harness.cli.choice_text import write_choice_tables

        return write_choice_tables(chosen, choice)
    from harness.cli.table_rows import show_table  # its libraries take a second to import

    return show_table(chosen)
