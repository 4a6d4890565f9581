"""Writes docs/commands.md, the help text of every verb: run ``python docs/commands.py``.

The width is fixed, and flags are written in one form, so that the page does not depend on the terminal or on the
version of Python.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from pages import replaced

from harness.cli import parser as cli_parser
from harness.cli.main import parser_tree

PAGE = Path(__file__).with_name("commands.md")
MARK = "commands"
WIDTH = 96


class _PageFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of a fixed width. ``-c, --cfg PART``: Python 3.12 and older would write PART after both spellings."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=WIDTH)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def command_helps() -> str:
    """A heading and the help text for the command itself and for every verb and kind below it."""
    with patch.object(cli_parser, "HELP_WIDTH", WIDTH):  # otherwise paragraphs are as wide as the terminal
        tree = parser_tree()
    return "\n\n".join(
        f"## {name}\n\n```text\n{_help_of(parser)}\n```" for name, parser in _with_verbs("harness", tree)
    )


def _with_verbs(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those below it, with the words that are typed for each."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, below in action.choices.items():
                yield from _with_verbs(f"{name} {verb}", below)


def _help_of(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = _PageFormatter
    parser.color = False  # Python 3.14 and newer would colour it in a terminal
    return "\n".join(line.rstrip() for line in parser.format_help().strip("\n").splitlines())


def with_helps(text: str) -> str:
    """The text of the page with the help texts where they belong."""
    return replaced(text, MARK, f"\n{command_helps()}\n")


if __name__ == "__main__":
    PAGE.write_text(with_helps(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
