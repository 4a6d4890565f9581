"""Who is who: cells by what was asked, code and weights by what they are."""

import ast
import hashlib
import importlib.util
import inspect
import json
import os
import subprocess
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import nn

from harness.errors import UserError

# Modules that carry no number: a change there makes nothing stale.
WITHOUT_NUMBERS = {"harness", "harness.errors", "harness.registry", "harness.checks"}


def digest(*parts: str | bytes) -> str:
    """Twelve hexadecimal digits of the parts' content."""
    state = hashlib.blake2b(digest_size=6)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


def canonical(value: Any) -> str:
    """A value as JSON with sorted keys: equal settings give equal text, a tensor counts by its content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return {"tensor": digest(str(value.dtype), str(tuple(value.shape)), _bytes(value))}
    if isinstance(value, Mapping):
        return dict(value)
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    raise UserError(
        f"an option is a {type(value).__name__}, expected numbers, text, a tensor, or a list or mapping of these"
    )


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def cell_id(identity: Mapping[str, Any]) -> str:
    """The cell's identity: model, dataset, explainer, metric and protocol with all their options written out."""
    return digest(canonical(identity))


def code_of(*functions: Callable[..., Any]) -> str:
    """Fingerprint of the code behind functions: their modules and those of ours they import, without comments and
    docstrings."""
    return digest(*(_function_code(function) for function in functions))


def code_of_modules(*names: str) -> str:
    """The same for modules by name."""
    return digest(*(_module_code(name) for name in names))


def files_of(options: Mapping[str, Any]) -> str:
    """Fingerprint of the files that options name: the content of a file, and of a folder's files of text.

    Of other files in a folder, images say, name, size and time of change count: reading them all would take too long.
    An option names a file if it is called a path or a root, or its value has a separator or a suffix: a file called
    ``zero`` is not taken for a baseline.
    """
    named = [(name, value) for name, value in _texts(options) if len(value) < 4096]
    paths = [Path(value).expanduser() for name, value in named if _is_path(name, value)]
    return digest(*(_file_code(path) for path in paths if path.exists()))


def _is_path(name: str, value: str) -> bool:
    return name.endswith(("path", "root")) or os.sep in value or bool(Path(value).suffix)


def _texts(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts among options, and in mappings and lists among them, with their names."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _texts(value)
        elif isinstance(value, list | tuple):
            yield from (each for one in value for each in _texts({name: one}))
        elif isinstance(value, str):
            yield str(name), value


def _file_code(path: Path) -> str:
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    inside = sorted(each for each in path.rglob("*") if each.is_file())
    return digest(*(part for each in inside for part in (str(each.relative_to(path)), _within_folder(each))))


def _within_folder(path: Path) -> str:
    if path.suffix in (".csv", ".txt", ".json", ".yaml"):
        return _file_code(path)
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}"


def weights_of(model: nn.Module) -> str:
    """Fingerprint of a model's parameters and buffers."""
    state = hashlib.blake2b(digest_size=6)
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()], key=lambda pair: pair[0]):
        state.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        state.update(_bytes(tensor))
    return state.hexdigest()


@lru_cache(maxsize=1)
def commit() -> tuple[str, bool | None]:
    """The commit the code comes from and whether it was changed since; ("", None) outside a checkout."""
    root = Path(__file__).parent.parent
    run = lambda *words: subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20)
    try:
        head, status = run("rev-parse", "HEAD"), run("status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return "", None
    inside = (root / "pyproject.toml").is_file() and head.returncode == 0
    return (head.stdout.strip(), bool(status.stdout.strip())) if inside else ("", None)


def _function_code(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", "") or ""
    if module.startswith("harness."):
        return _module_code(module)
    try:
        return normal_form(Path(inspect.getfile(function)).read_text())
    except (TypeError, OSError, SyntaxError):  # not from a file: a notebook keeps the source of what is typed in
        return _typed_code(function)


def _typed_code(function: Callable[..., Any]) -> str:
    try:
        return normal_form(textwrap.dedent(inspect.getsource(function)))
    except (TypeError, OSError, SyntaxError):
        code = getattr(function, "__code__", None)
        return _compiled(code) if code else f"{type(function).__module__}.{type(function).__qualname__}"


def _compiled(code: CodeType) -> str:
    """Compiled code as text, without the addresses that differ from one process to the next."""
    constants = [_compiled(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))


@cache
def _module_code(name: str) -> str:
    """Fingerprint of a module of ours and of all modules of ours it reaches."""
    reached, waiting = {}, [name]
    while waiting:
        current = waiting.pop()
        if current not in reached and current not in WITHOUT_NUMBERS:
            reached[current], imported = _one_module(current)
            waiting += imported
    return digest(*(part for pair in sorted(reached.items()) for part in pair))


@cache
def _one_module(name: str) -> tuple[str, tuple[str, ...]]:
    """Fingerprint of one module by itself, and the modules of ours that it imports."""
    spec = importlib.util.find_spec(name)
    if not (spec and spec.origin and spec.origin.endswith(".py")):
        return "", ()
    source = Path(spec.origin).read_text()
    return digest(normal_form(source)), tuple(_imports(source))


def _imports(source: str) -> Iterator[str]:
    """The modules of ours that a source imports, those it only names for type checkers included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("harness."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "harness":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in [node.module, *inner] if _is_module(name))


@cache
def _is_module(name: str) -> bool:
    try:
        return name.startswith("harness.") and importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def normal_form(source: str) -> str:
    """What a source does, without comments, layout and docstrings."""
    return _shape(ast.parse(source))


def _shape(node: Any) -> str:
    """A syntax tree as text, without docstrings and empty fields, so that Python versions agree on it."""
    if isinstance(node, list):
        return "[" + ",".join(_shape(each) for each in node if not _is_docstring(each)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name != "kind")
    return f"{type(node).__name__}({','.join(name + '=' + _shape(value) for name, value in fields)})"


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
