"""Attributions that were made elsewhere and stored in a file, scored like those of any explainer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.array_archives import array_in_archive, names_in_archive
from harness.errors import NotApplicable, UserError, one_line, unknown
from harness.places import user_path
from harness.randomness import sample_keys
from harness.registry import explainer
from harness.samples import Samples

MAPS, KEYS = "attributions", ("attributions", "ids", "targets")
MOST_MAPS = 10_000_000  # of a file, and ids: a small file can tell of any number


@dataclass(frozen=True)
class Stored:
    """The maps in a file.

    maps      anything that gives one map by its number: an array, a tensor or an HDF5 data set
    rows      a sample's id -> the number of its map, or None where maps are in the order of the data set
    targets   (M,) the class that each map explains, or None where the file does not say
    """

    path: str
    maps: Any
    rows: Mapping[str, int] | None = None
    targets: Any = None


def _open_stored(model: nn.Module, context: Samples, *, path: str | None) -> Stored:
    return open_maps(path, context)


@explainer(access="none", stored=True, prepare=_open_stored)
def precomputed(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, prepared: Stored, path: str | None = None
) -> Tensor:
    """Attributions that were made before and are stored in the file ``path``, scored like those of any explainer.

    The file is a ``.npy`` array (M, ...), or an ``.npz``, ``.h5`` (extra ``h5``) or ``.pt`` file (tensors only) with
    the key ``attributions`` and, optionally, ``ids`` (M,) and ``targets`` (M,). Each map has the inputs' shape, one
    channel, or one number per unit; its unit is the file's own. Without ids, map i is that of sample i of the data set.
    With targets, a sample that is explained for another class gets NaN, which is invalid. Arrays in ``.npy``, ``.h5``
    and ``.pt`` are read a batch at a time, those of an ``.npz`` as a whole.

    NotApplicable without a file, and to inputs that are not the samples themselves: so metrics that explain again do
    not apply, and neither do costs of explaining. UserError for a file that is missing or cannot be read, holds Python
    objects, has no map for a sample, has more maps than samples but no ids, or has maps of another shape.

    Example: a file with one map, for one sample.

    >>> torch.save({"attributions": torch.tensor([[5.0, 7.0]])}, "maps.pt")
    >>> harness.explain("precomputed", linear, x, target, path="maps.pt")
    tensor([[5., 7.]])
    """
    if not torch.equal(sample_keys(inputs), context.keys):
        raise NotApplicable("precomputed attributions are of the samples themselves, these inputs are others")
    rows = [_map_number(prepared, place, context) for place in context.places.tolist()]
    maps = torch.stack([_one_map(prepared, row) for row in rows]).to(inputs.device)
    if prepared.targets is not None:
        other = torch.tensor([int(prepared.targets[row]) for row in rows], device=targets.device) != targets
        maps[other] = float("nan")
    return maps


def open_maps(path: str | None, context: Samples) -> Stored:
    """The maps in the file ``path``, checked but not read into memory; errors as of ``precomputed``."""
    if not path:
        raise NotApplicable("precomputed needs path=FILE, the file in which the attributions lie")
    file = user_path(path)
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".pt": _read_pt,
        ".h5": _read_h5,
        ".hdf5": _read_h5,
    }
    if file.suffix.lower() not in readers:
        raise UserError(f"precomputed attributions {path!r} are no file of a known kind: {', '.join(readers)}")
    if not file.is_file():
        raise UserError(f"the file of precomputed attributions {path!r} does not exist")
    try:
        members = readers[file.suffix.lower()](file)
    except UserError:
        raise
    except Exception as error:  # readers raise errors of all kinds for broken files
        reason = one_line(error)
        if any(sign in reason for sign in ("allow_pickle", "weights_only", "Python objects")):
            reason = "it is no such file, or holds Python objects, which are not unpickled"
        raise UserError(f"precomputed attributions {path!r} cannot be read: {reason[:200]}") from None
    return _stored_maps(path, members, context)


def _read_npy(file: Path) -> Mapping[str, Any]:
    return {MAPS: np.load(file, mmap_mode="r", allow_pickle=False)}


def _read_npz(file: Path) -> Mapping[str, Any]:
    return {name: array_in_archive(file, name) if name in KEYS else None for name in names_in_archive(file)}


def _read_pt(file: Path) -> Mapping[str, Any]:
    # mmap reads numbers only when they are used; it needs a zip file, as torch writes.
    content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return content if isinstance(content, Mapping) else {MAPS: content}


def _read_h5(file: Path) -> Mapping[str, Any]:
    try:
        import h5py  # an extra
    except ImportError:
        raise UserError(f"{file.name} needs h5py: pip install 'harness[h5]'") from None
    opened = h5py.File(file, "r")  # stays open as long as its maps are in use
    found: dict[str, Any] = dict.fromkeys(opened)
    for name in found.keys() & set(KEYS):
        data = opened[name] if isinstance(opened.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
            raise UserError(
                f"{name!r} of {file.name} is no data set in the file itself, such as a link to another file"
            )
        if name != MAPS and (data.size or 0) > MOST_MAPS:
            raise UserError(f"{file.name} holds {data.size} {name}, expected at most {MOST_MAPS}")
        texts = h5py.check_string_dtype(data.dtype) is not None
        found[name] = data if name == MAPS else data.asstr()[()] if texts else data[()]
    return found


def _stored_maps(path: str, members: Mapping[str, Any], context: Samples) -> Stored:
    """The members of a file as ``Stored``, after checks of their names, sizes and shapes."""
    for name in members:
        if name not in KEYS:
            raise unknown(f"key of {path!r}", name, KEYS)
    if isinstance(members.get(MAPS), Tensor):
        _check_dense(path, members[MAPS])
    if MAPS not in members or not hasattr(members[MAPS], "shape"):
        raise UserError(f"{path!r} has no array {MAPS!r}, only {', '.join(members) or 'nothing'}")
    maps, ids = members[MAPS], members.get("ids")
    _check_shape(path, maps, context)
    for name in ("ids", "targets"):
        if members.get(name) is not None:
            _check_each(path, name, members[name], len(maps))
    if ids is None:
        count = None if context.ids is None else len(context.ids)
        if count is not None and len(maps) > count:
            raise UserError(f"{path!r} holds {len(maps)} maps for {count} samples; name the sample of each by ids")
        return Stored(path, maps, None, members.get("targets"))
    rows = {str(name): row for row, name in enumerate(ids)}
    if len(rows) < len(ids):
        raise UserError(f"{path!r} holds {len(ids)} ids but only {len(rows)} different ones, expected each once")
    return Stored(path, maps, rows, members.get("targets"))


def _check_each(path: str, name: str, values: Any, count: int) -> None:
    """Check that there is one id, or one class, for each map."""
    listed = np.asarray(values)
    if listed.ndim != 1 or len(listed) != count:
        held = f"{len(listed)} {name}" if listed.ndim == 1 else f"{name} {listed.shape}"
        raise UserError(f"{path!r} holds {held} for {count} maps, expected one for each")
    numbers = listed.dtype.kind in "fiu" and (abs(listed) < 2**62).all()
    if name == "targets" and not (numbers and (listed == np.floor(listed)).all()):
        raise UserError(f"the targets in {path!r} are {listed.dtype}, such as {listed[0]}, expected class indices")


def _check_dense(path: str, maps: Tensor) -> None:
    if maps.is_nested or maps.layout != torch.strided or maps.is_meta:
        form = "nested" if maps.is_nested else "without values" if maps.is_meta else maps.layout
        raise UserError(f"{path!r} holds a tensor that is {form}, expected a dense one")


def _check_shape(path: str, maps: Any, context: Samples) -> None:
    kind = str(maps.dtype).removeprefix("torch.") if isinstance(maps, Tensor) else maps.dtype.name
    if not kind.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise UserError(f"{path!r} holds {kind} values, expected real numbers")
    if len(maps.shape or ()) < 2 or not 0 < len(maps) <= MOST_MAPS:
        shape = tuple(maps.shape or ())
        raise UserError(f"{path!r} holds an array {shape}, expected one map for each of at most {MOST_MAPS} samples")
    # A map of zeros stands for all: so the error is that of every explainer whose map has a wrong shape.
    blank = torch.zeros(1).expand(len(maps), *maps.shape[1:])
    try:
        context.units.check(blank)
    except UserError as error:
        raise UserError(f"{path!r}: {error}") from None


def _map_number(stored: Stored, place: int, context: Samples) -> int:
    """The number of the map of the sample at this place in the data set."""
    if stored.rows is None:
        if place >= len(stored.maps):
            raise UserError(f"{stored.path!r} holds {len(stored.maps)} maps, none for sample {place}, counted from 0")
        return place
    if context.ids is None:
        raise UserError(f"{stored.path!r} names its samples by ids, but these inputs have no ids")
    if context.ids[place] not in stored.rows:
        raise UserError(f"{stored.path!r} has no map for the sample {context.ids[place]!r}")
    return stored.rows[context.ids[place]]


def _one_map(stored: Stored, row: int) -> Tensor:
    one = stored.maps[row]
    return one.float() if isinstance(one, Tensor) else torch.from_numpy(np.array(one, dtype=np.float32))
