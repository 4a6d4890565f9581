"""Checks the text in a file of torch.export that torch would evaluate as Python, before torch reads the file.

Shapes are expressions that sympy evaluates, operations are names that torch looks up, guards are lines of Python, and
whatever is neither tensor nor text is unpickled. So a malicious file could run anything while it is read.
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
LOOKED_UP = "torch", "_operator", "math", "#"  # prefixes of the names that torch looks up
OBJECTS = "custom_obj_", "opaque_obj_"  # prefixes of the files that torch unpickles
FORMULA_PARTS = (  # syntax that a formula may have
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
GUARD_PARTS = ast.Subscript, ast.Attribute, ast.Tuple, ast.List
TENSOR_ATTRIBUTES = "size", "stride", "storage_offset", "shape", "ndim", "dim"
NUMBER_FUNCTIONS = re.compile(r"math\.[a-z]\w*|torch\.(_sym|sym)_\w+")
LITERALS = {
    "Symbol": r"[a-zA-Z]\w*",
    "Float": r"-?[\d.e+-]+",
    "Integer": r"-?\d+",
}  # function -> the text that it may take


def check_program(file: Path) -> None:
    """UserError for a file of torch.export that could run more than a program of torch while it is read."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():  # an archive can hold two files of one name; both are checked
            if entry.filename.rpartition("/")[2].startswith(OBJECTS):
                raise UserError(
                    f"{file} holds objects other than tensors ({entry.filename}); reading them could run code"
                )
            if "models/" in entry.filename:
                _check_text(file, json.loads(archive.read(entry)))


def _check_text(file: Path, program: Any) -> None:
    """UserError where an operation, a size or a guard in the JSON of a program is not harmless."""
    for part in _mappings(program):
        for name in (part.get("target") if "inputs" in part else None, part.get("as_operator")):
            if isinstance(name, str) and name.startswith(LOOKED_UP) and not _is_operation(name):
                raise UserError(f"{file} calls {name!r:.80}, which is no operation of torch; it could run anything")
        if "expr_str" in part and not _harmless(part["expr_str"], FORMULA_PARTS):
            raise UserError(f"{file} has the size {part['expr_str']!r:.80}, which is no formula; it could run anything")
        for guard in part.get("guards_code") or ():
            if not _harmless(guard, (*FORMULA_PARTS, *GUARD_PARTS)):
                raise UserError(f"{file} has the guard {guard!r:.80}, which asks for no size; it could run anything")


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _mappings(inner)


def _is_operation(name: str) -> bool:
    return "__" not in name and OPERATION.fullmatch(name) is not None


def _harmless(text: Any, allowed: tuple[type, ...]) -> bool:
    """Whether a text is a formula of numbers, symbols and functions of sympy; in a guard, of sizes of tensors too."""
    try:
        tree = ast.parse(text, mode="eval")
    except (TypeError, ValueError, SyntaxError):
        return False
    if set(text) & set('#;"\\\n\r'):  # torch puts the text into a line of Python, which these would end
        return False
    # A call of a name is a function of a formula; any other call is a size of a tensor.
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    quoted = {id(inner) for node in ast.walk(tree) if _takes_text(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if not isinstance(node, allowed):
            return False
        if (
            isinstance(node, ast.Attribute)
            and node.attr not in TENSOR_ATTRIBUTES
            and not NUMBER_FUNCTIONS.fullmatch(ast.unparse(node))
        ):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in quoted:
            return False
        if id(node) in called and not isinstance(node, ast.Attribute) and not _is_function(node):
            return False
    return True


def _takes_text(node: ast.AST) -> bool:
    """Whether a node may hold a text: a symbol or number given as text, or an input named by a text."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        pattern, argument = LITERALS.get(node.func.id), node.args[0]
        return (
            pattern is not None
            and isinstance(argument, ast.Constant)
            and bool(re.fullmatch(pattern, str(argument.value)))
        )
    return isinstance(node, ast.Subscript) and str(getattr(node.slice, "value", "")).isidentifier()


def _is_function(node: ast.AST) -> bool:
    """Whether a name is a function for formulas, of sympy or torch: a class of expressions, and nothing else."""
    import sympy
    from torch.utils._sympy import functions

    if not isinstance(node, ast.Name):
        return False
    named = getattr(functions, node.id, None) or getattr(sympy, node.id, None)
    builtin = node.id in ("max", "min", "abs", "int", "float")
    return builtin or (isinstance(named, type) and issubclass(named, sympy.Basic))
