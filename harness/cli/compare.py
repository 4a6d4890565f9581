"""``harness compare``: a new run against a baseline run, cell by cell."""

import argparse
from typing import Any

from harness.cli.parser import RUN_HELP, Parser, add_file, add_runs_folder, add_verb, listed_names
from harness.cli.words import MARKS
from harness.errors import unknown

EXAMPLES = {
    "harness compare previous latest": "what changed between the last two runs",
    "harness compare main latest --fail-on worse,broken --markdown comment.md": (
        "the exit status is 1 if a cell got worse or no longer works"
    ),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "compare",
        "compare a new run with a baseline run, cell by cell",
        """
Each cell gets a verdict. better, worse: the scores differ, sample by sample, by a significant amount (corrected for all
cells, Holm) that is not negligible. moved: the same for a metric without a direction. broken: the baseline run has
scores, and the new run lost all, or more than a tenth of them. fixed: the opposite. new, missing: only one run has the
cell. not comparable: the runs used different versions of the measuring code or, for costs, other devices. same: none of
these.""",
        EXAMPLES,
    )
    parser.add_argument("base", metavar="BASE", help=f"the baseline run: {RUN_HELP}")
    parser.add_argument("new", metavar="NEW", nargs="?", default="latest", help="the new run (default: latest)")
    parser.add_argument(
        "--fail-on",
        default="",
        metavar="A,B",
        help=f"exit status 1 if a cell has one of the verdicts {', '.join(MARKS)}",
    )
    parser.add_argument("--all", action="store_true", help="list also the cells with the verdict same")
    add_file(parser, "--csv", "write every cell as CSV")
    add_file(parser, "--markdown", "write the comparison as Markdown, for a comment")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print the comparison; 1 if a cell has a verdict that ``--fail-on`` names."""
    failing = chosen_verdicts(chosen.fail_on, tuple(MARKS))
    from harness.cli.comparison_text import show_comparison  # its libraries take a second to import

    return show_comparison(chosen, failing)


def chosen_verdicts(text: str, known: tuple[str, ...]) -> list[str]:
    """The verdicts that ``--fail-on`` names; raises UserError for a misspelt one."""
    names = [name.replace("_", " ") for name in listed_names(text)]
    for name in names:
        if name not in known:
            raise unknown("verdict of --fail-on", name, known)
    return names
