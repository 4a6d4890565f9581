"""Overrides as the user types them: read one by one, with what to type where a sign is in the way."""

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from harness.cli.sections import CONFIG_GROUPS, LABELLED_GROUPS
from harness.errors import UserError

# Flags and values with which Hydra reads other files than those of the package, or shows all choices.
MORE_FILES = ("-cd", "--config-dir")
OTHER_FILES = (*MORE_FILES, "-cp", "--config-path", "-cn", "--config-name", "--experimental-rerun")
ALL_CHOICES = ("-i", "--info", "-sc", "--shell-completion", "--hydra-help")


def has_own_files(arguments: Sequence[str]) -> bool:
    """Whether Hydra may find names that are in no file of this package, or needs all of them."""
    words = [argument.partition("=")[0] for argument in arguments]
    flags = any(word in (*OTHER_FILES, *ALL_CHOICES) for word in words)
    return flags or any("glob(" in argument or "hydra.searchpath" in argument for argument in arguments)


def own_folders(arguments: Sequence[str]) -> list[str] | None:
    """The folders that ``--config-dir`` adds to the files of this package; None if Hydra may read others, or shows all.

    Then names in them and in the arguments are all that Hydra can meet.
    """
    folders, rest, words = [], [], iter(arguments)
    for word in words:
        flag, given, folder = word.partition("=")
        if flag in MORE_FILES:
            folders.append(folder if given else next(words, ""))
        else:
            rest.append(word)
    return None if has_own_files(rest) or not all(folders) else folders


def parsed_overrides(arguments: Sequence[str], command: str = "harness run") -> list[Override]:
    """The overrides among the arguments; UserError for one that Hydra cannot read, with the command as it is typed."""
    overrides = []
    for argument in arguments:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            continue  # a flag of Hydra, or its value
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            raise _unreadable(argument, arguments, error, command) from None
        overrides.append(override)
    return overrides


def _unreadable(argument: str, arguments: Sequence[str], error: HydraException, command: str) -> UserError:
    key, equals, value = argument.partition("=")
    if not equals:
        return UserError(f"{argument!r} is no override, expected GROUP=NAME or GROUP.OPTION=VALUE")
    if value.startswith(("{", "[")) and value.endswith(("}", "]")):
        reason = " ".join(str(error).split()).partition(" See http")[0]
        return UserError(f"{argument} cannot be read: {reason}; to give the value as text: {as_text(key, value)}")
    return UserError(
        f"the value of {key} has signs that the command line uses itself, expected it in quotes: "
        f"{command} {_mended(arguments, argument, as_text(key, value))}"
    )


def as_text(key: str, value: str) -> str:
    """An override whose value is a text with any signs, as it is typed in a shell."""
    escaped = value.replace('"', '\\"')
    return shlex.quote(f'{key}="{escaped}"')


def _mended(arguments: Sequence[str], argument: str, instead: str) -> str:
    """All arguments as they are typed, with another one in the place of ``argument``."""
    return " ".join(instead if each == argument else shlex.quote(each) for each in arguments)


def several_values(argument: str) -> UserError:
    """The error for values with commas between them where one is expected, with what to type."""
    key, _, value = argument.partition("=")
    if key in LABELLED_GROUPS:
        return UserError(f"{argument} came, expected the {key}s in brackets: {key}=[{value}]; with -m one run for each")
    if key in CONFIG_GROUPS:
        return UserError(f"{argument} has several values, expected one; for a run with each of them: -m {argument}")
    listed = shlex.quote(f"{key}=[{value}]")
    return UserError(
        f"{argument} has several values, expected one; as one text: {as_text(key, value)}; as a list: {listed}; "
        f"for a run with each of them: -m {argument}"
    )
