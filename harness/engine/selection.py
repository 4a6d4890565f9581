"""Which models, data sets, explainers and metrics are meant: what the user names, with every option written out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from harness.errors import UserError
from harness.identity import canonical
from harness.registry import Entry, Registry, import_object

# What a metric is run over at ``over: standard``: choices that papers make differently, of which a verdict should not
# depend on one (``harness.results.choices``).
OVER = "over"
CHOICES = {
    "baseline": ("zero", "mean", "blur", "uniform_noise"),
    "order": ("morf", "lerf"),
    "granularity": ("unit", "patch"),
    "score": ("probability", "logit"),
}


@dataclass(frozen=True, eq=False)
class Chosen:
    """A registered item with all its options, under the label it has in tables."""

    label: str
    entry: Any
    options: Mapping[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """Name and options, written out."""
        return {"name": self.entry.name, **self.options}

    def make(self) -> Any:
        """What a model's or a data set's function gives under these options."""
        return self.entry.function(**self.entry.keywords(self.options))

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """The code behind it: its function, what its options import, and what it calls elsewhere with them."""
        named = [self.options[name] for name in self.entry.imports]
        called = self.entry.code(self.options) if self.entry.code else []
        return [self.entry.function, *(import_object(each) for each in named if each and ":" in each), *called]


@dataclass(frozen=True, eq=False)
class Job:
    """One cell to be measured: an explainer scored by a metric."""

    explainer: Chosen
    metric: Chosen
    cell: str = ""


def choose_one(registry: Registry, given: Any) -> Chosen:
    """A model or a data set: its name alone, or a mapping of its name and options."""
    if isinstance(given, str) or callable(given):
        given = {"name": given}
    if not isinstance(given, Mapping) or "name" not in given:
        raise UserError(f"{registry.kind} is {given!r}, expected a name or a mapping with a name")
    options = {key: value for key, value in given.items() if key not in ("name", "label")}
    entry = registry.resolve(given["name"])
    chosen = entry.complete(options)
    return Chosen(str(given.get("label") or _default_label(entry, chosen)), entry, chosen)


def choose_several(registry: Registry, given: Any) -> list[Chosen]:
    """Explainers or metrics: one, a list, or a mapping of labels to options (with ``name`` where the label is not
    it; ``over`` with a list of values per option gives one for each combination, see ``every_setting``)."""
    if not isinstance(given, Mapping | str | Iterable) and not callable(given):
        raise UserError(f"{registry.kind}s are {given!r}, expected names, functions, or a mapping of labels to options")
    if isinstance(given, Mapping):
        for label, options in given.items():
            if options is not None and not isinstance(options, Mapping):
                raise UserError(f"the options of {registry.kind} {label!r} are {options!r}, expected a mapping")
        chosen = [
            choose_one(registry, {"name": label, **setting})
            for label, options in given.items()
            for setting in every_setting(registry, label, options or {})
        ]
    else:
        chosen = [
            choose_one(registry, each) for each in ([given] if isinstance(given, str) or callable(given) else given)
        ]
    if not chosen:
        raise UserError(f"no {registry.kind} was chosen, expected at least one")
    labels = [each.label for each in chosen]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError(
            f"two {registry.kind}s are called {twice!r}; give each its own label: {{label: {{name: ..., ...}}}}"
        )
    seen: dict[str, str] = {}
    for each in chosen:
        same = seen.setdefault(canonical(each.identity), each.label)
        if same != each.label:
            raise UserError(f"{registry.kind}s {same!r} and {each.label!r} are the same, options included; keep one")
    return chosen


def standard_choices(entry: Entry) -> dict[str, tuple[str, ...]]:
    """Those of CHOICES that a metric makes. An option that is None follows the explainer, and is no choice."""
    return {name: values for name, values in CHOICES.items() if entry.options.get(name) is not None}


def every_setting(registry: Registry, label: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The options with their label, once for every combination of what ``over`` lists: option -> values.

    ``over`` may be ``standard``: those of CHOICES that a metric makes. Without it the one setting there is.
    """
    over = options.get(OVER)
    fixed = {name: value for name, value in options.items() if name != OVER}
    if over is None:
        return [{"label": label, **fixed}]
    if over == "standard":
        over = standard_choices(registry.resolve(fixed.get("name", label)))
        if not over:
            raise UserError(f"{label!r} makes none of the choices of over=standard: {', '.join(CHOICES)}")
    if not isinstance(over, Mapping) or not over or not all(isinstance(v, list | tuple) and v for v in over.values()):
        raise UserError(f"over of {label!r} is {over!r}, expected standard, or for each option a list of values")
    settings = [dict(zip(over, values, strict=True)) for values in product(*over.values())]
    shown = lambda setting: ",".join(f"{name}={value}" for name, value in setting.items())
    return [{"label": f"{label}[{shown(setting)}]", **fixed, **setting} for setting in settings]


def _default_label(entry: Entry, options: Mapping[str, Any]) -> str:
    """The name, and the options that are not the defaults: a sweep over them must not look like one thing."""
    own = [f"{name}={value}" for name, value in options.items() if value is not entry.options[name]]
    own = [text for text in own if text not in {f"{name}={value}" for name, value in entry.options.items()}]
    return f"{entry.name}({', '.join(own)})" if own else entry.name
