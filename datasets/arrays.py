"""The user's own arrays: an .npz file, or a folder of .npy files that stay on disk."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.datasets._own import Rows, as_tensor, class_indices, read_names
from harness.errors import UserError, one_line, unknown
from harness.registry import dataset
from harness.sources import Data
from harness.units import CHANNEL_AXIS, Units

KEYS = (
    "inputs",
    "labels",
    "ids",
    "masks",
    "truth",
    "segments",
    "train",
    "train_labels",
    "unit_names",
    "columns",
)
GROUP = "g_"
PER_SAMPLE = ("labels", "ids", "masks", "truth", "segments")
PER_UNIT = ("masks", "truth", "segments")
CHECKED_BYTES = 16 * 2**20  # looked through at a time
MISSING = ("error", "skip")


@dataset(modality="any", source="your files", licence="yours", samples="yours", classes="yours")
def arrays(
    *,
    path: str | None = None,
    modality: str | None = None,
    low: float | None = None,
    high: float | None = None,
    classes: str | None = None,
    missing: str = "error",
) -> Data:
    """The arrays of an ``.npz`` file, or of a folder of ``.npy`` files, which are read from disk an input at a time.

    ``inputs`` (N, ...) are what the model takes, as float32. Beside them, where there are any: ``labels`` (N,), whole
    numbers or texts for classes, float numbers for what a single output is to predict; ``ids`` (N,); ``masks``,
    ``truth`` and ``segments`` (N, *units); ``train`` (R, ...) and ``train_labels`` (R,); ``unit_names`` (units,) and
    ``columns`` (numbers,) of a table; and divisions of the samples (N,) called ``g_`` and their name. Of a folder each
    is the file of that name and ``.npy``, mapped into memory, not loaded; an ``.npz`` is loaded as a whole.

    ``modality`` is image (N, C, H, W), table (N, D), tokens (N, T, D), series (N, C, T) or other; it is told by four
    or two axes and must be said for three. ``low`` and ``high`` are the lowest and highest value an input can have;
    without them each sample's own range counts. ``classes`` is a text file with one class name a line. Inputs with NaN
    or infinite values are an error, or with ``missing="skip"`` are left out and named in ``skipped``.

    UserError, with one line, for a missing file or key, Python objects (nothing is unpickled), an unknown key, and
    shapes that do not fit each other.
    """
    if missing not in MISSING:
        raise unknown("missing", missing, MISSING)
    found = _open(path)
    inputs = _numeric(found, "inputs", 2)
    modality = _modality(modality, inputs)
    _check_lengths(found, inputs)
    kept, skipped = _finite_rows(inputs, found.get("ids"), missing)
    units = Units.of(torch.empty(1, *inputs.shape[1:]), modality, columns=_columns(found))
    rows = np.arange(len(inputs)) if kept is None else kept
    ids = [str(found["ids"][row]) if "ids" in found else f"sample_{row}" for row in rows]
    if len(set(ids)) < len(ids):
        raise UserError(f"ids of {path} hold {Counter(ids).most_common(1)[0][0]!r} more than once, expected each once")
    labels, names = _labels(found.get("labels"), rows, ids, read_names(Path(classes).expanduser()) if classes else None)
    train = _train(found, inputs)
    return Data(
        ids=ids,
        items=Rows(inputs, kept),
        labels=labels,
        modality=modality,
        value_range=_value_range(low, high),
        classes=names,
        train=train,
        train_labels=_train_labels(found, train, names),
        masks=_per_unit(found, "masks", units, kept, torch.bool),
        truth=_per_unit(found, "truth", units, kept, torch.float32),
        segments=_per_unit(found, "segments", units, kept, torch.int64),
        unit_names=_unit_names(found, units),
        columns=units.columns,
        groups={name.removeprefix(GROUP): _group(found, name)[rows].tolist() for name in found if _is_group(name)},
        skipped=skipped,
    )


def _open(path: str | None) -> Mapping[str, np.ndarray]:
    if not path:
        raise UserError("arrays needs path=FILE.npz, or path=FOLDER of inputs.npy, labels.npy, ...")
    place = Path(path).expanduser()
    if not place.is_dir() and not (place.is_file() and place.suffix == ".npz"):
        raise UserError(f"path {path!r} is neither an .npz file nor a folder of .npy files")
    found = _folder(place) if place.is_dir() else _archive(place)
    for name in found:
        if name not in KEYS and not _is_group(name):
            raise unknown(f"array of {path}", name, (*KEYS, f"{GROUP}NAME"))
    if "inputs" not in found:
        raise UserError(f"{path} has no inputs, only {', '.join(found) or 'nothing'}")
    return found


def _folder(place: Path) -> dict[str, np.ndarray]:
    files = {file.stem: file for file in sorted(place.glob("*.npy"))}
    return {
        name: _read(str(file), lambda f=file: np.load(f, mmap_mode="r", allow_pickle=False))
        for name, file in files.items()
    }


def _archive(place: Path) -> dict[str, np.ndarray]:
    archive = _read(str(place), lambda: np.load(place, allow_pickle=False))
    with archive:
        return {name: _read(f"{name} of {place}", lambda n=name: archive[n]) for name in archive.files}


def _read(what: str, read: Any) -> Any:
    try:
        return read()
    except Exception as error:  # whatever a broken file provokes in its reader
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            said = "it is no array file, or holds Python objects, which are not unpickled"
            raise UserError(f"{what} cannot be read: {said}") from None
        raise UserError(f"{what} cannot be read: {one_line(error)}") from None


def _numeric(found: Mapping[str, np.ndarray], name: str, axes: int) -> np.ndarray:
    array = found[name]
    if array.dtype.kind not in "fiub" or array.ndim < axes or len(array) == 0:
        raise UserError(
            f"{name} is {array.dtype} {array.shape}, expected at least one row of real numbers and {axes} axes or more"
        )
    return array


def _modality(chosen: str | None, inputs: np.ndarray) -> str:
    kinds = (*CHANNEL_AXIS, "other")
    if chosen is None and inputs.ndim == 3:
        raise UserError(f"inputs are {inputs.shape}: say modality=tokens (N, T, D) or modality=series (N, C, T)")
    chosen = chosen or Units.of(torch.empty(1, *inputs.shape[1:])).modality
    if chosen not in kinds:
        raise unknown("modality", chosen, kinds)
    axes = {"image": 4, "table": 2, "tokens": 3, "series": 3}.get(chosen, inputs.ndim)
    if axes != inputs.ndim:
        raise UserError(f"inputs are {inputs.shape}, expected {axes} axes for modality={chosen}")
    return chosen


def _check_lengths(found: Mapping[str, np.ndarray], inputs: np.ndarray) -> None:
    for name, array in found.items():
        if (name in PER_SAMPLE or _is_group(name)) and (array.ndim == 0 or len(array) != len(inputs)):
            raise UserError(f"{name} is an array {array.shape}, expected one entry for each of {len(inputs)} inputs")


def _finite_rows(inputs: np.ndarray, ids: np.ndarray | None, missing: str) -> tuple[np.ndarray | None, list[str]]:
    """The rows without NaN and infinite values, None for all, and a line for each of the others."""
    bad = _not_finite(inputs)
    if not len(bad):
        return None, []
    name = lambda row: str(ids[row]) if ids is not None else f"sample_{row}"
    if missing == "error":
        raise UserError(
            f"{len(bad)} of {len(inputs)} inputs hold NaN or infinite values, the first is {name(bad[0])}; "
            "missing=skip leaves them out"
        )
    if len(bad) == len(inputs):
        raise UserError(f"all {len(inputs)} inputs hold NaN or infinite values")
    kept = np.setdiff1d(np.arange(len(inputs)), bad)
    return kept, [f"{name(row)}: it holds NaN or infinite values" for row in bad]


def _not_finite(array: np.ndarray) -> np.ndarray:
    """Which rows are not finite, looked through a piece at a time."""
    if array.dtype.kind != "f":
        return np.empty(0, dtype=int)
    step = max(1, CHECKED_BYTES // max(1, array[:1].nbytes))
    pieces = (
        array[start : start + step].reshape(min(step, len(array) - start), -1) for start in range(0, len(array), step)
    )
    # As float32, in which inputs are given: there a number above 3e38 is infinite.
    with np.errstate(over="ignore"):
        return np.flatnonzero(np.concatenate([~np.isfinite(piece.astype(np.float32)).all(1) for piece in pieces]))


def _labels(
    labels: np.ndarray | None, rows: np.ndarray, ids: list[str], names: tuple[str, ...] | None
) -> tuple[Tensor | None, tuple[str, ...] | None]:
    if labels is None:
        return None, names
    if labels.ndim != 1 or labels.dtype.kind not in "fiubU":
        raise UserError(f"labels are {labels.dtype} {labels.shape}, expected class indices, names, or numbers (N,)")
    mine = np.array(labels[rows])
    if mine.dtype.kind == "U":
        indices, names = class_indices(ids, [str(label) for label in mine], names)
        return torch.tensor(indices), names
    if mine.dtype.kind == "f":
        if not np.isfinite(mine).all():
            raise UserError(f"the label of {ids[int(np.isfinite(mine).argmin())]} is NaN or infinite")
        return torch.from_numpy(mine).float(), names
    return torch.from_numpy(mine.astype(np.int64)), names


def _train(found: Mapping[str, np.ndarray], inputs: np.ndarray) -> Tensor | None:
    """Training inputs; float32 ones in a file stay in it."""
    if "train" not in found:
        return None
    train = _numeric(found, "train", 2)
    if train.shape[1:] != inputs.shape[1:]:
        raise UserError(f"train is {train.shape}, expected {('R', *inputs.shape[1:])}, as the inputs are")
    bad = _not_finite(train)
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(train)} training inputs hold NaN or infinite values, the first is {bad[0]}"
        )
    if isinstance(train, np.memmap) and train.dtype == np.float32:  # copy on write, as torch asks for, not a copy
        train = np.memmap(train.filename, train.dtype, "c", train.offset, train.shape, "F" if train.flags.fnc else "C")
        return torch.from_numpy(train)
    return as_tensor(train).float()


def _train_labels(
    found: Mapping[str, np.ndarray], train: Tensor | None, names: tuple[str, ...] | None
) -> Tensor | None:
    if "train_labels" not in found:
        return None
    labels = found["train_labels"]
    if train is None or labels.shape != (len(train),):
        came = "no train" if train is None else f"{len(train)} training inputs"
        raise UserError(f"train_labels is an array {labels.shape}, but there are {came}; expected one label for each")
    return _labels(labels, np.arange(len(labels)), [f"training input {row}" for row in range(len(labels))], names)[0]


def _per_unit(
    found: Mapping[str, np.ndarray], name: str, units: Units, kept: np.ndarray | None, dtype: torch.dtype
) -> Rows | None:
    if name not in found:
        return None
    array = _numeric(found, name, 2)
    if array.shape[1:] != units.shape:
        raise UserError(f"{name} is an array {array.shape}, expected one number per unit, {('N', *units.shape)}")
    if len(_not_finite(array)):
        raise UserError(f"{name} holds NaN or infinite values, the first for sample {_not_finite(array)[0]}")
    if name == "segments" and (array.dtype.kind not in "iu" or array.min() < 0):
        raise UserError(f"segments are {array.dtype} from {array.min()}, expected whole numbers from 0")
    return Rows(array, kept, dtype)


def _unit_names(found: Mapping[str, np.ndarray], units: Units) -> tuple[str, ...] | None:
    if "unit_names" not in found:
        return None
    if found["unit_names"].shape != (units.count,):
        raise UserError(
            f"unit_names is an array {found['unit_names'].shape}, expected a name for each of {units.count}"
        )
    return tuple(str(name) for name in found["unit_names"])


def _columns(found: Mapping[str, np.ndarray]) -> tuple[int, ...] | None:
    if "columns" not in found:
        return None
    if found["columns"].ndim != 1 or found["columns"].dtype.kind not in "iu":
        raise UserError(
            f"columns are {found['columns'].dtype} {found['columns'].shape}, expected a unit per number (D,)"
        )
    return tuple(int(column) for column in found["columns"])


def _group(found: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    array = found[name]
    if array.ndim != 1 or array.dtype.kind not in "fiubU":
        raise UserError(f"{name} is {array.dtype} {array.shape}, expected one number or text for each sample")
    return array


def _value_range(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None and high is None:
        return None
    if low is None or high is None or not low < high:
        raise UserError(f"low is {low} and high is {high}, expected both, low below high, or neither")
    return float(low), float(high)


def _is_group(name: str) -> bool:
    return name.startswith(GROUP) and len(name) > len(GROUP)
