"""The user's own arrays: an .npz file, or a folder of .npy files, which are not loaded into memory."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.datasets._array_files import GROUP_PREFIX, is_group, open_arrays
from harness.datasets._label_arrays import labels_of_rows
from harness.datasets.own_files import ArrayRows, as_tensor, class_names
from harness.errors import UserError
from harness.modalities import certain_modality, fitting_modality
from harness.option_types import Real
from harness.registry import dataset
from harness.sources import Data
from harness.units import Units

PER_SAMPLE = ("labels", "ids", "masks", "truth", "segments")
PER_UNIT = ("masks", "truth", "segments")
CHECKED_BYTES = 16 * 2**20  # that are searched for NaN at a time
CHANNELS = (1, 3, 4)  # of images as files hold them: grey, RGB, RGBA


@dataset(modality="any", source="your files", licence="yours", samples="yours", classes="yours")
def arrays(
    *,
    path: str | None = None,
    modality: str | None = None,
    low: Real | None = None,
    high: Real | None = None,
    classes: str | None = None,
    missing: Literal["error", "skip"] = "error",
) -> Data:
    """The arrays of an ``.npz`` file, or of a folder of ``.npy`` files, which are read from disk an input at a time.

    The array ``inputs`` (N, ...) is the model's input, as float32. Optional arrays are ``labels`` (N,), integers or
    texts for classes, or float numbers for a single output to predict, or (N, K), for K outputs to predict (float) or
    K independent labels that are 0 or 1 (whole numbers or booleans); ``ids`` (N,); ``masks``, ``truth`` and
    ``segments`` (N, *units); ``train`` (R, ...) and ``train_labels`` (R,) or (R, K); ``unit_names`` (units,) and
    ``columns`` (numbers,) of a table; and ``g_NAME`` (N,), which divides the samples into groups. In a folder an array
    is the file of its name and ``.npy`` and is mapped into memory; an ``.npz`` file is loaded as a whole.

    ``path`` is the file or folder. ``modality`` is image (N, C, H, W), table (N, D), tokens (N, T, D), series
    (N, C, T), volume (N, C, D, H, W) or other; inputs with three axes or with five and more need it, and for four or
    two axes image or table is the default, unless the last of four axes is that of the channels, (N, H, W, C), which is
    refused. ``low`` and ``high`` are the lowest and the highest value that an input can have; without them the range of
    each sample is used.
    ``classes`` is a text file with one class name a line. Inputs with NaN or infinite values are an error, or with
    ``missing=skip`` are left out and listed in ``skipped``.

    UserError for a file or array that does not exist, for Python objects (nothing is unpickled), for an array with an
    unknown name, and for shapes that do not fit each other.
    """
    by_name = open_arrays(path)
    inputs = _numeric(by_name, "inputs", 2)
    modality = _checked_modality(modality, inputs)
    _check_lengths(by_name, inputs)
    finite, skipped = _finite_rows(inputs, by_name.get("ids"), missing)
    units = Units.of(torch.empty(1, *inputs.shape[1:]), modality, columns=_unit_of_numbers(by_name))
    rows = np.arange(len(inputs)) if finite is None else finite
    ids = [str(by_name["ids"][row]) if "ids" in by_name else f"sample_{row}" for row in rows]
    if len(set(ids)) < len(ids):
        raise UserError(f"ids of {path} hold {Counter(ids).most_common(1)[0][0]!r} more than once, expected each once")
    labels, names = labels_of_rows(by_name.get("labels"), rows, ids, class_names(classes))
    train = _training_inputs(by_name, inputs)
    return Data(
        ids=ids,
        inputs=ArrayRows(inputs, finite),
        labels=labels,
        modality=modality,
        value_range=_checked_range(low, high),
        classes=names,
        train=train,
        train_labels=_training_labels(by_name, train, names),
        masks=_rows_of_units(by_name, "masks", units, finite, torch.bool),
        truth=_rows_of_units(by_name, "truth", units, finite, torch.float32),
        segments=_rows_of_units(by_name, "segments", units, finite, torch.int64),
        unit_names=_unit_names(by_name, units),
        columns=units.columns,
        groups={
            name.removeprefix(GROUP_PREFIX): _group_values(by_name, name)[rows].tolist()
            for name in by_name
            if is_group(name)
        },
        skipped=skipped,
    )


def _numeric(by_name: Mapping[str, np.ndarray], name: str, axes: int) -> np.ndarray:
    array = by_name[name]
    if array.dtype.kind not in "fiub" or array.ndim < axes or array.size == 0:
        raise UserError(
            f"{name} is {array.dtype} {array.shape}, expected at least one row of real numbers and {axes} axes or more"
        )
    return array


def _checked_modality(chosen: str | None, inputs: np.ndarray) -> str:
    shape = inputs.shape[1:]
    if chosen is None and inputs.ndim == 3:
        raise UserError(
            f"inputs are {inputs.shape}: say dataset.modality=tokens (N, T, D) or dataset.modality=series (N, C, T)"
        )
    if chosen is None and inputs.ndim == 4 and inputs.shape[3] in CHANNELS and inputs.shape[1] not in CHANNELS:
        raise UserError(
            f"inputs are {inputs.shape}, whose last axis looks like channels, expected images (N, C, H, W): save "
            "inputs.transpose(0, 3, 1, 2), or say dataset.modality=image if the second axis is that of the channels"
        )
    return certain_modality(shape) if chosen is None else fitting_modality(chosen, shape)


def _check_lengths(by_name: Mapping[str, np.ndarray], inputs: np.ndarray) -> None:
    for name, array in by_name.items():
        if (name in PER_SAMPLE or is_group(name)) and (array.ndim == 0 or len(array) != len(inputs)):
            raise UserError(f"{name} is an array {array.shape}, expected one entry for each of {len(inputs)} inputs")


def _finite_rows(inputs: np.ndarray, ids: np.ndarray | None, missing: str) -> tuple[np.ndarray | None, list[str]]:
    """The numbers of the rows without NaN and infinite values, None for all, and a message for each other row."""
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
    finite = np.setdiff1d(np.arange(len(inputs)), bad)
    return finite, [f"{name(row)}: it holds NaN or infinite values" for row in bad]


def _not_finite(array: np.ndarray) -> np.ndarray:
    """The numbers of the rows with NaN or infinite values, searched piece by piece."""
    if array.dtype.kind != "f":
        return np.empty(0, dtype=int)
    step = max(1, CHECKED_BYTES // max(1, array[:1].nbytes))
    pieces = (
        array[start : start + step].reshape(min(step, len(array) - start), -1) for start in range(0, len(array), step)
    )
    # As float32, the type of inputs, in which a number above 3e38 is infinite.
    with np.errstate(over="ignore"):
        return np.flatnonzero(np.concatenate([~np.isfinite(piece.astype(np.float32)).all(1) for piece in pieces]))


def _training_inputs(by_name: Mapping[str, np.ndarray], inputs: np.ndarray) -> Tensor | None:
    """The training inputs; float32 ones of a folder are mapped into memory, not loaded."""
    if "train" not in by_name:
        return None
    train = _numeric(by_name, "train", 2)
    if train.shape[1:] != inputs.shape[1:]:
        raise UserError(f"train is {train.shape}, expected {('R', *inputs.shape[1:])}, as the inputs are")
    bad = _not_finite(train)
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(train)} training inputs hold NaN or infinite values, the first is {bad[0]}"
        )
    if isinstance(train, np.memmap) and train.dtype == np.float32:  # torch needs writable memory: copy on write
        train = np.memmap(train.filename, train.dtype, "c", train.offset, train.shape, "F" if train.flags.fnc else "C")
        return torch.from_numpy(train)
    return as_tensor(train).float()


def _training_labels(
    by_name: Mapping[str, np.ndarray], train: Tensor | None, names: tuple[str, ...] | None
) -> Tensor | None:
    if "train_labels" not in by_name:
        return None
    labels = by_name["train_labels"]
    if train is None or labels.shape[:1] != (len(train),):
        came = "no train" if train is None else f"{len(train)} training inputs"
        raise UserError(f"train_labels is an array {labels.shape}, but there are {came}; expected one label for each")
    return labels_of_rows(
        labels, np.arange(len(labels)), [f"training input {row}" for row in range(len(labels))], names
    )[0]


def _rows_of_units(
    by_name: Mapping[str, np.ndarray], name: str, units: Units, finite: np.ndarray | None, dtype: torch.dtype
) -> ArrayRows | None:
    if name not in by_name:
        return None
    array = _numeric(by_name, name, 2)
    if array.shape[1:] != units.shape:
        raise UserError(f"{name} is an array {array.shape}, expected one number per unit, {('N', *units.shape)}")
    if len(_not_finite(array)):
        raise UserError(f"{name} holds NaN or infinite values, the first for sample {_not_finite(array)[0]}")
    if name == "segments" and (array.dtype.kind not in "iu" or array.min() < 0):
        raise UserError(f"segments are {array.dtype} from {array.min()}, expected whole numbers from 0")
    return ArrayRows(array, finite, dtype)


def _unit_names(by_name: Mapping[str, np.ndarray], units: Units) -> tuple[str, ...] | None:
    if "unit_names" not in by_name:
        return None
    if by_name["unit_names"].shape != (units.count,):
        raise UserError(
            f"unit_names is an array {by_name['unit_names'].shape}, expected a name for each of {units.count}"
        )
    return tuple(str(name) for name in by_name["unit_names"])


def _unit_of_numbers(by_name: Mapping[str, np.ndarray]) -> tuple[int, ...] | None:
    if "columns" not in by_name:
        return None
    if by_name["columns"].ndim != 1 or by_name["columns"].dtype.kind not in "iu":
        raise UserError(
            f"columns are {by_name['columns'].dtype} {by_name['columns'].shape}, expected a unit per number (D,)"
        )
    return tuple(int(column) for column in by_name["columns"])


def _group_values(by_name: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    array = by_name[name]
    if array.ndim != 1 or array.dtype.kind not in "fiubU":
        raise UserError(f"{name} is {array.dtype} {array.shape}, expected one number or text for each sample")
    return array


def _checked_range(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None and high is None:
        return None
    if low is None or high is None or not low < high:
        raise UserError(f"low is {low} and high is {high}, expected both, low below high, or neither")
    return float(low), float(high)
