"""What can be chosen, with options and defaults, read from the package's source: no item and no library is imported.

A misspelt name, a list and a help text are answered from it at once. An entry of a catalogue is that of the registry,
but its function cannot be called. What cannot be read, and what the user registers, is looked up in the registry.
"""

import ast
import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from harness.item_places import modules_of_items
from harness.option_kinds import Kind, kind_of
from harness.other_names import unknown_item
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS, Registry
from harness.source_values import InstanceRead, ModuleSource, Unreadable, source_of_module

# The modules that list the items of other libraries, and import nothing: kind -> prefix, module and its mapping.
BRIDGES = {"metric": ("quantus", "harness.metrics._quantus_table", "TABLE")}

# Of a decorator: the name is read before, the others are needed by a call or a drawing only.
NOT_READ = ("name", "prepare", "code", "curve_across", "curve_height", "curve_places")


class Catalogue(Mapping[str, Any]):
    """The entries of a registry by name, its package's modules read and not imported."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._known: dict[str, Any] = {}

    @property
    def kind(self) -> str:
        """The kind of item: ``explainer``, ``metric``, ``model`` or ``dataset``."""
        return self.registry.kind

    @cached_property
    def _modules(self) -> Mapping[str, str]:
        """Name -> module, of all items of the package."""
        return modules_of_items(self.registry.kind, self.registry.package)

    def _read(self, name: str) -> Any:
        """The entry of an item of the package; None if it cannot be read."""
        if name not in self._known:
            self._known |= _entries_of(self.registry, self._modules[name])
        return self._known[name]

    @cached_property
    def _lines(self) -> Mapping[str, Any]:
        """What is recorded of the items of another library, by name without prefix."""
        if self.kind not in BRIDGES:
            return {}
        _, module, name = BRIDGES[self.kind]
        return getattr(importlib.import_module(module), name)

    def bridged(self) -> list[str]:
        """The names of all items of other libraries."""
        return sorted(f"{BRIDGES[self.kind][0]}.{name}" for name in self._lines)

    def bridged_options(self, name: str) -> dict[str, Any]:
        """Options and defaults of an item of another library."""
        return dict(self._lines[name.partition(".")[2]].options)

    def __getitem__(self, name: str) -> Any:
        if name in self.registry.registered:
            return self.registry.registered[name]
        if name in self._modules:
            return self._read(name) or self.registry[name]
        if name in self.bridged():
            return self.registry[name]
        raise unknown_item(self.kind, name, self)

    def __contains__(self, name: object) -> bool:
        return name in self.registry.registered or name in self._modules or name in self.bridged()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._modules, *self.registry.registered}))

    def __len__(self) -> int:
        return len({*self._modules, *self.registry.registered})


CATALOGUES = {registry.kind: Catalogue(registry) for registry in (MODELS, DATASETS, EXPLAINERS, METRICS)}


def _entries_of(registry: Registry, module: str) -> dict[str, Any]:
    """Name and entry of every function of a module that the registry's decorator registers."""
    source, found = source_of_module(module), {}
    for function in source.functions:
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and _is_decorator(decorator.func, registry.kind):
                name = next((each.value for each in decorator.keywords if each.arg == "name"), None)
                name = function.name if name is None else ast.literal_eval(name)
                found[name] = _entry(registry, name, source, function, decorator)
    return found


def _is_decorator(node: ast.expr, decorator: str) -> bool:
    return isinstance(node, ast.Name) and node.id == decorator


def _entry(registry: Registry, name: str, source: ModuleSource, function: ast.FunctionDef, decorator: ast.Call) -> Any:
    """The entry that the decorator makes, with a function that only has a docstring; None if it cannot be read."""
    try:
        capabilities: dict[str, Any] = {}
        for each in decorator.keywords:
            if each.arg not in NOT_READ:
                value = source.evaluate(each.value, {})
                capabilities |= {each.arg: value} if each.arg else value
        told = {key: value for key, value in capabilities.items() if key not in NOT_READ}
        options, kinds = _options_read(registry, source, function)
        return registry.entry(name, _documented(function), options, kinds, **told)
    except Unreadable:
        return None


def _options_read(
    registry: Registry, source: ModuleSource, function: ast.FunctionDef
) -> tuple[dict[str, Any], dict[str, Kind]]:
    """The options of a function with their defaults, bundles expanded, and their kinds, as the registry has them."""
    options: dict[str, Any] = {}
    annotations: dict[str, Any] = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.arg in registry.handed_in:
            continue
        value = None if default is None else source.evaluate(default, {})
        if isinstance(value, InstanceRead):
            options |= value.values
            annotations |= value.annotations()
        else:
            options[argument.arg] = value
            annotations[argument.arg] = argument.annotation and source.evaluate(argument.annotation, {})
    return options, {name: kind_of(annotations.get(name), default) for name, default in options.items()}


def _documented(function: ast.FunctionDef) -> Callable[..., Any]:
    """A function with the name and the docstring of another."""

    def unloaded(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError(f"{function.name} of the catalogue has no code; take it from the registry")

    unloaded.__doc__, unloaded.__name__ = ast.get_docstring(function), function.name
    return unloaded
