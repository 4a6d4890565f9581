"""The command ``harness``: one parser tree, to which every verb adds its own part."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from harness.cli import check, choose, compare, merge, plan, report, reproduce, run, table, trend, verify, view, watch
from harness.cli import list as list_items
from harness.cli.parser import Parser, add_version, example_lines, wrapped_paragraphs
from harness.errors import UserError, printable
from harness.interrupts import asked_to_end, noting_signals

RESUMED = ("run", "choose", "reproduce")
VERBS = (run, choose, reproduce, plan, list_items, table, check, view, compare, trend, report, merge, verify, watch)

DESCRIPTION = """\
Run explainers (feature-attribution methods) on models and data, score them with metrics, and compare them.

`harness run` without arguments measures the standard explainers for EfficientNet-Lite0 on 20 photos. Results are kept
in runs/RUN; other verbs take RUN as a name under runs/, a folder, latest or previous."""
EXAMPLES = {
    "harness run model=digits_cnn dataset=digits 'explainer=[saliency,rise,random]' 'metric=[srg,deletion]'": (
        "measures three explainers with two metrics"
    ),
    "harness table latest": "prints the results once more",
    "harness run --help": "explains a verb: what it does, all flags, and examples",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status is 0, 2 for a user's mistake, 130 or 143 when interrupted, or as its help says."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a letter that the terminal cannot show must not end the program
            stream.reconfigure(errors="backslashreplace")
    try:
        with noting_signals():
            return _run_verb(words)
    except UserError as error:
        print(f"harness: {printable(error)}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as error:
        return _interrupted(words, str(error))
    except SystemExit as done:  # Hydra ends the process where it refuses one of its own flags
        if isinstance(done.code, str):  # the words of a user's module that gives up
            print(f"harness: {printable(done.code)}", file=sys.stderr)
            return 2
        return int(done.code or 0)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # an import that is interrupted may end by an error of its own
        if asked_to_end() is None:
            raise
        return _interrupted(words)


def _interrupted(words: Sequence[str], what_goes_on: str = "") -> int:
    """Say that the user has ended the command, and what that means; the exit status."""
    resumes = "finished cells are on disk, the same command resumes" if words[0] in RESUMED else ""
    meaning = what_goes_on or resumes
    print(f"harness: interrupted{f'; {meaning}' if meaning else ''}", file=sys.stderr)
    return 128 + (asked_to_end() or signal.SIGINT)


def parser_tree() -> Parser:
    """The parser of the whole command line. No module of a verb imports what only its execution needs."""
    tree = Parser(
        prog="harness",
        usage="harness VERB ...",
        description=wrapped_paragraphs(DESCRIPTION),
        epilog=example_lines(EXAMPLES),
    )
    add_version(tree)
    verbs = tree.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True, prog="harness")
    for verb in VERBS:
        verb.add_parser(verbs).set_defaults(execute=verb.execute)
    return tree


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The verb and its arguments; ``overrides`` are those that Hydra reads. SystemExit where help was asked for."""
    chosen, rest = parser_tree().parse_known_args(list(arguments))
    chosen.parser.refuse(rest, chosen.takes_overrides)
    chosen.overrides = rest
    return chosen


def _run_verb(arguments: list[str]) -> int:
    if not arguments or arguments[0] == "help":
        parser_tree().print_help()
        return 0 if arguments else 2
    try:
        chosen = parsed(arguments)
    except SystemExit as done:  # the help has been printed
        return int(done.code or 0)
    return chosen.execute(chosen)


if __name__ == "__main__":
    sys.exit(main())
