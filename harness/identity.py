"""Identities: of a cell by its settings, of files and weights by their content, of a checkout by its commit.

Fingerprints of code are in ``harness.code_version``.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.errors import UserError
from harness.places import user_path


def digest(*parts: str | bytes) -> str:
    """Twelve hexadecimal digits of the parts' content."""
    state = hashlib.blake2b(digest_size=6)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


def canonical(value: Any) -> str:
    """A value as JSON with sorted keys, so that equal settings give equal text; a tensor is given by its content."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_as_json)
    except (TypeError, RecursionError):
        raise UserError("an option holds a mapping whose keys are no texts, or is nested too deep") from None


def _as_json(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return {"tensor": digest(str(value.dtype), str(tuple(value.shape)), _bytes_of(value))}
    if isinstance(value, Mapping):
        return dict(value)
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    raise UserError(
        f"an option is a {type(value).__name__}, expected numbers, text, a tensor, or a list or mapping of these"
    )


def _bytes_of(tensor: torch.Tensor) -> bytes:
    # A copy: contiguous() may keep a stride that view() refuses, of an axis with one number.
    plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return plain.flatten().view(torch.uint8).numpy().tobytes()


def cell_id(identity: Mapping[str, Any]) -> str:
    """The cell's identity: a digest of model, dataset, explainer, metric and protocol with all their options."""
    return digest(canonical(identity))


def files_of(options: Mapping[str, Any]) -> str:
    """Fingerprint of the files that options name: of the content of a file, and of the text files in a folder.

    Of other files in a folder, such as images, it covers name, size and time of change: reading them would take too
    long. An option names a file if its name ends in ``path`` or ``root``, or if its value has a separator or a suffix.
    So the baseline ``zero`` is not confused with a file of that name.
    """
    paths = [_path_named(value) for name, value in _option_texts(options) if _is_path(name, value)]
    return digest(*(_file_code(path) for path in paths if path is not None and path.exists()))


def _path_named(text: str) -> Path | None:
    """The path that a text names; None if no file can have this name."""
    try:
        return user_path(text)
    except UserError:
        return None


def _is_path(name: str, value: str) -> bool:
    return name.endswith(("path", "root")) or os.sep in value or bool(Path(value).suffix)


def _option_texts(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of the options that are texts, including those in nested mappings and lists."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _option_texts(value)
        elif isinstance(value, list | tuple):
            yield from (each for one in value for each in _option_texts({name: one}))
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
        state.update(_bytes_of(tensor))
    return state.hexdigest()


@lru_cache(maxsize=1)
def commit() -> tuple[str, bool | None]:
    """The commit of the checkout and whether there are uncommitted changes; ("", None) outside a checkout."""
    root = Path(__file__).parent.parent
    run = lambda *words: subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20)
    try:
        head, status = run("rev-parse", "HEAD"), run("status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return "", None
    inside = (root / "pyproject.toml").is_file() and head.returncode == 0
    return (head.stdout.strip(), bool(status.stdout.strip())) if inside else ("", None)
