"""What there is: explainers, metrics, models and data sets by name, with their options and capabilities.

An item is a plain function with a decorator. Its keyword-only arguments are its options: their defaults become the
configuration and part of the cell's identity. A keyword whose default is a frozen dataclass is a bundle: each field is
an option of its own, and the function receives the object. So options that many items share are written once. A few
keyword names are not options but are handed in by the harness to functions that ask for them: ``context``
(``harness.samples.Samples``), ``prepared`` and ``seed``.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from harness.errors import UserError, one_line, unknown

HANDED_IN = ("context", "prepared", "seed")


@dataclass(frozen=True)
class Entry:
    """A registered function with its name, its options (name -> default) and the first sentence of its docstring.

    imports   the options that name something to import, ``package.module:name``, whose code counts as the item's own
    code      options -> functions elsewhere that the item calls with these options and does not import, or None
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    code: Callable[[Mapping[str, Any]], list[Callable[..., Any]]] | None = None

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n")[0].split())

    @cached_property
    def bundles(self) -> dict[str, Any]:
        """The keywords that take a bundle of options, with their defaults."""
        return bundles_of(self.function)

    def keywords(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options as keywords of the function: those of a bundle become one object."""
        rest = dict(options)
        objects = {
            keyword: replace(default, **{each.name: rest.pop(each.name) for each in fields(default)})
            for keyword, default in self.bundles.items()
        }
        return rest | objects

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options, the given ones over the defaults; an unknown name or a value of another kind is an error."""
        options = dict(self.options)
        for name, value in given.items():
            if name not in options:
                raise unknown(f"option of {self.name}", name, options)
            what, default = f"option {name} of {self.name}", self.options[name]
            _check_kind(what, value, default)
            options[name] = _like_default(what, value, default)
        return options


@dataclass(frozen=True)
class Explainer(Entry):
    """An explainer's capabilities, from which it follows where it applies and how it is scored.

    scope        ``local``: one map per sample; ``global``: one for the data set, broadcast to the samples
    access       what it needs of the model: ``none``, ``forward``, ``gradient`` or ``activations``
    modalities   the kinds of input it serves: ``image``, ``table``, ``tokens``, ``series``, ``other``
    signed       whether the sign of an attribution means anything
    complete_to  what the attributions sum to: ``baseline`` f(x) - f(baseline), ``output`` f(x), ``background`` f(x)
                 less the mean of f over the training inputs it drew, which only it knows, or None
    stochastic   whether it draws random numbers
    convention   ``contribution`` includes the input's factor, like w * (x - r); ``local`` is gradient-like, like w
    control      it does not look at the model
    stored       its maps were made before: it can explain no other inputs, classes or weights
    cost         model evaluations per sample in the field's short form: ``1 F 1 B``, ``K + 1 F``; forward F, backward B
    source       who computes it: ``harness``, or the library of a row that shows what that library gives
    caveat       what a library's row is known to get wrong, in a few words; it is flagged and is not ranked
    breaks       promises of every explainer that such a row is known to break: ``company``, its maps depend on the
                 batch; ``nonzero``, they may be all zero
    prepare      ``prepare(model, context, /, **options)``: work done once per block, timed apart, handed in as
                 ``prepared``
    """

    scope: str = "local"
    access: str = "gradient"
    modalities: tuple[str, ...] = ("image", "table", "tokens", "series", "other")
    signed: bool = True
    complete_to: str | None = None
    stochastic: bool = False
    convention: str = "contribution"
    control: bool = False
    stored: bool = False
    cost: str = ""
    source: str = "harness"
    caveat: str = ""
    breaks: tuple[str, ...] = ()
    prepare: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Metric(Entry):
    """What a metric's numbers mean: direction, unit, and what must be done to obtain them.

    better       ``higher``, ``lower``, None where there is no direction, or a function of the options
    unit         of the score: ``probability``, ``correlation``, ``nats``, ..., or a function of the options
    version      raised when the definition changes
    kind         ``faithfulness``, ``truth``, ``localisation``, ``sanity``, ``axiom``, ``robustness``, ``complexity``,
                 ``reference`` (what chance gives, beside a score) or ``cost``
    expects      the convention of attributions that its definition is for, or None; another one is flagged
    needs        what it needs beside model, inputs and attributions: ``explainer`` (it explains again), ``masks``,
                 ``truth``, ``labels``, ``train`` (training inputs), ``train_labels``
    """

    better: str | Callable[[Mapping[str, Any]], str] | None = "higher"
    unit: str | Callable[[Mapping[str, Any]], str] = ""
    version: int = 1
    kind: str = "faithfulness"
    expects: str | None = None
    needs: tuple[str, ...] = ()

    def direction(self, options: Mapping[str, Any]) -> str | None:
        """Which way is better under these options: ``higher``, ``lower`` or None."""
        return self.better(options) if callable(self.better) else self.better

    def unit_of(self, options: Mapping[str, Any]) -> str:
        """The unit of the score under these options."""
        return self.unit(options) if callable(self.unit) else self.unit


@dataclass(frozen=True)
class DataSet(Entry):
    """Where a data set is from and what is in it, in a few words each; its page and ``harness list`` tell them.

    modality  ``image``, ``table``, ``tokens``, ``series``, or ``any`` where the user's files decide
    source    who made it and where it is published, or how it is generated
    licence   of the data, or why there is none to name
    samples   how many there are, and how they are divided
    classes   what there is to predict
    """

    modality: str = "any"
    source: str = ""
    licence: str = ""
    samples: str = ""
    classes: str = ""


class Registry(Mapping[str, Any]):
    """Names to entries; the modules of ``package`` register themselves when a name is first looked up."""

    def __init__(self, kind: str, entry: type, package: str, handed_in: tuple[str, ...] = ()) -> None:
        self.kind, self.entry, self.package, self.handed_in = kind, entry, package, handed_in
        self._entries: dict[str, Any] = {}
        self._bridges: dict[str, tuple[Callable[[], Iterable[str]], Callable[[str], Any]]] = {}
        self._loaded = self._loading = False

    def register(self, function: Callable[..., Any], name: str | None = None, **capabilities: Any) -> Any:
        """Add a function under its own name, or another, and return the entry."""
        name = name or function.__name__
        known = self._entries.get(name)
        if known and known.function.__module__ != function.__module__:
            raise UserError(f"{self.kind} {name!r} is already registered by {known.function.__module__}")
        self._entries[name] = self.entry(name, function, options_of(function, self.handed_in), **capabilities)
        return self._entries[name]

    def bridge(self, prefix: str, names: Callable[[], Iterable[str]], entry: Callable[[str], Any]) -> None:
        """Let another library's items be looked up as ``prefix.name``; they are not among those iterated over."""
        self._bridges[prefix] = names, entry

    def bridged(self) -> list[str]:
        """The names of all items of other libraries, none of which is imported for it."""
        self._load()
        return sorted(name for names, _ in self._bridges.values() for name in names())

    def resolve(self, chosen: str | Callable[..., Any]) -> Any:
        """The entry of a registered name, of an import ``package.module:function``, or of a function itself."""
        if callable(chosen):
            return self._of_function(chosen)
        if ":" in str(chosen):
            return self._of_function(import_object(chosen), name=chosen)
        return self[chosen]

    def _of_function(self, function: Callable[..., Any], name: str | None = None) -> Any:
        registered = next((entry for entry in self.values() if entry.function is function), None)
        name = name or getattr(function, "__name__", type(function).__name__)
        return registered or self.entry(name, function, options_of(function, self.handed_in))

    def __getitem__(self, name: str) -> Any:
        self._load()
        prefix, dot, _ = str(name).partition(".")
        if dot and prefix in self._bridges:
            return self._bridges[prefix][1](name)
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries, f"harness list {self.kind}s")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries or name in self.bridged()

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load(self) -> None:
        if self._loaded:
            return
        if self._loading:  # a module of the package that looks something up while it is imported
            return
        self._loading = True
        try:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
        finally:
            self._loading = False
        self._loaded = True  # only now: after a failed import the next look-up tries again


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


