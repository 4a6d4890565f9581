"""The parts that the parsers of all verbs share: help texts with examples, common flags, errors of one line."""

import argparse
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from textwrap import fill, indent
from typing import Any, NoReturn

from harness import __version__
from harness.cli.sections import CONFIG_GROUPS, full_setting
from harness.errors import UserError, unknown

RUN_HELP = "a name under runs/, a folder, latest or previous"
NO_VALUE = "came without a value"
HELP_WIDTH = max(60, min(96, shutil.get_terminal_size().columns - 2))


class Parser(argparse.ArgumentParser):
    """A parser that raises a UserError of one line for a mistake; flags cannot be abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **settings)

    @property
    def flags(self) -> list[str]:
        """Every flag, in all its spellings."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message as a UserError, with the value that a flag expects."""
        empty = re.fullmatch(rf"argument (\S+): (?:expected one argument|{NO_VALUE})", message)
        if empty:
            flag = empty[1].split("/")[0]
            raise UserError(f"{flag} {NO_VALUE}, expected {flag} {self._option_string_actions[flag].metavar}")
        raise UserError(f"{message}; {self.prog} --help explains it")

    def refuse(self, rest: Sequence[str], overrides: bool) -> None:
        """Raise a UserError for unknown flags and, unless the verb takes overrides, for any further argument."""
        for place, argument in enumerate(rest):
            if argument.startswith("-"):
                name = argument.partition("=")[0]
                if overrides:
                    _refuse_override_as_flag(argument, rest[place + 1 :])
                if name in self.flags:
                    raise UserError(f"{name} came before the verb, expected it behind: {self.prog} {name}")
                raise unknown(f"flag of {self.prog}", name, self.flags, f"{self.prog} --help")
            if not overrides:
                raise UserError(f"{argument!r} is one argument too many; {self.prog} --help explains it")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raise the error for misspelt names, with the nearest ones; argparse would list all choices."""
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[-1] if action.option_strings else str(action.metavar).lower()
            raise unknown(name, value, action.choices)


def _refuse_override_as_flag(argument: str, following: Sequence[str]) -> None:
    """UserError for ``--model NAME``, which is typed ``model=NAME``."""
    flag, equals, value = argument.partition("=")
    name = flag.lstrip("-").replace("-", "_")
    setting = name if name.partition(".")[0] in CONFIG_GROUPS else full_setting(name)
    if setting is None:
        return
    if not equals and following and not following[0].startswith("-"):
        value, argument = following[0], f"{argument} {following[0]}"
    raise UserError(f"{argument} came, expected {setting}={value or 'VALUE'}, without dashes")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Gives each name one line with its help: argparse forgets that verbs are indented more than their heading."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=HELP_WIDTH)

    def add_argument(self, action: argparse.Action) -> None:
        """Make room for the action, and for what is below it."""
        super().add_argument(action)
        room = [len(name) + self._current_indent + self._indent_increment for name in action.choices or ()]
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length = max(self._action_max_length, *room)


class _PrintVersions(argparse.Action):
    """Prints the versions, found only when they are asked for, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"harness {__version__}, torch {version('torch')}, Python {platform.python_version()}")
        parser.exit()


def add_version(parser: argparse.ArgumentParser) -> None:
    """``--version``: that of this project, with those that decide the most about a score, in one line."""
    parser.add_argument(
        "--version", nargs=0, action=_PrintVersions, help="print the versions of harness, torch and Python"
    )


def add_verb(verbs: Any, name: str, does: str, details: str, examples: Mapping[str, str], **settings: Any) -> Parser:
    """Add a verb (or a kind below a verb) to the tree and return its parser.

    does      one line, for the list of verbs
    details   paragraphs for the verb's own help
    examples  command -> what it does
    """
    description = wrapped_paragraphs(f"{does[0].upper()}{does[1:]}.\n\n{details.strip()}")
    parser = verbs.add_parser(name, help=does, description=description, epilog=example_lines(examples), **settings)
    parser.set_defaults(parser=parser, takes_overrides=False, overrides=[])
    add_version(parser)
    return parser


def wrapped_paragraphs(text: str) -> str:
    """A text with its paragraphs wrapped to the width of the help; indented paragraphs (tables) are not changed."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        each if each.startswith("  ") else fill(" ".join(each.split()), HELP_WIDTH) for each in paragraphs
    )


def example_lines(examples: Mapping[str, str]) -> str:
    """The examples of a help text: each command on its own line, with its effect on the next line."""
    lines = [f"{command}\n{indent(words, '    ')}" for command, words in examples.items()]
    return "examples:\n" + indent("\n".join(lines), "  ")


def add_runs_folder(parser: argparse.ArgumentParser) -> None:
    """``--runs``: where runs are looked for by name."""
    parser.add_argument(
        "--runs", metavar="FOLDER", type=some_text, default="runs", help="the folder of all runs (default: runs)"
    )


def add_file(parser: argparse.ArgumentParser, flag: str, words: str) -> None:
    """A flag that names a file to write."""
    parser.add_argument(flag, metavar="FILE", type=some_text, help=words)


def some_text(text: str) -> str:
    """A value that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError(NO_VALUE)
    return text


def listed_names(text: str) -> list[str]:
    """Names with commas between them, in brackets or not; none for an empty text."""
    return [name.strip() for name in text.strip("[]").split(",") if name.strip()]
