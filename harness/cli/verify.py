"""``harness verify``: whether the files of a run are what was written."""

import argparse
from typing import Any

from harness.cli.parser import RUN_HELP, Parser, add_runs_folder, add_verb

EXAMPLES = {
    "harness verify": "the latest run: what is wrong with it, file by file",
    "harness verify main --runs results": "the run main in another folder",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "verify",
        "check the files of a run and say what is wrong, file by file",
        """
Rows, scores, tables and maps carry a checksum and the name of their cell. A file that is truncated, changed, swapped
with another one or of another kind is named in one line. Files of older versions carry no checksum; they are
counted, and only their form is checked. The exit status is 1 if something is damaged. Nothing is changed: harness run
with the arguments of the run measures again what is lacking. What harness choose has measured in the same folder is
checked too, and so are the shards and rounds of the run.""",
        EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", nargs="?", default="latest", help=f"{RUN_HELP} (default: latest)")
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print what is wrong with the run, or that nothing is; 1 if something is."""
    from harness.results.choice_files import choice_in, find_choice
    from harness.results.frames import find_run  # its libraries take a second to import
    from harness.results.part_folders import round_folders, shard_folders
    from harness.results.verification import verify_choice, verify_run

    choice = find_choice(chosen.run, chosen.runs)
    found = [] if choice else [verify_run(find_run(chosen.run, chosen.runs))]
    choice = choice or choice_in(found[0].directory)
    parts = [part for each in found for part in (*shard_folders(each.directory), *round_folders(each.directory))]
    found += [verify_run(part) for part in parts]
    found += [verify_choice(choice)] if choice else []
    for each in found:
        print("\n".join(each.lines()))
    return int(any(each.damaged for each in found))
