"""Selects models, data sets, explainers and metrics by the names and options that the user gives."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from harness.engine.labels import default_label
from harness.engine.variations import CHOICES, OVER, standard_choices
from harness.errors import UserError, printable
from harness.identity import canonical
from harness.option_kinds import LONGEST_SHOWN, value_shown
from harness.options import import_object
from harness.registry import ABOUT_MODELS, MODELS, Registry


@dataclass(frozen=True, eq=False)
class Chosen:
    """A registered item with all its options, and its label in tables.

    named   whether the user gave the label; the identity does not contain it, since it changes no number
    about   what the user says about a model, whatever function makes it: those of ABOUT_MODELS that are given
    """

    label: str
    entry: Any
    options: Mapping[str, Any]
    named: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """Name and all options."""
        return {"name": self.entry.name, **self.options, **self.about}

    def make(self) -> Any:
        """The result of a model's or a data set's function with these options."""
        made = self.entry.function(**self.entry.keywords(self.options))
        if not self.about:
            return made
        from harness.models.black_box import loaded_model  # imports torch, which names do not need

        return replace(loaded_model(made), **self.about)

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """The functions whose code it uses: its own, those that its options import, and those of ``Entry.code``."""
        named = [self.options[name] for name in self.entry.imports]
        called = self.entry.code(self.options) if self.entry.code else []
        return [self.entry.function, *(import_object(each) for each in named if each and ":" in each), *called]


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of a block, to be measured: an explainer scored by a metric.

    id   the hash of model, data set, explainer, metric and protocol with all options (``harness.identity.cell_id``):
         it names the row and the file of scores; "" if nothing is written
    """

    explainer: Chosen
    metric: Chosen
    id: str = ""

    @property
    def labels(self) -> tuple[str, str]:
        """The labels of explainer and metric: they tell the cells of a block apart."""
        return self.explainer.label, self.metric.label


def choose_one(registry: Registry, choice: Any) -> Chosen:
    """One item, from its name or function, or from a mapping of ``name`` and options.

    The mapping may hold a ``label``, and under ``swept`` the options that differ between the jobs of a sweep: they are
    part of the label that the item gets by itself.
    """
    if isinstance(choice, str) or callable(choice):
        choice = {"name": choice}
    name = choice.get("name") if isinstance(choice, Mapping) else None
    if not (isinstance(name, str) or callable(name)):
        raise UserError(f"{registry.kind} is {value_shown(choice)}, expected a name or a mapping with a name")
    about = _about_model(choice) if registry is MODELS else {}
    beside = ("name", "label", "swept", *(ABOUT_MODELS if registry is MODELS else ()))
    options = {key: value for key, value in choice.items() if key not in beside}
    entry, label = registry.resolve(choice["name"]), choice.get("label")
    complete = entry.complete(options)
    if label in (None, ""):
        return Chosen(default_label(entry, complete, choice.get("swept") or ()), entry, complete, about=about)
    return Chosen(str(label), entry, complete, named=True, about=about)


def _about_model(choice: Mapping[str, Any]) -> dict[str, Any]:
    """What the user says about any model, beside the options of its function: fields of ``LoadedModel``."""
    about = {name: choice[name] for name in ABOUT_MODELS if choice.get(name) is not None}
    if "task" in about:
        from harness.task import task_named  # imports torch

        task_named(about["task"])
    return about


def choose_several(registry: Registry, choice: Any) -> list[Chosen]:
    """Several items: one name or function, a list of these, or a mapping of labels to options.

    In a mapping, the option ``name`` says which item is meant if the label is not its name. The option ``over``, with a
    list of values for each option, gives one item for each combination; see ``every_setting``.
    """
    single = isinstance(choice, str) or callable(choice)
    if not single and not isinstance(choice, Iterable):
        raise UserError(
            f"{registry.kind}s are {value_shown(choice)}, expected names, functions, or a mapping of labels to options"
        )
    if isinstance(choice, Mapping):
        chosen = [choose_one(registry, each) for each in _labelled_settings(registry, choice)]
    else:
        chosen = [choose_one(registry, each) for each in ([choice] if single else choice)]
    if not chosen:
        raise UserError(f"no {registry.kind} was chosen, expected at least one")
    _check_distinct(registry, chosen)
    return chosen


def _labelled_settings(registry: Registry, choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Name, label and options of each item that a mapping of labels to options selects."""
    for label, options in choice.items():
        if options is not None and not isinstance(options, Mapping):
            raise _no_options(registry, str(label), options)
        yield from ({"name": label, **setting} for setting in every_setting(registry, label, options or {}))


def _no_options(registry: Registry, label: str, value: Any) -> UserError:
    """The error for a value in the place of an item's options, with what to type."""
    known = registry[label].options if label in registry else {}
    example = f"{registry.kind}.{label}.{next(iter(known), 'OPTION')}={printable(value)[:LONGEST_SHOWN]}"
    options = f" (its options: {', '.join(known)})" if known else ""
    return UserError(
        f"{registry.kind}.{label} is {value_shown(value)}, expected the value of one option: {example}{options}"
    )


def _check_distinct(registry: Registry, chosen: list[Chosen]) -> None:
    """UserError if two items have the same label, or the same name and options."""
    labels = [each.label for each in chosen]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError(
            f"two {registry.kind}s are called {twice!r}; give each its own label: {{label: {{name: ..., ...}}}}"
        )
    first_labels: dict[str, str] = {}
    for each in chosen:
        same = first_labels.setdefault(canonical(each.identity), each.label)
        if same != each.label:
            raise UserError(f"{registry.kind}s {same!r} and {each.label!r} are the same, options included; keep one")


def every_setting(registry: Registry, label: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Options with a label, one mapping for every combination of the values in ``over`` (option -> values).

    ``over`` may be ``standard``: those of CHOICES that are options of the metric. Without it there is one mapping.
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
        raise UserError(
            f"over of {label!r} is {value_shown(over)}, expected standard, or for each option a list of values"
        )
    over = registry.resolve(fixed.get("name", label)).presented(over)
    settings = [dict(zip(over, values, strict=True)) for values in product(*over.values())]
    shown = lambda setting: ",".join(f"{name}={value}" for name, value in setting.items())
    return [{"label": f"{label}[{shown(setting)}]", **fixed, **setting} for setting in settings]
