"""Names and options of items, checked against the catalogue before anything heavy is imported."""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.catalogue import CATALOGUES
from harness.cli.sections import LABELLED_GROUPS
from harness.options import RESERVED
from harness.registry import ABOUT_MODELS


def check_items(settings: Mapping[str, Any]) -> None:
    """UserError for an unknown name or option of a chosen item, or a value of another kind.

    Functions of the user's own and items of other libraries are checked when they are imported.
    """
    for group, catalogue in CATALOGUES.items():
        beside = (*RESERVED, *ABOUT_MODELS) if group == "model" else RESERVED
        for name, options in _named(group, settings.get(group)):
            if isinstance(name, str) and ":" not in name and name not in catalogue.bridged():
                catalogue[name].complete({key: value for key, value in options.items() if key not in beside})


def _named(group: str, choice: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Name and options of each item of a group, as far as they have the form that is expected."""
    if not isinstance(choice, Mapping):
        return
    if group not in LABELLED_GROUPS:
        yield choice.get("name"), choice
        return
    for label, options in choice.items():
        if options is None or isinstance(options, Mapping):
            yield (options or {}).get("name", label), options or {}
