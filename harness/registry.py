"""The registries of explainers, metrics, models and data sets: items by name, with their options and capabilities.

An item is a plain function with a decorator. Its keyword-only arguments are its options; their defaults are part of the
configuration and of the cell's identity (``harness.options``). Three keyword names are not options: the harness passes
``context`` (``harness.samples.Samples``), ``prepared`` and ``seed`` to functions that have an argument of that name.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.errors import UserError, unknown
from harness.item_places import modules_of_items
from harness.modalities import MODALITIES
from harness.option_kinds import Kind, kind_of, kinds_of, value_shown
from harness.options import (
    as_keywords,
    bundles_of,
    check_renamed,
    complete_options,
    import_object,
    options_of,
    present_names,
)
from harness.other_names import unknown_item
from harness.signatures import check_signature, positional_option

HANDED_IN = ("context", "prepared", "seed")
# Settings of every model beside the options of its function (``harness.sources.LoadedModel``): what its outputs are,
# which of several outputs is explained, and which layer embeds token ids.
ABOUT_MODELS = ("task", "output", "embedding")
# The most values of an option that tuning tries beside the default.
MOST_TRIED = 4
PLAIN = (type(None), bool, int, float, str, tuple)
Span = tuple[float | None, float | None]


@dataclass(frozen=True)
class Entry:
    """A registered function with its name, its options (name -> default) and the first sentence of its docstring.

    kinds     option -> the values that it takes, as its annotation or its default declares them
    imports   the options that name something to import, ``package.module:name``; its code counts as the item's code
    code      options -> further functions that the item calls under these options without importing them, or None
    renamed   former names of options -> their present names; a former name is accepted, with a warning
    added     options that came later -> the value with which the item does what it did before: rows of earlier versions
              count as measured with it
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    code: Callable[[Mapping[str, Any]], list[Callable[..., Any]]] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n")[0].split())

    @cached_property
    def bundles(self) -> dict[str, Any]:
        """The keywords whose default is a bundle of options, with that default."""
        return bundles_of(self.function)

    def kind_of(self, option: str) -> Kind:
        """The values that an option takes: those of its annotation, or values like its default."""
        return self.kinds.get(option) or kind_of(None, self.options[option])

    def keywords(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options as keyword arguments of the function; those of a bundle become one object."""
        return as_keywords(self.bundles, options)

    def presented(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given values under the present names of their options; a former name is told in a warning."""
        return present_names(self.name, self.renamed, given)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options, the given ones over the defaults; UserError for an unknown name or a senseless value."""
        given = self.presented(given)
        for name in given:
            if name not in self.options and positional_option(self.function, name):
                raise UserError(
                    f"{name} of {self.name} is no option, since it stands before the * of its arguments; "
                    f"expected {getattr(self.function, '__name__', 'f')}(..., *, {name}=...)"
                )
        return complete_options(self.name, self.options, given, self.kind_of)


@dataclass(frozen=True)
class Explainer(Entry):
    """An explainer's capabilities; they decide where it is applicable and how it is scored.

    scope        ``local``: one map per sample; ``global``: one map for the data set, repeated for every sample
    access       what it needs of the model: ``none``, ``forward``, ``gradient`` or ``activations``
    modalities   the kinds of input it accepts: ``image``, ``table``, ``tokens``, ``series``, ``volume``, ``other``
    signed       whether the sign of an attribution has a meaning
    complete_to  what the attributions add up to: ``baseline`` f(x) - f(baseline); ``output`` f(x); ``background`` f(x)
                 less the mean of f over training inputs that the explainer draws itself; or None
    stochastic   whether it draws random numbers
    per_class    whether each class, or other output, has a map of its own; otherwise all have the same one
    convention   ``contribution``: the input is a factor, like w * (x - r); ``local``: gradient-like, like w
    control      whether it is a control, which does not use the model
    stored       whether it only reads stored maps, so that it cannot explain other inputs, classes or weights
    cost         model evaluations per sample, F forward and B backward: ``1 F 1 B``, ``K + 1 F``
    source       whose implementation it is: ``harness``, or the name of another library
    pairs        whether it also computes the interactions of pairs of units (``harness.interactions``)
    caveat       a known error of another library's implementation, in a few words; its rows are flagged and not ranked
    breaks       rules for explainers that such an implementation breaks: ``company``, its maps depend on the other
                 samples in the batch; ``nonzero``, its maps may be all zero
    prepare      ``prepare(model, context, /, **options)``: work done once per block and timed separately; its result is
                 passed as ``prepared``
    tunable      the options that are tuned where this explainer is among the best, each with one to four plain values
                 that are tried beside the default, ``{"samples": (250, 4000)}``: values that may make better maps, for
                 at most eight times the default's cost. One that is not applicable to some model or data does no harm.
                 It changes no map: it does not count as the explainer's code
    """

    scope: str = "local"
    access: str = "gradient"
    modalities: tuple[str, ...] = MODALITIES
    signed: bool = True
    complete_to: str | None = None
    stochastic: bool = False
    per_class: bool = True
    convention: str = "contribution"
    control: bool = False
    stored: bool = False
    cost: str = ""
    source: str = "harness"
    pairs: bool = False
    caveat: str = ""
    breaks: tuple[str, ...] = ()
    prepare: Callable[..., Any] | None = None
    tunable: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.tunable, Mapping):
            raise UserError(
                f"tunable of {self.name} is a {type(self.tunable).__name__}, expected a mapping: "
                '{"samples": (250, 4000)}'
            )
        for option, values in self.tunable.items():
            self._check_tunable(option, values)

    def _check_tunable(self, option: str, values: Any) -> None:
        """UserError in one line if these are no values of the option that can be tried beside its default."""
        where = f"tunable of {self.name}"
        if option not in self.options:
            raise unknown(f"option in {where}", option, self.options)
        if not isinstance(values, tuple) or not 1 <= len(values) <= MOST_TRIED:
            came = f"{len(values)} values" if isinstance(values, tuple) else f"a {type(values).__name__}"
            raise UserError(f"{where} has {came} for {option}, expected a tuple of 1 to {MOST_TRIED} values")
        default, known = self.options[option], []
        for value in values:
            try:
                taken = self.complete({option: value})[option]
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
            if not isinstance(taken, PLAIN):
                raise UserError(f"{where} has a {type(taken).__name__} for {option}, expected a plain value")
            if taken in known or (isinstance(default, PLAIN) and taken == default):
                which = "twice" if taken in known else "the default"
                raise UserError(f"{where} has {option}={taken!r}, {which}; expected other values than the default")
            known.append(taken)


@dataclass(frozen=True)
class Metric(Entry):
    """A metric's direction, unit and kind, and what it needs.

    better       ``higher``, ``lower``, None if there is no direction, or a function of the options
    unit         unit of the score: ``probability``, ``correlation``, ``nats``, ..., or a function of the options
    version      a number that is raised when the definition changes
    kind         ``faithfulness``, ``truth``, ``localisation``, ``sanity``, ``axiom``, ``robustness``, ``complexity``,
                 ``check`` (whether a property holds: explainers have no rank by it), ``reference`` (the value by
                 chance, to compare a score with) or ``cost``
    expects      the convention of attributions for which the metric is defined, or None; others are flagged
    needs        what it needs besides model, inputs and attributions: ``explainer`` (to compute further attributions),
                 ``masks``, ``truth``, ``labels``, ``train`` (training inputs), ``train_labels``
    span         the least and the largest score that is possible, ``(0, 1)``; None for an end without a limit. Where it
                 depends on the unit, a mapping of units, ``""`` for all others; or a function of the options. None if
                 it is not declared
    chance       the expected score of a map of random numbers, or a function of the options; None if it depends on
                 model and data. Neither it nor ``span`` changes a score: they do not count as the metric's code

    What the curves (N, K) of its ``Scores`` show, for drawings; it is no part of the code's version:

    curve_across  what their points are at, ``share removed``, or a function of the options; None if the K numbers are
                  no points of a line, but facts or draws; "" if it is not known
    curve_places  where the points lie: ``(first, last)`` if evenly spaced, the name of the option that lists the
                  places, or ``f(options, K)``; 1, 2, 3, ... by default
    curve_height  what they show at a point, or a function of the options: ``{score}`` stands for the model's score
                  under the options, and ``{line}`` for the words that a height above a straight line needs where the
                  model predicts numbers; by default the metric's own unit
    """

    better: str | Callable[[Mapping[str, Any]], str] | None = "higher"
    unit: str | Callable[[Mapping[str, Any]], str] = ""
    version: int = 1
    kind: str = "faithfulness"
    expects: str | None = None
    needs: tuple[str, ...] = ()
    span: Span | Mapping[str, Span] | Callable[[Mapping[str, Any]], Span] | None = None
    chance: float | Callable[[Mapping[str, Any]], float] | None = None
    curve_across: str | Callable[[Mapping[str, Any]], str] | None = ""
    curve_places: tuple[float, float] | str | Callable[[Mapping[str, Any], int], Sequence[float]] | None = None
    curve_height: str | Callable[[Mapping[str, Any]], str] = ""

    def direction(self, options: Mapping[str, Any]) -> str | None:
        """Which way is better under these options: ``higher``, ``lower`` or None."""
        return self.better(options) if callable(self.better) else self.better

    def unit_of(self, options: Mapping[str, Any]) -> str:
        """The unit of the score under these options."""
        return self.unit(options) if callable(self.unit) else self.unit

    def span_of(self, options: Mapping[str, Any]) -> Span | None:
        """The least and the largest score under these options, None for no limit; None if it is not declared."""
        if isinstance(self.span, Mapping):
            return self.span.get(self.unit_of(options), self.span.get("", (None, None)))
        return self.span(options) if callable(self.span) else self.span

    def limits_of(self, options: Mapping[str, Any]) -> tuple[float, float] | None:
        """The least and the largest score under these options; None if one of them has no limit or is not declared."""
        low, high = self.span_of(options) or (None, None)
        return None if low is None or high is None else (float(low), float(high))

    def chance_of(self, options: Mapping[str, Any]) -> float | None:
        """The expected score of a map of random numbers; None if it is not known."""
        return self.chance(options) if callable(self.chance) else self.chance


@dataclass(frozen=True)
class DataSet(Entry):
    """Where a data set is from and what is in it, in a few words each; shown on its page and by ``harness list``.

    modality  ``image``, ``table``, ``tokens``, ``series``, ``volume``, or ``any`` if it depends on the user's files
    source    who made it and where it is published, or how it is generated
    licence   licence of the data, or why there is none
    samples   the number of samples, and how they are split
    classes   what is predicted
    """

    modality: str = "any"
    source: str = ""
    licence: str = ""
    samples: str = ""
    classes: str = ""


class Registry(Mapping[str, Any]):
    """A mapping of names to entries; a module of ``package`` is imported when an item of it is first looked up."""

    def __init__(self, kind: str, entry: type, package: str, handed_in: tuple[str, ...] = ()) -> None:
        self.kind, self.entry, self.package, self.handed_in = kind, entry, package, handed_in
        self._entries: dict[str, Any] = {}
        self._bridges: dict[str, tuple[Callable[[], Iterable[str]], Callable[[str], Any]]] = {}
        self._loaded = self._loading = False

    def register(self, function: Callable[..., Any], name: str | None = None, **capabilities: Any) -> Any:
        """Add a function under its own name, or another, and return the entry."""
        name = name or function.__name__
        known = self._entries.get(name)
        home = known.function.__module__ if known else modules_of_items(self.kind, self.package).get(name)
        if home not in (None, function.__module__):
            raise UserError(f"{self.kind} {name!r} is already registered by {home}")
        self._entries[name] = self._checked_entry(name, function, **capabilities)
        return self._entries[name]

    @property
    def registered(self) -> Mapping[str, Any]:
        """The entries of what has been imported so far."""
        return self._entries

    def bridge(self, prefix: str, names: Callable[[], Iterable[str]], entry: Callable[[str], Any]) -> None:
        """Look up another library's items as ``prefix.name``; iteration leaves them out."""
        self._bridges[prefix] = names, entry

    def bridged(self) -> list[str]:
        """The names of all items of other libraries; none of these libraries is imported."""
        self._load()
        return sorted(name for names, _ in self._bridges.values() for name in names())

    def resolve(self, chosen: str | Callable[..., Any]) -> Any:
        """The entry of a registered name, of an import path ``package.module:function``, or of a function."""
        if callable(chosen):
            return self._of_function(chosen)
        if not isinstance(chosen, str):
            raise UserError(f"{self.kind} is {value_shown(chosen)}, expected a name or a function")
        if ":" in chosen:
            return self._of_function(import_object(chosen), name=chosen)
        return self[chosen]

    def _of_function(self, function: Callable[..., Any], name: str | None = None) -> Any:
        registered = next((entry for entry in self.values() if entry.function is function), None)
        name = name or getattr(function, "__name__", type(function).__name__)
        return registered or self._checked_entry(name, function)

    def _checked_entry(self, name: str, function: Callable[..., Any], **capabilities: Any) -> Any:
        check_signature(self.kind, name, function, self.handed_in)
        options = options_of(function, self.handed_in)
        taken = next((each for each in ABOUT_MODELS if self.kind == "model" and each in options), None)
        if taken is not None:
            raise UserError(f"model {name} has the option {taken!r}, a setting of every model; give it another name")
        check_renamed(f"{self.kind} {name}", options, capabilities.get("renamed") or {})
        kinds = kinds_of(function, options, bundles_of(function).values())
        entry = self.entry(name, function, options, kinds, **capabilities)
        entry.complete(entry.added)  # UserError for an option that it does not have, or a value that makes no sense
        return entry

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            self._load_item(name)
        prefix, dot, _ = str(name).partition(".")
        if dot and prefix in self._bridges:
            return self._bridges[prefix][1](name)
        if name not in self._entries:
            raise unknown_item(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        known = name in self._entries or name in modules_of_items(self.kind, self.package)
        return known or name in self.bridged()

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load_item(self, name: str) -> None:
        """Import the module of an item; all modules for another name.

        Items of other libraries are known only then, and the error about an unknown name tells similar ones.
        """
        module = modules_of_items(self.kind, self.package).get(name)
        if module is None:
            self._load()
        else:
            importlib.import_module(module)

    def _load(self) -> None:
        if self._loaded:
            return
        if self._loading:  # a module of the package looks up a name while it is imported
            return
        self._loading = True
        try:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
        finally:
            self._loading = False
        self._loaded = True  # only after success: if an import failed, the next look-up tries again


EXPLAINERS = Registry("explainer", Explainer, "harness.explainers", HANDED_IN)
METRICS = Registry("metric", Metric, "harness.metrics", HANDED_IN)
MODELS = Registry("model", Entry, "harness.models")
DATASETS = Registry("dataset", DataSet, "harness.datasets")


def explainer(**capabilities: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an explainer: ``f(model, inputs, targets, *, options) -> attributions``; see ``Explainer``."""
    return _decorator(EXPLAINERS, capabilities)


def metric(**capabilities: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a metric: ``f(batch, *, options) -> Scores`` or a tensor (N,); see ``Metric``."""
    return _decorator(METRICS, capabilities)


def model(**capabilities: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a model: ``f(*, options) -> LoadedModel`` or a module."""
    return _decorator(MODELS, capabilities)


def dataset(**capabilities: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a data set: ``f(*, options) -> Data``; see ``DataSet``."""
    return _decorator(DATASETS, capabilities)


def _decorator(registry: Registry, capabilities: dict[str, Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        registry.register(function, **capabilities)
        return function

    return register
