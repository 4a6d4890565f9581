"""``harness reproduce``: the experiment of a paper, ours beside the published numbers."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli.overrides import add_quiet
from harness.cli.parser import Parser, add_file, add_runs_folder, add_verb
from harness.errors import UserError, unknown

SETTINGS = ("data", "scale")
EXAMPLES = {
    "harness reproduce": "lists the experiments, what each needs and how long it takes",
    "harness reproduce published_rankings": "analyses published tables again, by the statistics of the harness",
    "harness reproduce xai_bench scale=small --html paper.html": "runs another on less data, and writes a page",
    "harness reproduce torchcam data=my/imagenette": "runs one that needs your data",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "reproduce",
        "run the experiment of a paper, and set its numbers beside the published ones",
        """
Without a NAME it lists all experiments. Each line of the result is a published number beside ours, with spread, number
of samples, tolerance and source, or a claim with its test. The verdicts: reproduced (a number within the tolerance, or
an equality that holds), differs, pattern holds, pattern fails, not comparable (with the reason, such as other weights,
a small scale, or a test that cannot tell). After the lines it lists what is done otherwise than in the paper. The
experiments are files in conf/experiment/papers, which state every choice that decides their numbers.

  data=FOLDER    your data, where the experiment needs some
  scale=small    the same code on less data, in seconds; it needs no data of yours. Its numbers
                 are not comparable, its claims are tested

Results are kept in runs/reproduce/NAME-SCALE, so the same command resumes what was interrupted. The exit status is 1 if
something that should hold does not, and 2 for a mistake. A claim that is known not to hold here does not change it.""",
        EXAMPLES,
        usage="%(prog)s [NAME] [data=FOLDER] [scale=full|small] [flags]",
    )
    parser.add_argument("words", nargs="*", metavar="NAME", help="the experiment; its settings follow it")
    add_file(parser, "--html", "write a page for a browser; it needs no network")
    add_file(parser, "--markdown", "write everything as Markdown")
    add_file(parser, "--csv", "write all lines as CSV")
    add_quiet(parser)
    add_runs_folder(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """List the experiments, or run one; 1 if something that should hold does not."""
    from harness.reproducing.paper import names, paper
    from harness.reproducing.reproduce import reproduce
    from harness.reproducing.written import listing, reproduction_markdown, terminal_lines

    name, settings = name_and_settings(chosen.words)
    files = [path for path in (chosen.html, chosen.markdown, chosen.csv) if path]
    if name is None and files:
        raise UserError(f"{files[0]} came without the name of an experiment; harness reproduce lists them")
    for path in files:
        if Path(path).is_dir():
            raise UserError(f"{path} is a folder, expected the name of a file")
    if name is None:
        print("\n".join(listing([paper(each) for each in names()])))
        return 0
    say = (lambda line: None) if chosen.quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    found = reproduce(name, runs=chosen.runs, say=say, **settings)
    print("\n".join(terminal_lines(found)))
    if chosen.csv:
        from harness.results.tables import to_csv

        to_csv(found.table(), Path(chosen.csv))
    if chosen.markdown:
        _save_text(chosen.markdown, reproduction_markdown(found))
    if chosen.html:
        from harness.reproducing.page import reproduction_page

        _save_text(chosen.html, reproduction_page(found))
    return 1 if found.bad else 0


def _save_text(path: str, text: str) -> None:
    from harness.results.disk import told_in_one_line, whole_file

    with told_in_one_line(Path(path), "what was measured is safe"), whole_file(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def name_and_settings(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The name of the experiment and its settings; UserError for a setting that is not there, and for two names."""
    names, settings = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            names.append(word)
        elif key not in SETTINGS:
            raise unknown("setting of harness reproduce", key, SETTINGS, "harness reproduce --help")
        elif not value:
            raise UserError(f"{key} came without a value, expected {key}={'FOLDER' if key == 'data' else 'small'}")
        elif key in settings:
            raise UserError(f"{key} came twice, {settings[key]} and {value}; leave one out")
        else:
            settings[key] = value
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} came, expected one experiment at a time")
    if settings and not names:
        raise UserError(f"{' '.join(words)} came without the name of an experiment; harness reproduce lists them")
    return (names[0] if names else None), settings
