"""``harness trend``: how every cell moved over many runs."""

import argparse
from typing import Any

from harness.cli.compare import chosen_verdicts
from harness.cli.parser import RUN_HELP, Parser, add_file, add_runs_folder, add_verb

TREND_VERDICTS = ("worse", "moved", "better", "stable", "few")
EXAMPLES = {
    "harness trend monday tuesday wednesday thursday": "the cells that moved over four runs",
    "harness trend nightly-1 nightly-2 nightly-3 nightly-4 --fail-on worse --csv trend.csv": (
        "the exit status is 1 if a cell ended worse than it was"
    ),
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
(there is only one level), few (the values vary, and fewer than eight runs have one, so that nothing can be tested).
Values that repeat from run to run need no test.""",
        EXAMPLES,
    )
    parser.add_argument("names", nargs="+", metavar="RUN", help=f"the runs, in any order: {RUN_HELP}")
    parser.add_argument(
        "--fail-on",
        default="",
        metavar="A,B",
        help=f"exit status 1 if a cell has one of the verdicts {', '.join(TREND_VERDICTS)}",
    )
    parser.add_argument("--all", action="store_true", help="list also the cells with the verdicts stable and few")
    add_file(parser, "--csv", "write every cell as CSV, with its value in each run")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print the cells that moved; 1 if a cell has a verdict that ``--fail-on`` names."""
    failing = chosen_verdicts(chosen.fail_on, TREND_VERDICTS)
    from harness.cli.comparison_text import MOST_ROWS, cell_title, rows_left_out  # libraries that take a second
    from harness.results.frames import find_run
    from harness.results.tables import to_csv
    from harness.results.trend import trend

    rows, values = trend([find_run(name, chosen.runs) for name in chosen.names])
    rows = rows.sort_values("verdict", key=lambda verdicts: verdicts.map(TREND_VERDICTS.index), kind="stable")
    counts = rows["verdict"].value_counts()
    print(
        f"{len(rows)} cells over {values.shape[1]} runs, {values.columns[0]} to {values.columns[-1]}: "
        + ", ".join(f"{counts[verdict]} {verdict}" for verdict in TREND_VERDICTS if verdict in counts)
    )
    cells = rows if chosen.all else rows[~rows["verdict"].isin(["stable", "few"])]
    for row in cells.head(MOST_ROWS).to_dict("records"):
        print(f"{row['verdict']:>7}  {cell_title(row)}: {row['steps']}")
    if "few" in counts:
        print("few: values that vary from run to run need at least eight runs before a step can be shown")
    for line in rows_left_out(len(cells)):
        print(line)
    if chosen.csv:
        to_csv(rows.merge(values, left_on="cell", right_index=True), chosen.csv)
        print(f"{len(rows)} rows: {chosen.csv}")
    return int(rows["verdict"].isin(failing).any())
