"""Storage for results that are computed once per block: in memory up to a budget, beyond it in temporary files.

So the memory of a block does not grow with the number of samples.
"""

from collections.abc import Hashable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, is_dataclass, replace
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.places import temporary_folder

BUDGET = 32 * 2**20  # bytes of results in memory
SMALL = 2**16  # bytes of a tensor that always stays in memory
SPILL_BYTES = 16 * 2**20  # bytes of one explainer's attributions above which they go into files


@dataclass
class Shelf:
    """The memory budget of a block's memos, and a temporary folder for values beyond it, deleted with the shelf."""

    budget: int = BUDGET
    used: int = 0
    files: int = 0
    _folder: TemporaryDirectory | None = field(default=None, repr=False)

    def put(self, value: Any) -> Any:
        """The value itself, or the file that it was saved in; for a dataclass, this is done for each of its tensors."""
        if is_dataclass(value):
            parts = {name: self.put(part) for name, part in vars(value).items() if isinstance(part, Tensor)}
            return replace(value, **parts)
        if not isinstance(value, Tensor) or min(value.nbytes, value.untyped_storage().nbytes()) < SMALL:
            return value  # for an expanded view, the size of its storage decides
        if self.used + value.nbytes <= self.budget:
            self.used += value.nbytes
            return _outside_the_heap(value)
        return OnDisk(self._save(value), value.device)

    def _save(self, value: Tensor) -> Path:
        self._folder = self._folder or temporary_folder()
        path, self.files = Path(self._folder.name) / f"{self.files}.npy", self.files + 1
        np.save(path, value.cpu().numpy(), allow_pickle=False)
        return path


def _outside_the_heap(value: Tensor) -> Tensor:
    """A tensor of a CPU in pages of its own, and any other as it is.

    Blocks that stay between those that come and go leave the C library with free memory in pieces, none of which is
    large enough for the next batch: the process takes twice as much and more.
    """
    if value.device.type != "cpu" or value.requires_grad:
        return value
    pages = torch.frombuffer(mmap(-1, value.nbytes), dtype=value.dtype).view(value.shape)
    return pages.copy_(value)


@dataclass(frozen=True)
class OnDisk:
    """A tensor that was saved in a file."""

    path: Path
    device: torch.device

    def load(self) -> Tensor:
        """The tensor, read from the file."""
        return torch.from_numpy(np.load(self.path, allow_pickle=False)).to(self.device)


def _from_shelf(value: Any) -> Any:
    """A value as it was before it was put on the shelf."""
    if isinstance(value, OnDisk):
        return value.load()
    if is_dataclass(value):
        return replace(value, **{name: part.load() for name, part in vars(value).items() if isinstance(part, OnDisk)})
    return value


class Memo(MutableMapping[Hashable, Any]):
    """A mapping that may save large tensors in files; it returns every value as it was stored.

    A value of which a tensor was changed in place, by a metric that shared it, counts as not there: it is computed
    again, so that no number depends on who used the value before.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._items: dict[Hashable, tuple[Any, list[int]]] = {}

    def __getitem__(self, key: Hashable) -> Any:
        value, versions = self._items[key]
        if _versions_of(value) != versions:
            del self._items[key]
            raise KeyError(key)
        return _from_shelf(value)

    def __setitem__(self, key: Hashable, value: Any) -> None:
        stored = self.shelf.put(value)
        self._items[key] = stored, _versions_of(stored)

    def __delitem__(self, key: Hashable) -> None:
        del self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items and _versions_of(self._items[key][0]) == self._items[key][1]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def _versions_of(value: Any, walked: frozenset[int] = frozenset()) -> list[int]:
    """How often each tensor of a value, however nested, has been changed in place, as torch counts it.

    A memo inside a value watches its own values, and a value that holds itself is walked once.
    """
    if isinstance(value, Tensor):
        return [] if value.is_inference() else [value._version]
    if isinstance(value, Memo) or id(value) in walked:
        return []
    parts = vars(value) if is_dataclass(value) else value
    parts = parts.values() if isinstance(parts, Mapping) else parts if isinstance(parts, tuple | list) else ()
    return [version for part in parts for version in _versions_of(part, walked | {id(value)})]


class AttributionParts(Sequence[Tensor]):
    """One explainer's attributions on the CPU, a tensor per chunk of samples.

    They are in files if ``total_bytes``, the size of all attributions, exceeds SPILL_BYTES. A file is mapped into
    memory for as long as its tensor is used, so that the memory does not grow with the number of samples. The files are
    deleted when ``resources`` are closed.
    """

    def __init__(self, total_bytes: int, resources: ExitStack) -> None:
        spills = total_bytes > SPILL_BYTES
        self._folder = Path(resources.enter_context(temporary_folder())) if spills else None
        self._parts: list[Tensor | Path] = []

    def append(self, raw: Tensor) -> None:
        """Store the attributions of the next chunk."""
        if self._folder is None:
            self._parts.append(raw.cpu())
            return
        path = self._folder / f"{len(self._parts)}.npy"
        np.save(path, raw.cpu().numpy(), allow_pickle=False)
        self._parts.append(path)

    def __getitem__(self, number: int) -> Tensor:
        part = self._parts[number]
        return part if isinstance(part, Tensor) else torch.from_numpy(np.load(part, mmap_mode="c", allow_pickle=False))

    def __len__(self) -> int:
        return len(self._parts)
