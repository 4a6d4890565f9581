"""Values of the package's modules, read from their source without importing them, so that no library is imported.

It reads what declarations of items use: constants, tuples, lists, mappings, instances of dataclasses, types,
conditional expressions, and functions that only return such an expression. Anything else is ``Unreadable``, never
guessed.
"""

import ast
import importlib
import importlib.util
import operator
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

PACKAGE = "harness"
# Modules that are imported, since they import next to nothing: those of types, which annotations of options name.
IMPORTED = ("harness.option_types", "typing", "collections.abc")
TYPES = {each.__name__: each for each in (bool, int, float, str, tuple)}
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


class Unreadable(Exception):
    """An expression whose value cannot be told without importing its module."""


@dataclass(frozen=True)
class InstanceRead:
    """An instance of a dataclass of the package: its fields by name, and what gives the fields' annotations."""

    values: Mapping[str, Any]
    annotations: Callable[[], Mapping[str, Any]] = dict


class Tensor:
    """Stands for the class of torch in an annotation."""


@dataclass(frozen=True)
class Imported:
    """What ``from module import name`` brings, under this name or another."""

    module: str
    name: str

    @property
    def of_package(self) -> bool:
        """Whether the module belongs to this package."""
        return self.module.split(".")[0] == PACKAGE


class ModuleSource:
    """The source of one module: its functions, classes, assignments and imports by name."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.text = path.read_text(encoding="utf-8")
        self.known: dict[str, Any] = {}

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed text."""
        return ast.parse(self.text)

    @cached_property
    def found(self) -> dict[str, Any]:
        """What the module defines, assigns or imports, by name."""
        return dict(_definitions(self.tree))

    @property
    def functions(self) -> Iterator[ast.FunctionDef]:
        """The functions of the module, in order."""
        return (node for node in self.tree.body if isinstance(node, ast.FunctionDef))

    def value(self, name: str) -> Any:
        """The value of a name of the module; Unreadable if it is no plain value."""
        if name not in self.known:
            self.known[name] = self._read(name)
        return self.known[name]

    def _read(self, name: str) -> Any:
        node = self.found.get(name)
        if isinstance(node, ast.FunctionDef):
            return self._function(node.args, _returned(node), {})
        if isinstance(node, ast.ClassDef):
            return self._maker(node)
        if isinstance(node, tuple):  # a part of a tuple that is assigned to several names
            return self.evaluate(node[0], {})[node[1]]
        if isinstance(node, Imported) and node.module in IMPORTED:
            return getattr(importlib.import_module(node.module), node.name)
        if isinstance(node, Imported) and node.of_package:
            return source_of_module(node.module).value(node.name)
        if node == Imported("torch", "Tensor"):
            return Tensor
        if node == Imported("dataclasses", "replace"):
            return lambda instance, **changes: replace(instance, values={**instance.values, **changes})
        if isinstance(node, ast.expr):
            return self.evaluate(node, {})
        if node is None and name in TYPES:
            return TYPES[name]
        raise Unreadable(f"{name} of {self.name}")

    def evaluate(self, node: ast.AST, local: Mapping[str, Any]) -> Any:
        """The value of an expression, where ``local`` are the arguments of the function around it."""
        inner = lambda each: self.evaluate(each, local)
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return local[node.id] if node.id in local else self.value(node.id)
            case ast.Tuple():
                return tuple(self._items(node.elts, local))
            case ast.List():
                return list(self._items(node.elts, local))
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                parts = [{inner(key): inner(value)} if key else inner(value) for key, value in pairs]
                return {key: value for part in parts for key, value in part.items()}
            case ast.JoinedStr():
                return "".join(str(inner(part)) for part in node.values)
            case ast.FormattedValue() if node.format_spec is None:
                return inner(node.value)
            case ast.Subscript():
                return inner(node.value)[inner(node.slice)]
            case ast.IfExp():
                return inner(node.body) if inner(node.test) else inner(node.orelse)
            case ast.UnaryOp() if type(node.op) in OPERATORS:
                return OPERATORS[type(node.op)](inner(node.operand))
            case ast.BinOp() if type(node.op) in OPERATORS:
                return OPERATORS[type(node.op)](inner(node.left), inner(node.right))
            case ast.Compare(ops=[only]) if type(only) in OPERATORS:
                return OPERATORS[type(only)](inner(node.left), inner(node.comparators[0]))
            case ast.Attribute(value=ast.Name("torch"), attr="Tensor"):
                return Tensor
            case ast.Attribute() if isinstance(of := inner(node.value), InstanceRead) and node.attr in of.values:
                return of.values[node.attr]
            case ast.Lambda():
                return self._function(node.args, node.body, local)
            case ast.Call():
                named = [{each.arg: inner(each.value)} if each.arg else inner(each.value) for each in node.keywords]
                function = inner(node.func)
                return function(*self._items(node.args, local), **dict(ChainMap(*reversed(named))))
        raise Unreadable(ast.unparse(node)[:80])

    def _items(self, nodes: list[ast.expr], local: Mapping[str, Any]) -> Iterator[Any]:
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from self.evaluate(node.value, local)
            else:
                yield self.evaluate(node, local)

    def _function(
        self, arguments: ast.arguments, body: ast.expr | None, outer: Mapping[str, Any]
    ) -> Callable[..., Any]:
        """A function that returns the value of one expression; Unreadable when it is called, if it does more."""
        names = [each.arg for each in arguments.args]

        def call(*values: Any, **named: Any) -> Any:
            if body is None or len(values) + len(named) != len(names):
                raise Unreadable(f"a function of {self.name}")
            return self.evaluate(body, {**outer, **dict(zip(names, values, strict=False)), **named})

        return call

    def _maker(self, node: ast.ClassDef) -> Callable[..., InstanceRead]:
        """What makes instances of a dataclass."""
        fields = self.fields_of(node)

        def make(*values: Any, **named: Any) -> InstanceRead:
            given = {**dict(zip(fields, values, strict=False)), **named}
            if not given.keys() <= fields.keys() or any(v is None for k, v in fields.items() if k not in given):
                raise Unreadable(node.name)
            values = {k: given[k] if k in given else default() for k, default in fields.items()}
            return InstanceRead(values, lambda: self.annotations_of(node))

        return make

    def fields_of(self, node: ast.ClassDef) -> dict[str, Callable[[], Any] | None]:
        """The fields of a dataclass, those of its bases first, each with what gives its default, or None."""
        if not any(_name_of_call(each) == "dataclass" for each in node.decorator_list):
            raise Unreadable(f"{node.name} is no dataclass")
        fields: dict[str, Callable[[], Any] | None] = {}
        for base in reversed(node.bases):  # the order of dataclasses
            home, found = _home_of_class(self, ast.unparse(base))
            fields |= home.fields_of(found)
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                value = each.value
                fields[each.target.id] = None if value is None else (lambda value=value: self.evaluate(value, {}))
        return fields

    def annotations_of(self, node: ast.ClassDef) -> dict[str, Any]:
        """The annotations of the fields of a dataclass, those of its bases first."""
        found: dict[str, Any] = {}
        for base in reversed(node.bases):
            home, parent = _home_of_class(self, ast.unparse(base))
            found |= home.annotations_of(parent)
        own = (each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name))
        return found | {each.target.id: self.evaluate(each.annotation, {}) for each in own}


