"""Fingerprints of the code that made a number.

There are two kinds, because their changes mean different things:

- the *code version of the measurement*, ``measuring_code``: the code that turns an attribution into a score. Scores of
  two such versions are not comparable.
- the code of an item, ``code_of``: one explainer, metric, model or data set. Two runs are compared in order to see the
  effect of a new version of an explainer or model.

Comments, layout, docstrings, type annotations with their imports and the wording of messages do not count, nor what a
metric declares for readers of its scores, nor the values that tuning an explainer tries.
"""

import ast
import importlib.util
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from harness.identity import digest

# Raise it by hand when scores change for a reason outside the modules of MEASURING, for example because torch computes
# a function differently. Cells from before and after are then not comparable.
MEASURING_VERSION = 1

# The modules that compute scores, besides the metric and the data set. A module that one of them imports counts only if
# it is in this list too, so that changes of the store, the report or the runtime do not change the version. Left out on
# purpose, since they change no score or only its last digits: checks, guards, the memos, the scoring copy
# (``engine.tuning``, ``engine.folding``), and the statistics over scores. What the stage reads is the data set's.
MEASURING = (
    "harness.adapted_model",
    "harness.batch",
    "harness.completeness",
    "harness.engine.explain",
    "harness.engine.mask_images",
    "harness.engine.padding",
    "harness.engine.present_units",
    "harness.engine.score",
    "harness.engine.targets",
    "harness.modalities",
    "harness.model_outputs",
    "harness.ordering",
    "harness.predictor",
    "harness.randomness",
    "harness.removal.background",
    "harness.removal.baselines",
    "harness.removal.infilling",
    "harness.removal.inpainting",
    "harness.removal.neighbour_systems",
    "harness.removal.noisy_linear",
    "harness.removal.originals",
    "harness.removal.scales",
    "harness.removal.segments",
    "harness.removal.token_drop",
    "harness.removal.vae",
    "harness.samples",
    "harness.task",
    "harness.units",
)

# The packages of items: a module of these packages that an item's module imports is part of the item. Studies of papers
# are items too: their parts are measured again when their code has changed.
ITEMS = ("harness.datasets", "harness.explainers", "harness.metrics", "harness.models", "harness.reproducing.studies")

# The further module that computes the scores of metrics of kind ``cost``.
COSTS = "harness.engine.cost"

# Modules that are imported for annotations, and the annotations of fields that say more than a type.
OF_TYPES = ("harness.option_types", "typing")
TELLING = ("ClassVar", "InitVar", "KW_ONLY")

# Calls whose texts are messages, which do not count.
MESSAGE_CALLS = {"NotApplicable", "UserError", "say", "unknown", "warn", "warning"}

# What an item declares for readers of older rows, for drawings of its curves and for tuning; it
# computes nothing.
FOR_READERS = ("added", "span", "chance", "curve_across", "curve_height", "curve_places", "tunable")


@cache
def measuring_code(kind: str = "") -> str:
    """The code version of the measurement, without metric and data set; LookupError if a module does not exist.

    ``kind`` is the kind of the metric: costs are computed by a module of their own.
    """
    modules = (*MEASURING, COSTS) if kind == "cost" else MEASURING
    return digest(str(MEASURING_VERSION), *(part for name in modules for part in (name, _module_form(name))))


def code_of(*functions: Callable[..., Any]) -> str:
    """Fingerprint of the code of functions.

    For a function of this package: its module and the modules of ``ITEMS`` that it imports, directly or indirectly. For
    a user's function: the file that defines it, or its source in a notebook.
    """
    return digest(*(_function_code(function) for function in functions))


