"""What Hydra refuses, as one line that says what to type."""

import re
import shlex
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from harness.catalogue import CATALOGUES
from harness.cli.groups import group_defaults, group_files
from harness.cli.sections import (
    CONFIG_GROUPS,
    ITEM_GROUPS,
    LABELLED_GROUPS,
    OTHER_GROUP_NAMES,
    SETTING_GROUPS,
    full_setting,
    setting_names,
)
from harness.errors import UserError, unknown
from harness.other_names import unknown_item

SWEEPS = ("-m", "--multirun")


# Flags and values with which Hydra reads other files than those of the package, or shows all choices.
OTHER_FILES = ("-cd", "--config-dir", "-cp", "--config-path", "-cn", "--config-name", "--experimental-rerun")
ALL_CHOICES = ("-i", "--info", "-sc", "--shell-completion", "--hydra-help")


def has_own_files(arguments: Sequence[str]) -> bool:
    """Whether Hydra may find names that are in no file of this package, or needs all of them."""
    words = [argument.partition("=")[0] for argument in arguments]
    flags = any(word in (*OTHER_FILES, *ALL_CHOICES) for word in words)
    return flags or any("glob(" in argument or "hydra.searchpath" in argument for argument in arguments)


def check_choices(arguments: Sequence[str]) -> None:
    """UserError for an unknown name behind ``GROUP=``, before Hydra composes anything."""
    if has_own_files(arguments):
        return
    for group in CONFIG_GROUPS:
        for value in _values(group, arguments):
            names = (
                [each.strip() for each in value.strip("[]").split(",")] if re.fullmatch(r"[\w\[\], .]+", value) else []
            )
            for name in names:
                if re.fullmatch(r"[A-Za-z_][\w.]*", name) and name != "null" and name not in choices_of(group):
                    raise _unknown_choice(group, name)


def parsed_overrides(arguments: Sequence[str]) -> list[Override]:
    """The overrides among the arguments; UserError for one that Hydra cannot read, with the command as it is typed."""
    overrides = []
    for argument in arguments:
        if argument.startswith("-") or not ("=" in argument or argument.startswith("~")):
            continue  # a flag of Hydra, or its value
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            raise _unreadable(argument, arguments, error) from None
        if override.is_sweep_override() and override.value().__class__.__name__ == "ChoiceSweep":
            _check_sweep(argument, override, arguments)
        overrides.append(override)
    return overrides


def _unreadable(argument: str, arguments: Sequence[str], error: HydraException) -> UserError:
    key, equals, value = argument.partition("=")
    if not equals:
        return UserError(f"{argument!r} is no override, expected GROUP=NAME or GROUP.OPTION=VALUE")
    if value.startswith(("{", "[")) and value.endswith(("}", "]")):
        reason = " ".join(str(error).split()).partition(" See http")[0]
        return UserError(f"{argument} cannot be read: {reason}; to give the value as text: {as_text(key, value)}")
    return UserError(
        f"the value of {key} has signs that the command line uses itself, expected it in quotes: "
        f"{_command(arguments, argument, as_text(key, value))}"
    )


def as_text(key: str, value: str) -> str:
    """An override whose value is a text with any signs, as it is typed in a shell."""
    escaped = value.replace('"', '\\"')
    return shlex.quote(f'{key}="{escaped}"')


def _command(arguments: Sequence[str], argument: str, instead: str) -> str:
    """All arguments as they are typed, with another one in the place of ``argument``."""
    return " ".join(instead if each == argument else shlex.quote(each) for each in arguments)


def _check_sweep(argument: str, override: Override, arguments: Sequence[str]) -> None:
    """UserError for values with commas between them without -m."""
    if any(flag in arguments for flag in SWEEPS) or any(each.startswith("hydra.mode=") for each in arguments):
        return
    key, _, value = argument.partition("=")
    if key in LABELLED_GROUPS:
        raise UserError(f"{argument} came, expected the {key}s in brackets: {key}=[{value}]; with -m one run for each")
    listed = f"; as a list: {shlex.quote(f'{key}=[{value}]')}" if key not in CONFIG_GROUPS else ""
    text = f"as one text: {as_text(key, value)}{listed}; " if key not in CONFIG_GROUPS else ""
    raise UserError(f"{argument} has several values, expected one; {text}for a run with each of them: -m {argument}")


