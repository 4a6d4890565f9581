"""What Hydra refuses, as one line that says what to type."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from harness.catalogue import CATALOGUES
from harness.cli.groups import (
    PAPERS,
    choice_in_files,
    experiment_folders,
    group_defaults,
    group_files,
)
from harness.cli.override_text import several_values
from harness.cli.own_items import own_labels
from harness.cli.parser import listed_names
from harness.cli.sections import (
    CONFIG_GROUPS,
    ITEM_GROUPS,
    LABELLED_GROUPS,
    OTHER_GROUP_NAMES,
    SETTING_GROUPS,
    full_setting,
    setting_names,
)
from harness.engine.variations import OVER
from harness.errors import UserError, unknown
from harness.other_names import unknown_item
from harness.registry import ABOUT_MODELS


def check_choices(arguments: Sequence[str]) -> None:
    """UserError for an unknown name behind ``GROUP=``, before Hydra composes anything.

    It knows the files of this package only: not for arguments with which Hydra reads others.
    """
    for group in CONFIG_GROUPS:
        for value in _values(group, arguments):
            for name in listed_names(value) if re.fullmatch(r"[\w\[\], .]+", value) else []:
                if re.fullmatch(r"[A-Za-z_][\w.]*", name) and name != "null" and name not in choices_of(group):
                    raise _choice_error(group, name)


def refuse_launcher_of_hydra(arguments: Sequence[str]) -> None:
    """UserError for a launcher of Hydra's: those outside this process lose the results of all jobs if one is killed."""
    for came in _values("hydra/launcher", arguments):
        if came != "basic":
            ours = next((name for name in group_files("launcher") if name in came), "processes")
            raise UserError(f"hydra/launcher={came} came, expected launcher={ours} (its settings: launcher.NAME=VALUE)")


def check_settings(arguments: Sequence[str]) -> None:
    """UserError for a misspelt setting or option, before Hydra composes anything; Hydra tells what is unknown here.

    Like ``check_choices``, it knows the files of this package only.
    """
    for path in (argument.partition("=")[0] for argument in arguments if re.match(r"[a-z][\w.]*=", argument)):
        section, _, rest = path.partition(".")
        item, _, option = rest.rpartition(".")
        misspelt = (
            (section in SETTING_GROUPS and rest and rest not in setting_names(section))
            or (not rest and section not in (*CONFIG_GROUPS, "run"))
            or (
                section in LABELLED_GROUPS
                and item in CATALOGUES[section]
                and option not in (OVER, *_options(section, item))
            )
        )
        error = _setting_error(path, "", arguments) if misspelt else None
        if error is not None:
            raise error


def hydra_mistake(error: Exception, arguments: Sequence[str]) -> UserError:
    """The error for a misspelt choice or setting, with what to type; for others Hydra's text on one line."""
    text = " ".join(str(error).split())
    choice = re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", text)
    if choice and choice[1] in CONFIG_GROUPS:
        return _choice_error(choice[1], choice[2])
    there = re.search(r"Could not append to config[^']*'([^']+)'", text)
    if there:
        typed = f"{there[1]}={next(iter(_values(there[1], arguments)), 'VALUE')}"
        return UserError(f"+{typed} came, but {there[1]} is there already, expected {typed}")
    setting = re.search(r"Could not override[^']*'([\w.:+]+)'", text)
    if setting:
        missing = re.search(r"full_key: (\S+)", f"{text} {error.__cause__ or ''}")
        found = _setting_error(setting[1], missing[1] if missing else "", arguments)
        if found:
            return found
    ambiguous = re.search(r"Ambiguous value for argument '(.*?)' 1\.", text)
    if ambiguous:
        return several_values(
            next((each for each in arguments if " ".join(each.split()) == ambiguous[1]), ambiguous[1])
        )
    if "must be a string or a list" in text:
        for group in CONFIG_GROUPS:
            for value in _values(group, arguments):
                if re.fullmatch(r"null|-?\d[\d.e]*|true|false", value):
                    return _name_expected_error(group, value)
    cause = " ".join(str(error.__cause__ or "").split())
    return UserError(text if cause in text else f"{text} {cause}")


def _choice_error(group: str, name: str) -> UserError:
    choices = choices_of(group)
    if group in ITEM_GROUPS:
        return unknown_item(group, name, choices)
    if group in SETTING_GROUPS:
        return _name_expected_error(group, name)
    if group == "experiment" and name in group_files(f"experiment/{PAPERS}"):
        return paper_is_no_run(name, name)
    return unknown(group, name, choices, "" if group == "launcher" else f"harness list {group}s")


def paper_is_no_run(typed: str, paper: str) -> UserError:
    """The error for the experiment of a paper, which is no configuration of a run."""
    return UserError(f"experiment={typed} is the experiment of a paper: harness reproduce {paper}")


def _name_expected_error(group: str, value: str) -> UserError:
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
    folders = experiment_folders() if group == "experiment" else {}
    return sorted({*names, *group_files(group), *folders, *(each for own in folders.values() for each in own)})


def _setting_error(path: str, missing: str, arguments: Sequence[str]) -> UserError | None:
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
        return _missing_section_error(path, value, arguments)
    if section in SETTING_GROUPS:
        known = [f"{section}.{name}" for name in setting_names(section)]
        return unknown("setting", path, known, "harness run --help")
    if section in LABELLED_GROUPS:
        return _item_option_error(section, rest, value, missing, arguments)
    if section in ("model", "dataset"):
        return _option_error(section, rest, value, arguments)
    if section == "launcher":
        return _launcher_error(path, value, arguments)
    sections = sorted({*SETTING_GROUPS, *CONFIG_GROUPS})
    if section in (*sections, "run", "hydra"):
        return None
    return unknown("section", section, sections, "harness run --help")


