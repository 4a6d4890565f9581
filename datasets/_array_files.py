"""Named arrays in an .npz file or in a folder of .npy files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.array_archives import array_in_archive, names_in_archive
from harness.errors import UserError, one_line, unknown
from harness.places import user_path

ARRAY_NAMES = (
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
GROUP_PREFIX = "g_"  # of the names of arrays that divide the samples into groups


def open_arrays(path: str | None) -> Mapping[str, np.ndarray]:
    """The arrays by name; those of a folder are mapped into memory, those of an archive are loaded.

    UserError for a path that is neither, for a file that cannot be read, for an array with an unknown name, and where
    there are no inputs.
    """
    if not path:
        raise UserError("arrays needs path=FILE.npz, or path=FOLDER of inputs.npy, labels.npy, ...")
    place = user_path(path)
    if not place.is_dir() and not (place.is_file() and place.suffix == ".npz"):
        raise UserError(f"path {path!r} is neither an .npz file nor a folder of .npy files")
    arrays = _arrays_of_folder(place) if place.is_dir() else _arrays_of_archive(place)
    for name in arrays:
        if name not in ARRAY_NAMES and not is_group(name):
            raise unknown(f"array of {path}", name, (*ARRAY_NAMES, f"{GROUP_PREFIX}NAME"))
    if "inputs" not in arrays:
        raise UserError(f"{path} has no inputs, only {', '.join(arrays) or 'nothing'}")
    return arrays


def _arrays_of_folder(place: Path) -> dict[str, np.ndarray]:
    files = {file.stem: file for file in sorted(place.glob("*.npy"))}
    return {
        name: _loaded_array(str(file), lambda f=file: np.load(_plain_file(f), mmap_mode="r", allow_pickle=False))
        for name, file in files.items()
    }


def _plain_file(file: Path) -> Path:
    """The path; ValueError for a pipe or a folder: numpy would wait for it, or fail in other words."""
    if not file.is_file():
        raise ValueError("it is no file")
    return file


def _arrays_of_archive(place: Path) -> dict[str, np.ndarray]:
    names = _loaded_array(str(place), lambda: names_in_archive(place))
    return {name: _loaded_array(f"{name} of {place}", lambda n=name: array_in_archive(place, n)) for name in names}


def _loaded_array(what: str, read: Any) -> Any:
    try:
        return read()
    except Exception as error:  # numpy can raise anything on a broken file
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            reason = "it is no array file, or holds Python objects, which are not unpickled"
            raise UserError(f"{what} cannot be read: {reason}") from None
        raise UserError(f"{what} cannot be read: {one_line(error)}") from None


def is_group(name: str) -> bool:
    """Whether an array with this name divides the samples into groups."""
    return name.startswith(GROUP_PREFIX) and len(name) > len(GROUP_PREFIX)