def hydra_mistake(error: Exception, arguments: Sequence[str]) -> UserError:
    """The error for a misspelt choice or setting, with what to type; for others Hydra's text on one line."""
    text = " ".join(str(error).split())
    choice = re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", text)
    if choice and choice[1] in CONFIG_GROUPS:
        return _unknown_choice(choice[1], choice[2])
    setting = re.search(r"Could not (?:override|append to config)[^']*'([\w.:+]+)'", text)
    if setting:
        missing = re.search(r"full_key: (\S+)", text)
        found = _explained(setting[1], missing[1] if missing else "", arguments)
        if found:
            return found
    if "must be a string or a list" in text:
        for group in CONFIG_GROUPS:
            for value in _values(group, arguments):
                if re.fullmatch(r"null|-?\d[\d.e]*|true|false", value):
                    return _no_name(group, value)
    cause = " ".join(str(error.__cause__ or "").split())
    return UserError(text if cause in text else f"{text} {cause}")


def _unknown_choice(group: str, name: str) -> UserError:
    choices = choices_of(group)
    if group in ITEM_GROUPS:
        return unknown_item(group, name, choices)
    if group in SETTING_GROUPS:
        return _no_name(group, name)
    return unknown(group, name, choices, f"harness list {group}s")


def _no_name(group: str, value: str) -> UserError:
    if group in SETTING_GROUPS:
        first = setting_names(group)[0]
        return UserError(
            f"{group}={value} came, expected one of its settings: {group}.{first}={value}; "
            f"they are {', '.join(setting_names(group))}"
        )
    return UserError(f"{group}={value} came, expected {group}=NAME (harness list {group}s)")


def choices_of(group: str) -> list[str]:
    """What can be chosen in a config group: registered names and the files of the group."""
    names = {*CATALOGUES[group], *CATALOGUES[group].bridged()} if group in CATALOGUES else set()
    return sorted({*names, *group_files(group)})


def _explained(path: str, missing: str, arguments: Sequence[str]) -> UserError | None:
    """The error for a setting that the configuration does not have; None where nothing is known of it.

    ``missing`` is the part of its path that does not exist.
    """
    path = path.lstrip("+")
    value = next(iter(_values(path, arguments)), "VALUE")
    section, _, rest = path.partition(".")
    if section in OTHER_GROUP_NAMES and section not in CONFIG_GROUPS:
        right = ".".join(filter(None, (OTHER_GROUP_NAMES[section], rest)))
        return UserError(f"unknown section {section!r}: did you mean {right}={value}?")
    if not rest:
        return _without_section(path, value, arguments)
    if section in SETTING_GROUPS:
        known = [f"{section}.{name}" for name in setting_names(section)]
        return unknown("setting", path, known, "harness run --help")
    if section in LABELLED_GROUPS:
        return _of_an_item(section, rest, value, missing, arguments)
    if section in ("model", "dataset"):
        return _of_the_chosen(section, rest, value, arguments)
    return None


def _without_section(name: str, value: str, arguments: Sequence[str]) -> UserError:
    """The error for ``samples=5``: every place where the name is a setting or an option of what is chosen."""
    own = full_setting(name)
    places = [f"{own}={value}"] if own else []
    for group in ITEM_GROUPS:
        for item in _chosen(group, arguments):
            if name in CATALOGUES[group][item].options:
                inner = f"{group}.{item}" if group in LABELLED_GROUPS else group
                places.append(f"{inner}.{name}={value}")
    if places:
        return UserError(f"{name}={value} came without its section, expected {' or '.join(places)}")
    sections = [
        *CONFIG_GROUPS,
        "run",
        *(f"{group}.{each}" for group in SETTING_GROUPS for each in setting_names(group)),
    ]
    return unknown("setting", name, sections, "harness run --help")


