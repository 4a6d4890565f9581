"""What has been computed once for a block: small things in memory, large ones in temporary files beyond a budget.

So the memory of a block does not grow with the number of its samples.
"""

import tempfile
from collections.abc import Hashable, Iterator, MutableMapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

BUDGET = 32 * 2**20
SMALL = 2**16


@dataclass
class Shelf:
    """The memory budget of a block's memos, and the folder for what exceeds it, which goes when the shelf goes."""

    budget: int = BUDGET
    used: int = 0
    files: int = 0
    _folder: tempfile.TemporaryDirectory | None = field(default=None, repr=False)

    def put(self, value: Any) -> Any:
        """The value itself, or the file it went into; of a dataclass, with its tensors so treated."""
        if is_dataclass(value):
            parts = {name: self.put(part) for name, part in vars(value).items() if isinstance(part, Tensor)}
            return replace(value, **parts)
        if not isinstance(value, Tensor) or min(value.nbytes, value.untyped_storage().nbytes()) < SMALL:
            return value  # of an expanded view, what is behind it counts
        if self.used + value.nbytes <= self.budget:
            self.used += value.nbytes
            return value
        return OnDisk(self._save(value), value.device)

    def _save(self, value: Tensor) -> Path:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="harness-")
        path, self.files = Path(self._folder.name) / f"{self.files}.npy", self.files + 1
        np.save(path, value.cpu().numpy(), allow_pickle=False)
        return path


@dataclass(frozen=True)
class OnDisk:
    """A tensor that lies in a file."""

    path: Path
    device: torch.device

    def load(self) -> Tensor:
        """The tensor."""
        return torch.from_numpy(np.load(self.path, allow_pickle=False)).to(self.device)


def _from_shelf(value: Any) -> Any:
    """A value as it was before it was put on the shelf."""
    if isinstance(value, OnDisk):
        return value.load()
    if is_dataclass(value):
        return replace(value, **{name: part.load() for name, part in vars(value).items() if isinstance(part, OnDisk)})
    return value


class Memo(MutableMapping[Hashable, Any]):
    """A mapping whose large tensors may lie on disk; they come back as they were."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._items: dict[Hashable, Any] = {}

    def __getitem__(self, key: Hashable) -> Any:
        return _from_shelf(self._items[key])

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._items[key] = self.shelf.put(value)

    def __delitem__(self, key: Hashable) -> None:
        del self._items[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
