"""Storage for results that are computed once per block: in memory up to a budget, beyond it in temporary files.

So the memory of a block does not grow with the number of samples.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, is_dataclass, replace
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.places import temporary_folder

BUDGET = 32 * 2**20  # bytes of results in memory
TINY = 2**10  # bytes of a tensor that always stays in memory: the note of where it lies would take as much
SMALL = 2**16  # bytes of a tensor that stays on the heap: pages of its own would be half empty
SPILL_BYTES = 16 * 2**20  # bytes of one explainer's attributions above which they go into files


@dataclass
class Shelf:
    """The memory budget of a block's memos, and a temporary file for what is beyond it, deleted with the shelf.

    used     bytes in memory, of tensors and arrays of any size
    spilled  number of tensors and arrays in the file
    """

    budget: int = BUDGET
    used: int = 0
    spilled: int = 0
    _folder: TemporaryDirectory | None = field(default=None, repr=False)

    def put(self, value: Any) -> Any:
        """The value itself, or one that tells of its tensors and arrays, however nested, where they lie in the file."""
        return _with_each_array(value, self._put_array)

    def _put_array(self, value: Tensor | np.ndarray) -> Any:
        if isinstance(value, np.ndarray):
            keep = value.nbytes < TINY or value.dtype.hasobject or self.used + value.nbytes <= self.budget
            return self._kept(value, value.nbytes) if keep else self._save(value.dtype, value, None)
        if value.layout is not torch.strided:  # its parts are not ours to know
            return value
        if type(value) is not Tensor or value.requires_grad:  # it is more than its numbers
            return self._kept(value, value.nbytes)
        storage = value.untyped_storage().nbytes()  # less than that of the numbers if a view repeats them
        if storage < min(SMALL, value.nbytes):
            return self._kept(value, storage)
        if value.nbytes < TINY or self.used + value.nbytes <= self.budget:
            return self._kept(_on_its_own(value, storage), value.nbytes)
        numbers = value.cpu().resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8).numpy()
        return self._save(value.dtype, numbers, value.device, value.shape)

    def _kept(self, value: Any, room: int) -> Any:
        self.used += room
        return value

    def _save(
        self,
        dtype: torch.dtype | np.dtype,
        values: np.ndarray,
        device: torch.device | None,
        shape: tuple[int, ...] | None = None,
    ) -> "OnDisk":
        """Write the bytes of an array behind those that are in the file. Many small ones share it."""
        self._folder, self.spilled = self._folder or temporary_folder(), self.spilled + 1
        path = Path(self._folder.name) / "spilled"
        with open(path, "ab") as file:
            place = file.tell()
            file.write(np.ascontiguousarray(values).data)
        return OnDisk(path, place, values.nbytes, dtype, values.shape if shape is None else shape, device)


def _on_its_own(value: Tensor, storage: int) -> Tensor:
    """A tensor without the rest of a larger ``storage``, of that many bytes, which it is a view of.

    A large one of a CPU gets pages of its own. Blocks that stay between those that come and go leave the C library with
    free memory in pieces, none of which is large enough for the next batch: the process takes twice as much and more.
    """
    if value.device.type == "cpu" and value.nbytes >= SMALL:
        pages = torch.frombuffer(mmap(-1, value.nbytes), dtype=value.dtype).view(value.shape)
        return pages.copy_(value)
    return value.clone() if storage > value.nbytes else value


@dataclass(frozen=True)
class OnDisk:
    """A tensor of a ``device``, or an array of numpy without one, of which a file has the bytes from a place on."""

    path: Path
    place: int
    bytes: int
    dtype: Any
    shape: tuple[int, ...]
    device: torch.device | None

    def load(self) -> Tensor | np.ndarray:
        """The tensor or array, read from the file."""
        read = np.fromfile(self.path, dtype=np.uint8, count=self.bytes, offset=self.place)
        if self.device is None:
            return read.view(self.dtype).reshape(self.shape)
        return torch.from_numpy(read).view(self.dtype).view(self.shape).to(self.device)


def _from_shelf(value: Any) -> Any:
    """A value as it was before it was put on the shelf."""
    return _with_each_array(value, lambda part: part.load() if isinstance(part, OnDisk) else part)


def _with_each_array(value: Any, change: Callable[[Any], Any], walked: frozenset[int] = frozenset()) -> Any:
    """A value, however nested, with ``change`` of each tensor, array and note of one; itself where nothing changes.

    A memo inside a value looks after its own values. An empty mapping is one that will be filled, and stays the same.
    """
    if isinstance(value, Tensor | np.ndarray | OnDisk):
        return change(value)
    if isinstance(value, Memo) or id(value) in walked:
        return value
    walked |= {id(value)}
    parts = _inner_values(value)
    changed = {name: _with_each_array(part, change, walked) for name, part in parts.items()}
    changed = {name: part for name, part in changed.items() if part is not parts[name]}
    if not changed:
        return value
    if is_dataclass(value):
        return replace(value, **changed)
    if isinstance(value, dict):
        return {**value, **changed}
    in_order = [changed.get(name, part) for name, part in parts.items()]
    return type(value)(*in_order) if hasattr(value, "_fields") else type(value)(in_order)


def _inner_values(value: Any) -> dict[Any, Any]:
    """The parts of a dataclass, dictionary, list or tuple that can be made again of other parts; none of others."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value) if each.init}
    if type(value) is dict:
        return value
    if type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return dict(enumerate(value))
    return {}


class _Item(NamedTuple):
    """A value of a memo as it is on the shelf, how often its tensors had been changed, its bytes in memory, and whether
    a part of it is in the file."""

    value: Any
    versions: list[int]
    used: int
    spilled: bool


class Memo(MutableMapping[Hashable, Any]):
    """A mapping that may save tensors and arrays in a file; it returns every value as it was stored.

    A value of which a tensor was changed in place, by a metric that shared it, counts as not there: it is computed
    again, so that no number depends on who used the value before.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._items: dict[Hashable, _Item] = {}

    def another(self) -> "Memo":
        """An empty memo within the same budget."""
        return Memo(self.shelf)

    def __getitem__(self, key: Hashable) -> Any:
        if key not in self:
            del self[key]  # a KeyError, if there was none
            raise KeyError(key)
        item = self._items[key]
        return _from_shelf(item.value) if item.spilled else item.value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        if key in self._items:
            del self[key]
        used, spilled = self.shelf.used, self.shelf.spilled
        stored = self.shelf.put(value)
        self._items[key] = _Item(stored, _versions_of(stored), self.shelf.used - used, self.shelf.spilled > spilled)

    def __delitem__(self, key: Hashable) -> None:
        self.shelf.used -= self._items.pop(key).used

    def __contains__(self, key: object) -> bool:
        return key in self._items and _versions_of(self._items[key].value) == self._items[key].versions

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