def _of_the_chosen(section: str, rest: str, value: str, arguments: Sequence[str]) -> UserError | None:
    """The error for an option of the model or data set."""
    for item in _chosen(section, arguments):
        options = CATALOGUES[section][item].options
        first, dot, _ = rest.partition(".")
        if dot and first in options:
            return UserError(f"{section}.{rest}={value} adds to an option, expected +{section}.{rest}={value}")
        known = [f"{section}.{option}" for option in ("label", *options)]
        return unknown("setting", f"{section}.{rest}", known, f"harness list {section}s {item}")
    return None


def _of_an_item(section: str, rest: str, value: str, missing: str, arguments: Sequence[str]) -> UserError | None:
    """The error for an option of an explainer or a metric, or for one whose item is missing."""
    catalogue, chosen = CATALOGUES[section], _chosen(section, arguments)
    item = next((name for name in (rest, rest.rpartition(".")[0]) if name and name in catalogue), None)
    if item is not None and f"{section}.{item}" != missing:
        listing = f"harness list {section}s {item}"
        return unknown(
            "setting", f"{section}.{rest}", [f"{section}.{item}.{o}" for o in _options(section, item)], listing
        )
    came = f"{section}.{rest}={value}"
    if item is not None:
        group = next(iter(_values(section, arguments)), "standard").strip("[]")
        return UserError(f"{came} came, but {item} is not chosen, expected it beside: {section}=[{group},{item}]")
    name, dot, option = rest.partition(".")
    if name in group_files(section):
        of_group = [
            f"{section}.{each}.{option}={value}"
            for each in _members(section, name)
            if option in _options(section, each)
        ]
        expected = f"expected it for each of them: {' '.join(of_group)}" if of_group else f"none of them has {option!r}"
        return UserError(f"{came} came, but {name} is a group of {section}s, {expected}")
    if not dot:
        places = [f"{section}.{each}.{name}={value}" for each in chosen if name in _options(section, each)]
        if places:
            shared = f"; for all metrics that have it: +metric.shared.{name}={value}" if section == "metric" else ""
            return UserError(f"{came} came without the {section} it belongs to, expected {' '.join(places)}{shared}")
        if value.startswith("{"):
            return UserError(f"{came} sets a {section} that is not there, expected +{came} to add one under this label")
        return UserError(f"{came} came, expected {section}.NAME.OPTION=VALUE (harness list {section}s NAME)")
    return unknown_item(section, name, catalogue)


def _options(section: str, item: str) -> list[str]:
    """The options of an item; of another library's without importing the library."""
    catalogue = CATALOGUES[section]
    return list(catalogue.bridged_options(item) if item in catalogue.bridged() else catalogue[item].options)


def _members(section: str, group: str) -> Iterator[str]:
    """The items of a group that is a file, those of the groups inside it too."""
    for name in group_defaults(section, group):
        if name in CATALOGUES[section]:
            yield name
        elif name in group_files(section):
            yield from _members(section, name)


def _values(key: str, arguments: Sequence[str]) -> list[str]:
    """What the arguments give for a key, the last one first."""
    pairs = [argument.lstrip("+").partition("=") for argument in arguments if not argument.startswith("-")]
    return [value for name, _, value in reversed(pairs) if name == key]


def _chosen(group: str, arguments: Sequence[str]) -> list[str]:
    """The registered items that the arguments choose in a group by name, those of named groups included."""
    default = {"model": "lite0", "dataset": "photos"}.get(group, "standard")
    names = next(iter(_values(group, arguments)), default).strip("[]").split(",")
    found = [
        item
        for name in (each.strip() for each in names)
        for item in (
            [name] if name in CATALOGUES[group] else _members(group, name) if name in group_files(group) else []
        )
    ]
    return list(dict.fromkeys(found))
