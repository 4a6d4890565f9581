"""What a file of torch.export says in text that torch would evaluate as Python, looked at before torch reads it.

Shapes are expressions that sympy evaluates, operations are names that are looked up from ``torch`` on, guards are lines
of Python, and what is neither tensor nor text is unpickled: a file made for it could run anything while it is read.
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError

OPERATION = re.compile(
    r"torch\.ops\.(?!load|import)[a-zA-Z]\w*\.\w+(\.\w+)?|torch\.(_sym|sym)_\w+|math\.\w+"
    r"|_operator\.(abs|add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|not_|or_|pos|pow|sub|truediv)"
)
LOOKED_UP = "torch", "_operator", "math", "#"  # with which names begin that torch looks up
OBJECTS = "custom_obj_", "opaque_obj_"  # with which files begin that are unpickled
PARTS = (
    ast.Expression,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)
IN_GUARDS = ast.Subscript, ast.Attribute, ast.Tuple, ast.List
OF_TENSORS = "size", "stride", "storage_offset", "shape", "ndim", "dim"
OF_MODULES = re.compile(r"math\.[a-z]\w*|torch\.(_sym|sym)_\w+")  # functions of numbers
LITERALS = {"Symbol": r"[a-zA-Z]\w*", "Float": r"-?[\d.e+-]+", "Integer": r"-?\d+"}  # what is told by a text


def check_program(file: Path) -> None:
    """Refuse, with one line, a file of torch.export whose reading would run more than a program of torch needs."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():  # all of a name, if a name is there twice
            if entry.filename.rpartition("/")[2].startswith(OBJECTS):
                raise UserError(f"{file} holds objects beside tensors ({entry.filename}), reading which could run code")
            if "models/" in entry.filename:
                _check_text(file, json.loads(archive.read(entry)))


def _check_text(file: Path, program: Any) -> None:
    for part in _mappings(program):
        for name in (part.get("target") if "inputs" in part else None, part.get("as_operator")):
            if isinstance(name, str) and name.startswith(LOOKED_UP) and not _is_operation(name):
                raise UserError(f"{file} calls {name!r:.80}, which is no operation of torch; it could run anything")
        if "expr_str" in part and not _harmless(part["expr_str"], PARTS):
            raise UserError(f"{file} has the size {part['expr_str']!r:.80}, which is no formula; it could run anything")
        for guard in part.get("guards_code") or ():
            if not _harmless(guard, (*PARTS, *IN_GUARDS)):
                raise UserError(f"{file} has the guard {guard!r:.80}, which asks for no size; it could run anything")


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _mappings(inner)


def _is_operation(name: str) -> bool:
    return "__" not in name and OPERATION.fullmatch(name) is not None


def _harmless(text: Any, allowed: tuple[type, ...]) -> bool:
    """Whether a text is a formula of numbers, symbols and functions of sympy, and of sizes in a guard."""
    try:
        tree = ast.parse(text, mode="eval")
    except (TypeError, ValueError, SyntaxError):
        return False
    if set(text) & set('#;"\\\n\r'):  # torch writes the text into a line of Python, which must not end early
        return False
    # A call of a name is one of a formula's functions; a call of anything else is one of a tensor's sizes.
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    quoted = {id(inner) for node in ast.walk(tree) if _takes_text(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if not isinstance(node, allowed):
            return False
        if (
            isinstance(node, ast.Attribute)
            and node.attr not in OF_TENSORS
            and not OF_MODULES.fullmatch(ast.unparse(node))
        ):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in quoted:
            return False
        if id(node) in called and not isinstance(node, ast.Attribute) and not _is_function(node):
            return False
    return True


def _takes_text(node: ast.AST) -> bool:
    """Whether it is a symbol or a number that is told by a text, or an input by its name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        pattern, given = LITERALS.get(node.func.id), node.args[0]
        return pattern is not None and isinstance(given, ast.Constant) and bool(re.fullmatch(pattern, str(given.value)))
    return isinstance(node, ast.Subscript) and str(getattr(node.slice, "value", "")).isidentifier()


def _is_function(node: ast.AST) -> bool:
    """Whether a name is one of sympy's or of torch's functions for formulas: a class of expressions, no other call."""
    import sympy
    from torch.utils._sympy import functions

    if not isinstance(node, ast.Name):
        return False
    found = getattr(functions, node.id, None) or getattr(sympy, node.id, None)
    guard = node.id in ("max", "min", "abs", "int", "float")
    return guard or (isinstance(found, type) and issubclass(found, sympy.Basic))