@cache
def source_of_module(name: str) -> ModuleSource:
    """The source of a module of this package; Unreadable if it has none."""
    spec = importlib.util.find_spec(name)
    if spec is None or not str(spec.origin).endswith(".py"):
        raise Unreadable(name)
    return ModuleSource(name, Path(str(spec.origin)))


def _definitions(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.ImportFrom):
            yield from ((each.asname or each.name, Imported(node.module or "", each.name)) for each in node.names)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
                elif isinstance(target, ast.Tuple):
                    names = [each.id for each in target.elts if isinstance(each, ast.Name)]
                    yield from ((each, (node.value, place)) for place, each in enumerate(names))


def _returned(node: ast.FunctionDef) -> ast.expr | None:
    """What a function returns that does nothing else; None if it does more."""
    body = [each for each in node.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Return) else None


def _home_of_class(module: ModuleSource, name: str) -> tuple[ModuleSource, ast.ClassDef]:
    """The class that a name in a module means, and the module that defines it."""
    node = module.found.get(name)
    if isinstance(node, Imported) and node.of_package:
        return _home_of_class(source_of_module(node.module), node.name)
    if not isinstance(node, ast.ClassDef):
        raise Unreadable(f"the class {name} of {module.name}")
    return module, node


def _name_of_call(node: ast.expr) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    return function.id if isinstance(function, ast.Name) else ""
