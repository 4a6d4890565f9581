"""Every kind of file of a run, every kind of damage to it, and what the commands then do: the registry of the tests in
``test_damaged_files.py`` and of the table in docs/reliability.md."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is found in the run of the tests, its name on the page, what it holds, and what
    ``harness run`` does where one is damaged."""

    pattern: str
    name: str
    holds: str
    outcome: str


KINDS = {
    "rows": Kind(
        "cells/*.jsonl", "cells/<number>-*.jsonl", "one row per cell", "the cells of damaged rows are measured again"
    ),
    "scores": Kind("scores/*.parquet", "scores/<cell>.parquet", "one row per sample", "the cell is measured again"),
    "table": Kind(
        "tables/*.parquet",
        "tables/*.parquet",
        "a table of an explainer",
        "the cells of the explainer are measured again",
    ),
    "map": Kind(
        "maps/????????????.npy",
        "maps/<explainer>.npy",
        "maps of an explainer",
        "the cells of the explainer are measured again",
    ),
    "inputs": Kind(
        "maps/*-inputs.npy",
        "maps/<block>-inputs.npy",
        "small copies of samples",
        "one cell is measured again, and the file written",
    ),
    "index": Kind(
        "maps/*.json", "maps/<block>.json", "the index of maps", "one cell is measured again, and the file written"
    ),
    "configuration": Kind(
        "config/toys*.json",
        "config/<block>-<digest>.json",
        "the configuration of a block",
        "moved aside and written again",
    ),
    "environment": Kind(
        "environment/*.json",
        "environment/<digest>.json",
        "machine and libraries",
        "moved aside; written again when needed",
    ),
}


def _replaced_by(content: bytes) -> Callable[[Path, Path], None]:
    return lambda path, other: path.write_bytes(content) and None


def _truncated(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def _flipped(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swapped(path: Path, other: Path) -> None:
    """The content of another file of the kind; where there is only one, another content of the same format."""
    if path == other:
        return _odd_content(path)
    path.write_bytes(other.read_bytes())


def _odd_content(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, np.zeros((2, 3)))
    elif path.suffix == ".parquet":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    else:
        path.write_text('{"cell": "0", "status": "ok", "config": [1], "value": "text"}\n')


def _folder(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("something")


def _doubled(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n" + path.read_bytes())


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "cut off": _truncated,
    "one bit flipped": _flipped,
    "content of another": _swapped,
    "foreign content": lambda path, other: _odd_content(path),
    "empty": lambda path, other: path.write_bytes(b"") and None,
    "a folder": _folder,
    "noise": _replaced_by(bytes(range(256)) * 8),
    "nested without end": _replaced_by(b'{"cell": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
    "text that is no Unicode": _replaced_by(b'{"cell": "\\ud800", "samples": [], "variant": "\\udfff", "chunk": 1}\n'),
    "a huge number": _replaced_by(b'{"cell": "a", "n": ' + b"9" * 4000 + b', "chunk": 1e999}\n'),
    "content twice": _doubled,
}


def harmless(kind: str, damage: str) -> bool:
    """Rows twice in a file are the same rows: the last one of a cell counts."""
    return kind == "rows" and damage == "content twice"


def damaged_file(run: Path, kind: str, damage: str) -> Path:
    """Damage the first file of a kind in a run; its path."""
    paths = sorted(run.glob(KINDS[kind].pattern))
    assert paths, f"the run has no {kind}"
    DAMAGES[damage](paths[0], paths[-1])
    return paths[0]


def files_table() -> str:
    """The section on files of docs/reliability.md: what each kind of file holds, and what happens if it is damaged."""
    head = ["| file | holds | `harness run` after damage |", "| --- | --- | --- |"]
    rows = [f"| `{kind.name}` | {kind.holds} | {kind.outcome} |" for kind in KINDS.values()]
    faults = ", ".join(DAMAGES)
    return "\n".join([*head, *rows, "", f"Each kind of file is damaged in each of these ways: {faults}."])
