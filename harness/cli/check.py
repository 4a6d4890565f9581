"""``harness check``: every explainer tried on one model and data set, and what its self-checks show, in one table."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from harness.catalogue import CATALOGUES
from harness.cli.overrides import OVERRIDES_HELP, USAGE, add_overrides, add_quiet, hydra_arguments
from harness.cli.parser import Parser, add_file, add_verb
from harness.errors import UserError

DEFAULT_SAMPLES = 4
EXAMPLES = {
    "harness check model=digits_cnn dataset=digits": "every explainer on the small CNN, in a table",
    "harness check 'explainer=[saliency,lrp]' --csv checks.csv --strict": (
        "two explainers on the default model; the exit status is 1 if one is flagged"
    ),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "check",
        "try every explainer on a model and data, without scoring, and show what its self-checks find",
        f"""
Each explainer (all of them, unless explainer= names some) explains a few samples (4, unless protocol.samples= says
otherwise). The table shows whether it applies, whether attributions sum to what they should, whether they depend on
the batch or change from call to call, and what they cost. Nothing is written but the file of --csv. metric= is refused,
since nothing is scored.

{OVERRIDES_HELP}""",
        EXAMPLES,
        usage=USAGE,
    )
    add_file(parser, "--csv", "write all results as CSV")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if an explainer failed or is flagged")
    add_quiet(parser, "no progress and no messages, only the table and mistakes")
    add_overrides(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print a table for every job; with ``--strict`` 1 if an explainer failed or is flagged."""
    from harness.cli.hydra_config import for_each_job

    tables: list[Any] = []

    def check_job(config: dict[str, Any]) -> int:
        from harness.cli.check_table import print_checks  # not before names and options have been understood
        from harness.jobs.checking import check_plan, flagged
        from harness.jobs.plan import Plan

        rows = check_plan(Plan.of(config))
        print_checks(rows, sys.stdout)
        tables.append(rows)
        return int(chosen.strict and flagged(rows).any())

    status = for_each_job(hydra_arguments(chosen, check_defaults(chosen.overrides)), check_job)
    if chosen.csv and tables:
        import pandas as pd

        from harness.results.tables import to_csv

        rows = pd.concat(tables, ignore_index=True)
        to_csv(rows, chosen.csv)
        print(f"{len(rows)} rows: {chosen.csv}")
    return status


def check_defaults(overrides: Sequence[str]) -> list[str]:
    """What a check adds to the user's overrides: every explainer, rows of libraries last, and few samples.

    Raises UserError for a metric, since a check scores nothing.
    """
    names = {override.partition("=")[0].lstrip("+~") for override in overrides}
    if any(name.partition(".")[0] == "metric" for name in names):
        raise UserError("metric= came, expected none: harness check scores nothing; leave it out")
    there = CATALOGUES["explainer"]
    explainers = sorted(there, key=lambda name: (bool(there[name].caveat), name))
    own = {"explainer": f"[{','.join(explainers)}]", "protocol.samples": DEFAULT_SAMPLES}
    return [f"{name}={value}" for name, value in own.items() if name not in names]
