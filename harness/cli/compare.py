"""``harness compare``: a new run against a baseline run, cell by cell."""

import argparse
from typing import Any

from harness.cli.filters import add_filters
from harness.cli.parser import RUN_HELP, Parser, add_file, add_runs_folder, add_verb, listed_names
from harness.cli.words import MARKS
from harness.errors import UserError, unknown

EXAMPLES = {
    "harness compare previous latest": "what changed between the last two runs",
    "harness compare main latest --fail-on worse,broken --markdown comment.md": (
        "the exit status is 1 if a cell got worse or no longer works"
    ),
    "harness compare main-1 main-2 main-3 main-4 --to new-1 new-2 new-3 new-4": (
        "several runs on each side, made in turn: costs are tested without assumptions on the machine"
    ),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "compare",
        "compare a new run with a baseline run, cell by cell",
        """
First comes a sentence that says what changed, then a table of the changed cells, the worst first.

Each cell gets a verdict. better, worse: the cell changed, beyond what the controls or the machine changed by, by an
amount that is significant (corrected for all cells) and not negligible. moved: it changed, but not significantly, or
the metric has no direction. broken: the baseline run has scores, and the new run lost all, or more than a tenth of
them. fixed: the opposite. new, missing: only one run has the cell. not comparable: the runs used different versions of
the measuring code or, for costs, other devices. same: none of these.

--metric and --explainer decide which cells are shown and written, and which ones --fail-on and --min-compared look at.
Tests stay corrected over all cells, so that a choice does not change a verdict.

The exit status is 1 if --fail-on or --min-compared say so, and 3 if fewer than --min-compared cells can be
compared and the reason is that the measuring code has changed: then neither a loss nor its absence is shown.""",
        EXAMPLES,
    )
    parser.add_argument(
        "base", metavar="BASE", nargs="+", help=f"the baseline run, then the new run (default: latest): {RUN_HELP}"
    )
    parser.add_argument("--to", metavar="NEW", nargs="+", help="the new runs; all runs before it are baseline runs")
    parser.add_argument(
        "--fail-on",
        default="",
        metavar="A,B",
        help=f"exit status 1 if a cell has one of the verdicts {', '.join(MARKS)}",
    )
    parser.add_argument(
        "--min-compared",
        type=int,
        default=1,
        metavar="N",
        help="exit status 1 (or 3, see above) if fewer than N cells can be compared (default: 1)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="list every cell, with the notes on it, and what differs between the environments",
    )
    add_filters(parser)
    add_file(parser, "--csv", "write every cell as CSV")
    add_file(parser, "--markdown", "write the comparison as Markdown, for a comment")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print the comparison; the exit status is 1 or 3 as ``--fail-on`` and ``--min-compared`` say, else 0."""
    failing, sides = chosen_verdicts(chosen.fail_on, tuple(MARKS)), chosen_sides(chosen)
    from harness.cli.comparison_text import show_comparison  # its libraries take a second to import

    return show_comparison(chosen, sides, failing)


def chosen_sides(chosen: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The names of the baseline runs and of the new runs; raises UserError for three runs or more without ``--to``."""
    if chosen.to:
        return chosen.base, chosen.to
    if len(chosen.base) > 2:
        raise UserError(
            f"{len(chosen.base)} runs came without --to, expected BASE NEW, or BASE ... --to NEW ... for several runs"
        )
    return chosen.base[:1], chosen.base[1:] or ["latest"]


def chosen_verdicts(text: str, known: tuple[str, ...]) -> list[str]:
    """The verdicts that ``--fail-on`` names; raises UserError for a misspelt one."""
    names = [name.replace("_", " ") for name in listed_names(text)]
    for name in names:
        if name not in known:
            raise unknown("verdict of --fail-on", name, known)
    return names