def _launcher_error(path: str, value: str, arguments: Sequence[str]) -> UserError:
    """The error for a setting that the chosen launcher does not have, or that comes without a launcher."""
    chosen = next(iter(_values("launcher", arguments)), "here")
    known = [f"launcher.{name}" for name in setting_names("launcher", chosen) if name != "name"]
    if known:
        return unknown(f"setting of launcher={chosen}", path, known)
    having = [name for name in group_files("launcher") if path.partition(".")[2] in setting_names("launcher", name)]
    expected = " or ".join(f"launcher={name} {path}={value}" for name in having or sorted(group_files("launcher")))
    return UserError(f"{path}={value} came without a launcher, expected {expected}")


def _missing_section_error(name: str, value: str, arguments: Sequence[str]) -> UserError:
    """The error for ``samples=5``: every place where the name is a setting or an option of what is chosen."""
    own = f"model.{name}" if name in ABOUT_MODELS else full_setting(name)
    places = [f"{own}={value}"] if own else []
    for group in ITEM_GROUPS:
        for item, options in _chosen_options(group, arguments).items():
            if name in options:
                inner = f"{group}.{item}" if group in LABELLED_GROUPS else group
                places.append(f"{inner}.{name}={value}")
    if places:
        return UserError(f"{name}={value} came without its section, expected {' or '.join(places)}")
    settings = [f"{section}.{each}" for section in SETTING_GROUPS for each in setting_names(section)]
    full = {each.rpartition(".")[2]: each for each in (*CONFIG_GROUPS, "run", *settings)}
    meant = [full[each] for each in get_close_matches(name, full, n=2)]
    return unknown("setting", name, full.values(), "harness run --help", meant)


def _option_error(section: str, rest: str, value: str, arguments: Sequence[str]) -> UserError | None:
    """The error for an option of the model or data set."""
    for item, options in _chosen_options(section, arguments).items():
        first, dot, _ = rest.partition(".")
        if dot and first in options:
            return UserError(f"{section}.{rest}={value} adds to an option, expected +{section}.{rest}={value}")
        known = [f"{section}.{option}" for option in dict.fromkeys(("label", *options))]
        return unknown("setting", f"{section}.{rest}", known, f"harness list {section}s {item}")
    return None


def _item_option_error(section: str, rest: str, value: str, missing: str, arguments: Sequence[str]) -> UserError | None:
    """The error for an option of an explainer or a metric, or for one whose item is missing."""
    catalogue, chosen = CATALOGUES[section], _chosen_options(section, arguments)
    item = next((name for name in (rest, rest.rpartition(".")[0]) if name and name in catalogue), None)
    if item is not None and missing not in (section, f"{section}.{item}"):
        listing = f"harness list {section}s {item}"
        return unknown(
            "setting", f"{section}.{rest}", [f"{section}.{item}.{o}" for o in _options(section, item)], listing
        )
    came = f"{section}.{rest}={value}"
    if item is not None:
        return not_chosen(section, item, came, arguments)
    name, dot, option = rest.partition(".")
    if name in chosen:  # one of the user's own
        return unknown("setting", f"{section}.{rest}", [f"{section}.{name}.{each}" for each in chosen[name]])
    if name in group_files(section):
        of_group = [
            f"{section}.{each}.{option}={value}"
            for each in _members(section, name)
            if option in _options(section, each)
        ]
        expected = f"expected it for each of them: {' '.join(of_group)}" if of_group else f"none of them has {option!r}"
        return UserError(f"{came} came, but {name} is a group of {section}s, {expected}")
    if not dot:
        places = [f"{section}.{each}.{name}={value}" for each, options in chosen.items() if name in options]
        if places:
            shared = f"; for all metrics that have it: +metric.shared.{name}={value}" if section == "metric" else ""
            return UserError(f"{came} came without the {section} it belongs to, expected {' '.join(places)}{shared}")
        if value.startswith("{"):
            return UserError(f"{came} came, but nothing of this label is there, expected +{came} to add it")
        return UserError(f"{came} came, expected {section}.NAME.OPTION=VALUE (harness list {section}s NAME)")
    return unknown_item(section, name, catalogue)


def not_chosen(section: str, item: str, came: str, arguments: Sequence[str]) -> UserError:
    """The error for an option of an item that is not among those that the user chose."""
    beside = ",".join([*chosen_names(section, arguments), item])
    return UserError(f"{came} came, but {item} is not chosen, expected it beside: {section}=[{beside}]")


def _options(section: str, item: str) -> Mapping[str, Any]:
    """The options of an item; of another library's without importing the library."""
    catalogue = CATALOGUES[section]
    return catalogue.bridged_options(item) if item in catalogue.bridged() else catalogue[item].options


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


def chosen_names(group: str, arguments: Sequence[str]) -> list[str]:
    """The items and named groups that are chosen in a group, by the arguments or by the files that they leave it to."""
    typed, experiments = _values(group, arguments), _values("experiment", arguments)
    return listed_names(typed[0] if typed else choice_in_files(group, listed_names(",".join(experiments[:1]))))


def _chosen_options(group: str, arguments: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The options of the items that are chosen in a group by name, those of named groups included."""
    own = {name: label for label, name in own_labels(group, arguments).items()}
    found: dict[str, Mapping[str, Any]] = {}
    for name in chosen_names(group, arguments):
        if name in own:
            found |= (
                {"python": CATALOGUES["model"]["python"].options}
                if group == "model"
                else {own[name]: CATALOGUES[group].registry.resolve(name).options}
            )
        elif name in CATALOGUES[group]:
            found[name] = _options(group, name)
        elif name in group_files(group):
            found |= {each: _options(group, each) for each in _members(group, name)}
    return found
