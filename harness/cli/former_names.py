"""Former names of options in arguments and files: read as the present ones, with a line for each."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.catalogue import CATALOGUES
from harness.cli.hydra_mistakes import chosen_names
from harness.cli.origins import typed_paths
from harness.cli.sections import ITEM_GROUPS, LABELLED_GROUPS
from harness.engine.variations import OVER
from harness.errors import UserError

EXPERIMENT, POINTS = "experiment", "points"  # where an experiment keeps options of the model, one mapping for each job
SHARED = "shared"  # the key beside the metrics under which options for all of them stand
DEFAULT = "default_of"  # the resolver of a reference to an option's default


def with_present_names(arguments: Sequence[str]) -> list[str]:
    """The arguments with the present names of options; UserError where one option came under both names."""
    typed = {path for argument in arguments if not argument.startswith("~") for path in typed_paths(argument)}
    return [_argument_presented(argument, arguments, typed) for argument in arguments]


def _argument_presented(argument: str, arguments: Sequence[str], typed: set[str]) -> str:
    """An argument with present names in its key and in the mappings of its value."""
    name, equals, value = argument.partition("=")
    key, inside = name.lstrip("~+"), dict[str, str]()
    for path in typed_paths(argument):
        place, _, option = path.rpartition(".")
        renamed = _renamed_at(place, arguments)
        if option not in renamed:
            continue
        present = f"{place}.{renamed[option]}"
        if present in typed:
            raise UserError(f"{path} and {present} came, two names of one option: keep {present}")
        _tell(path, present)
        if path == key:
            name = f"{name.removesuffix(key)}{present}"
        else:
            inside[option] = renamed[option]
    return f"{name}{equals}{_with_keys(value, inside)}"


def _renamed_at(place: str, arguments: Sequence[str]) -> Mapping[str, str]:
    """Former -> present names of the options that stand at a place, such as ``metric.infidelity``."""
    section, _, label = place.removesuffix(f".{OVER}").partition(".")
    if section in LABELLED_GROUPS:
        return renamed_options(section, label)
    if section == EXPERIMENT and re.fullmatch(rf"{POINTS}\.\w+", label):
        section, label = "model", ""
    if section not in ITEM_GROUPS or label:
        return {}
    return dict(pair for name in chosen_names(section, arguments) for pair in renamed_options(section, name).items())


def _with_keys(value: str, present: Mapping[str, str]) -> str:
    """The text of a value in which the keys of mappings have their present names; texts in quotes stay."""
    key = r"""("(?:\\.|[^"])*"|'(?:\\.|[^'])*')|(?<=[{,])(\s*)(\w+)(?=\s*:)"""
    return re.sub(key, lambda found: found[1] or found[2] + present.get(found[3], found[3]), value)


def settings_with_present_names(settings: Mapping[str, Any], origin: Callable[[str], int]) -> dict[str, Any]:
    """The configuration, references unresolved, with the present names of the options of all items.

    An option that nobody sets is a reference, which the value of its former name replaces. Where both names have a
    value, the one of the later ``origin`` (of a path) holds; UserError where both have the same.
    """
    named = dict(settings)
    for group in ITEM_GROUPS:
        chosen = settings.get(group)
        if not isinstance(chosen, Mapping):
            continue
        if group in LABELLED_GROUPS:
            section = {
                label: _item_presented(group, f"{group}.{label}", label, own, origin) for label, own in chosen.items()
            }
            if group == "metric" and isinstance(section.get(SHARED), Mapping):
                section = _with_shared_values(section)
        else:
            section = _item_presented(group, group, chosen.get("name"), chosen, origin)
        named[group] = section
    return named | _experiment_presented(settings, origin)


def _experiment_presented(settings: Mapping[str, Any], origin: Callable[[str], int]) -> dict[str, Any]:
    """The section ``experiment``, in whose ``points`` stand options of the model; {} where there is none."""
    experiment, model = settings.get(EXPERIMENT), settings.get("model")
    points = experiment.get(POINTS) if isinstance(experiment, Mapping) else None
    if not isinstance(points, Mapping) or not isinstance(model, Mapping):
        return {}
    presented = {
        name: _item_presented("model", f"{EXPERIMENT}.{POINTS}.{name}", model.get("name"), options, origin)
        for name, options in points.items()
    }
    return {EXPERIMENT: {**experiment, POINTS: presented}}


def _item_presented(group: str, where: str, label: Any, options: Any, origin: Callable[[str], int]) -> Any:
    """The section of one item with present names."""
    if not isinstance(options, Mapping):
        return options
    renamed = renamed_options(group, options.get("name", label))
    if isinstance(options.get(OVER), Mapping):
        options = {**options, OVER: _presented(f"{where}.{OVER}", renamed, options[OVER], origin)}
    return _presented(where, renamed, options, origin)


def _presented(
    where: str, renamed: Mapping[str, str], options: Mapping[str, Any], origin: Callable[[str], int]
) -> dict[str, Any]:
    """The options under their present names; of two values under both names the later one."""
    present = dict(options)
    for former in [name for name in options if name in renamed]:
        name, value = renamed[former], present.pop(former)
        old, new = f"{where}.{former}", f"{where}.{name}"
        both = name in options and not is_reference(options[name])
        if both and origin(old) == origin(new):
            raise UserError(f"{where} has {former} and {name}, two names of one option: keep {name}")
        _tell(old, new)
        if not both or origin(old) > origin(new):
            present[name] = value
    return present


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