def _function_code(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", "") or ""
    if module.startswith("harness."):
        return _item_code(module)
    try:
        return normal_form(Path(inspect.getfile(function)).read_text())
    except (TypeError, OSError, SyntaxError):  # not defined in a file, but typed into a notebook or a shell
        return _typed_code(function)


def _typed_code(function: Callable[..., Any]) -> str:
    try:
        return normal_form(textwrap.dedent(inspect.getsource(function)))
    except (TypeError, OSError, SyntaxError):
        code = getattr(function, "__code__", None)
        return _compiled(code) if code else f"{type(function).__module__}.{type(function).__qualname__}"


def _compiled(code: CodeType) -> str:
    """Compiled code as text, without memory addresses, which differ between processes."""
    constants = [_compiled(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))


@cache
def _item_code(name: str) -> str:
    """Fingerprint of a module and of the modules of ``ITEMS`` that it imports, directly or indirectly."""
    reached, waiting = {}, [name]
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached[current] = _module_form(current)
            waiting += _imported_items(source_of(current))
    return digest(*(part for pair in sorted(reached.items()) for part in pair))


@cache
def _imported_items(source: str) -> list[str]:
    """The modules of ``ITEMS`` that a source imports; kept, since many items import the same modules."""
    return [each for each in imported_modules(source) if each.startswith(ITEMS)]


@cache
def _module_form(name: str) -> str:
    return digest(normal_form(source_of(name)))


@cache
def source_of(name: str) -> str:
    """The source of a module of this package; LookupError if it does not exist."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not (spec.origin or "").endswith(".py"):
        raise LookupError(f"the code version counts the module {name!r}, which does not exist")
    return Path(spec.origin).read_text(encoding="utf-8")


def imported_modules(source: str) -> Iterator[str]:
    """The modules of this package that a source imports, including imports for type checkers only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("harness."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "harness":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in [node.module, *inner] if _is_module(name))


@cache
def _is_module(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name) if name.startswith("harness.") else None
    except ModuleNotFoundError:
        return False
    return spec is not None and (spec.origin or "").endswith(".py")


@lru_cache(maxsize=64)  # the file of a user's item is read again for every cell, and parsed if it has changed
def normal_form(source: str) -> str:
    """A source's syntax tree as text, without docstrings, annotations and the wording of messages."""
    return _form(ast.parse(source))


def _form(node: Any, wordless: bool = False) -> str:
    """A syntax tree as text, without empty fields, so that it is the same in all Python versions.

    ``wordless`` leaves out texts, as in a message: what is computed inside it counts.
    """
    if isinstance(node, list):
        return "[" + ",".join(_form(each, wordless) for each in node if not _is_left_out(each)) + "]"
    if isinstance(node, ast.Raise):
        return f"Raise({_raised(node.exc)})"
    if not isinstance(node, ast.AST):
        return repr(node)
    if wordless and isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "text"
    if wordless and isinstance(node, ast.JoinedStr):
        inserted = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        return f"text({_form([each for each in inserted if not isinstance(each, ast.Name)], True)})"
    wordless = wordless or _is_message(node)
    shown = (
        f"{name}={_form(value, wordless)}"
        for name, value in ast.iter_fields(node)
        if value not in (None, []) and not _is_for_readers(node, name)
    )
    return f"{type(node).__name__}({','.join(shown)})"


def _is_message(node: ast.AST) -> bool:
    """Whether the texts in a node are the words of a message."""
    call = isinstance(node, ast.Call) and _name_of(node.func) in MESSAGE_CALLS
    return call or (isinstance(node, ast.keyword) and node.arg == "reason")


def _is_for_readers(node: ast.AST, name: str) -> bool:
    """Whether a field says nothing to the interpreter: annotations, but for those that say what a field is."""
    if name == "annotation":
        return not (isinstance(node, ast.AnnAssign) and any(word in ast.unparse(node.annotation) for word in TELLING))
    return name in ("kind", "returns", "type_comment")


def _raised(error: ast.expr | None) -> str:
    """The class of a raised error, without its message."""
    if error is None:
        return ""
    return _name_of(error.func) if isinstance(error, ast.Call) else _form(error)


def _name_of(function: ast.expr) -> str:
    """The last part of a dotted name; the text of any other expression."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else _form(function)


def _is_left_out(node: Any) -> bool:
    """Whether a part of a list changes no number: a docstring, a keyword for readers, an import of types."""
    if isinstance(node, ast.keyword):
        return node.arg in FOR_READERS
    if isinstance(node, ast.ImportFrom):
        return node.module in OF_TYPES
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
