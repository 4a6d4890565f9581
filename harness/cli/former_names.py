"""Former names of options in arguments and files: read as the present ones, with a line for each."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.catalogue import CATALOGUES
from harness.cli.hydra_mistakes import chosen_names
from harness.cli.sections import ITEM_GROUPS, LABELLED_GROUPS
from harness.engine.variations import OVER
from harness.errors import UserError

SHARED = "shared"  # the key beside the metrics under which options for all of them stand
DEFAULT = "default_of"  # the resolver of a reference to an option's default


def with_present_names(arguments: Sequence[str]) -> list[str]:
    """The arguments with the present names of options; UserError where one option came under both names."""
    keys = {argument.partition("=")[0] for argument in arguments}
    return [_argument_presented(argument, arguments, keys) for argument in arguments]


def _argument_presented(argument: str, arguments: Sequence[str], keys: set[str]) -> str:
    key, equals, value = argument.partition("=")
    section, _, rest = key.partition(".")
    item, _, option = rest.rpartition(".")
    if not equals or section not in ITEM_GROUPS or not option:
        return argument
    items = [item] if section in LABELLED_GROUPS else chosen_names(section, arguments)
    present = next((new for each in items if (new := renamed_options(section, each).get(option))), None)
    if present is None:
        return argument
    new = ".".join(filter(None, (section, item, present)))
    if new in keys:
        raise UserError(f"{key} and {new} came, two names of one option: keep {new}")
    _tell(key, new)
    return f"{new}={value}"


def settings_with_present_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, references unresolved, with the present names of the options of all items.

    An option that the user leaves alone is a reference, which the value of its former name replaces.
    """
    named = dict(settings)
    for group in ITEM_GROUPS:
        chosen = settings.get(group)
        if not isinstance(chosen, Mapping):
            continue
        if group in LABELLED_GROUPS:
            section = {label: _item_presented(group, f"{group}.{label}", label, own) for label, own in chosen.items()}
            if group == "metric" and isinstance(section.get(SHARED), Mapping):
                section = _with_shared_values(section)
        else:
            section = _item_presented(group, group, chosen.get("name"), chosen)
        named[group] = section
    return named


def _item_presented(group: str, where: str, label: Any, options: Any) -> Any:
    """The section of one item with present names."""
    if not isinstance(options, Mapping):
        return options
    renamed = renamed_options(group, options.get("name", label))
    if isinstance(options.get(OVER), Mapping):
        options = {**options, OVER: dict(_each_present(f"{where}.{OVER}", renamed, options[OVER]))}
    return dict(_each_present(where, renamed, options))


def _each_present(where: str, renamed: Mapping[str, str], options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values; a reference to a default gives way to the value under the former name."""
    replaced = {renamed[name] for name in options if name in renamed}
    for name, value in options.items():
        if name in renamed:
            _tell(f"{where}.{name}", f"{where}.{renamed[name]}")
        elif name in replaced and not is_reference(value):
            raise UserError(f"{where} has two names of one option: keep {name}")
        if name not in replaced:
            yield renamed.get(name, name), value


def _with_shared_values(section: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with the values that stand in ``shared`` under a former name of one of their options."""
    shared, spread, used = section[SHARED], {}, set()
    for label, options in section.items():
        if label == SHARED or not isinstance(options, Mapping | None):
            continue
        spread[label] = dict(options or {})
        name = spread[label].get("name", label)
        for former, present in renamed_options("metric", name).items():
            if former not in shared or CATALOGUES["metric"][name].options[present] is None:
                continue
            if present in shared:
                raise UserError(f"metric.{SHARED} has two names of one option of {name}: keep {present}")
            if is_reference(spread[label].get(present, f"${{{DEFAULT}:}}")):
                spread[label][present] = shared[former]
            used.add(former)
            _tell(f"metric.{SHARED}.{former}", f"metric.{SHARED}.{present} for {name}")
    kept = {name: value for name, value in shared.items() if name not in used or _has_option(spread, name)}
    return {**section, **spread, SHARED: kept}


def _has_option(section: Mapping[str, Any], option: str) -> bool:
    """Whether one of these metrics has an option."""
    names = (str(options.get("name", label)) for label, options in section.items())
    return any(option in CATALOGUES["metric"][name].options for name in names if name in CATALOGUES["metric"])


def renamed_options(group: str, name: Any) -> Mapping[str, str]:
    """Former -> present names of the options of an item; {} for one of another library or of the user's own."""
    catalogue = CATALOGUES[group]
    known = isinstance(name, str) and name in catalogue and name not in catalogue.bridged()
    return catalogue[name].renamed if known else {}


def defaults_by_reference(group: str, name: str, entry: Any) -> dict[str, Any]:
    """The options with their defaults, as references where an option had another name: then it shows what is set."""
    late = set(entry.renamed.values())
    return {
        option: f"${{{DEFAULT}:{group},{name},{option}}}" if option in late else value
        for option, value in entry.options.items()
    }


def is_reference(value: Any) -> bool:
    """Whether a value is a reference to a default, which the user has not replaced."""
    return isinstance(value, str) and re.match(rf"\$\{{({DEFAULT}|own_or_shared):", value) is not None


def _tell(former: str, present: str) -> None:
    print(f"harness: {former} is called {present} now", file=sys.stderr)
