"""Arrays in files that somebody else may have made: ``.npz`` archives. Nothing is unpickled."""

import math
import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np

MOST_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # of an array that is held in memory
HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


def array_in_archive(path: Path, name: str) -> np.ndarray:
    """The array ``name`` of an ``.npz`` file.

    ValueError where it holds Python objects, or where it tells of more numbers than are there or fit into memory: they
    are not made room for. Other errors of numpy and of zip files, where the file is broken.
    """
    with ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)[0]
            shape, _, kind = HEADERS.get(version, HEADERS[2])(file)
        size = math.prod(shape) * kind.itemsize
        if size > member.file_size:
            raise ValueError(f"it tells of {size} bytes, and there are {member.file_size}")
        if size > MOST_BYTES:
            raise ValueError(f"{size / 2**30:.1f} GiB do not fit into memory; save it as .npy, which is read in parts")
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def names_in_archive(path: Path) -> list[str]:
    """The names of the arrays of an ``.npz`` file; other files in it are left out."""
    with ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
