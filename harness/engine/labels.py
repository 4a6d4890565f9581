"""Labels of items in tables, files and reports, where the user gives none: short, and different where items differ."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.registry import Entry, Explainer, Metric

# The options that say what an item is whose function only reads or makes it: ``mynet:make``, ``photos``, ``resnet50``.
SUBJECTS = ("factory", "path", "architecture", "which")


def default_label(entry: Entry, options: Mapping[str, Any], swept: Iterable[str] = ()) -> str:
    """The label of an item with these options.

    For a model or data set of the user's own it is what the user names (a function, the last part of a path), with the
    options that a sweep varies, ``swept``. For other items it is the name with the options that are not the defaults.
    """
    subject = _subject(entry, options)
    if subject is None:
        return with_options(entry.name, {name: options[name] for name in _not_default(entry, options)})
    shown = [name for name in swept if name in options and name != subject]
    return with_options(_last_part(subject, options[subject]), {name: options[name] for name in shown})


def with_options(label: str, options: Mapping[str, Any]) -> str:
    """A label followed by options in brackets, if there are any."""
    texts = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{label}({texts})" if texts else label


def _subject(entry: Entry, options: Mapping[str, Any]) -> str | None:
    """The option that says what the item is; None if its name says it."""
    if isinstance(entry, Explainer | Metric):
        return None
    return next((name for name in SUBJECTS if isinstance(options.get(name), str) and options[name]), None)


def _last_part(name: str, value: str) -> str:
    return (Path(value).name or value) if name == "path" else value


def _not_default(entry: Entry, options: Mapping[str, Any]) -> list[str]:
    """The options whose values are not the defaults, as values and as text: 1 is 1.0, a list is not a tuple's text."""
    own = [name for name, value in options.items() if value is not entry.options[name]]
    return [name for name in own if str(options[name]) != str(entry.options[name])]
