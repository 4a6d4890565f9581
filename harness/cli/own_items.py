"""Items of the user's own, ``package.module:function``, chosen on the command line like registered ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore

from harness.catalogue import CATALOGUES
from harness.cli.sections import ITEM_GROUPS, section_of_one

PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def offer_own_items(arguments: Sequence[str]) -> None:
    """Make every function that the arguments choose by its import a choice in its group, with its options.

    An explainer or metric gets the function's name as its label: ``explainer=[mine:bright]`` and
    ``explainer.bright.power=3``. A model is that of ``model=python``, whose factory is the function.
    """
    store = ConfigStore.instance()
    for group, names in _own_names(arguments).items():
        labels: set[str] = set()
        for name in names:
            if group == "model":
                options = {**CATALOGUES["model"]["python"].options, "factory": name}
                node = section_of_one("model", "python", options)
            elif group == "dataset":
                node = section_of_one("dataset", name, _plain_options(group, name))
            else:
                node = {_own_label(group, name, labels): {"name": name, **_plain_options(group, name)}}
            store.store(group=group, name=name, node=node)


def own_labels(group: str, arguments: Sequence[str]) -> dict[str, str]:
    """Label -> import of the explainers or metrics that the arguments choose by their import."""
    labels: set[str] = set()
    return {_own_label(group, name, labels): name for name in _own_names(arguments).get(group, [])}


def _own_names(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The imports that the arguments choose, for each group."""
    found: dict[str, list[str]] = {}
    for argument in arguments:
        group, _, value = argument.lstrip("+").partition("=")
        if group in ITEM_GROUPS and not value.startswith("{"):
            names = [each for each in _listed(value) if re.fullmatch(r"[\w.]+:\w[\w.]*", each)]
            found[group] = list(dict.fromkeys([*found.get(group, []), *names]))
    return found


def _listed(value: str) -> Iterator[str]:
    return (each.strip(" '\"[]") for each in value.split(","))


def _own_label(group: str, name: str, taken: set[str]) -> str:
    """The function's name, or the whole import where that is the name of another item."""
    short = name.rpartition(":")[2].replace(".", "_")
    label = re.sub(r"\W", "_", name) if short in taken or short in CATALOGUES[group] else short
    taken.add(label)
    return label


def _plain_options(group: str, name: str) -> Mapping[str, Any]:
    """The options of a function with their defaults; UserError where it cannot be imported, or called as it should."""
    options = CATALOGUES[group].registry.resolve(name).options
    return {option: value for option, value in options.items() if isinstance(value, PLAIN)}