def options_of(function: Callable[..., Any], handed_in: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """The keyword-only arguments of a function with their defaults (None where there is none), save those handed in."""
    options: dict[str, Any] = {}
    for name, default in _keywords_of(function).items():
        if name in handed_in:
            continue
        bundled = {each.name: getattr(default, each.name) for each in fields(default)} if _is_bundle(default) else None
        for option, value in ({name: default} if bundled is None else bundled).items():
            if option in options:
                raise UserError(f"{function.__qualname__} has the option {option!r} twice; give one another name")
            options[option] = value
    return MappingProxyType(options)


def bundles_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only arguments whose default is a frozen dataclass, with that default."""
    return {name: default for name, default in _keywords_of(function).items() if _is_bundle(default)}


def _keywords_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only arguments with their defaults, None where there is none."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature has no options
        return {}
    empty = inspect.Parameter.empty
    return {p.name: None if p.default is empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _is_bundle(default: Any) -> bool:
    return is_dataclass(default) and not isinstance(default, type) and default.__dataclass_params__.frozen


def wants(function: Callable[..., Any], name: str) -> bool:
    """Whether a function asks for one of the things the harness hands in."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def import_object(path: str) -> Any:
    """The object named ``package.module:name``; only what the user named is imported."""
    module, _, name = str(path).partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a module does when it is imported, the user named it
        raise UserError(f"cannot import {path!r}: {one_line(error)}; expected package.module:name") from None


def _like_default(what: str, value: Any, default: Any) -> Any:
    """The value in its default's form, so that equal settings have equal identities.

    Where the default is a float, 1 becomes 1.0. Where it is a tuple of numbers, a single number, a list of numbers and
    a text of numbers with spaces between them become such a tuple, in which 10.0 is 10.
    """
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    numbers = isinstance(default, tuple) and all(isinstance(each, int | float) for each in default)
    return _tuple_of_numbers(what, value) if numbers and value is not None else value


def _tuple_of_numbers(what: str, value: Any) -> tuple[float, ...]:
    parts = value.split() if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        raise UserError(f"{what} is {value!r}, expected a number or a list of numbers, like [10,50]") from None
    return tuple(int(number) if number.is_integer() else number for number in numbers)


def _check_kind(what: str, value: Any, default: Any) -> None:
    """Numbers for numbers, text for text; None and options without a default take anything."""
    kinds = {bool: (bool,), int: (int,), float: (int, float)}.get(type(default))
    wrong = kinds and (not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool))
    if wrong and value is not None:
        raise UserError(f"{what} is {value!r}, expected {type(default).__name__} (default {default!r})")
