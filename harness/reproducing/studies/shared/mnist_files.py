"""The user's MNIST, read from the four files in which it is published (LeCun et al. 1998)."""

import gzip
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError

MNIST_CLASSES = tuple(str(digit) for digit in range(10))
MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}
UNSIGNED_BYTES = 0x08  # the third byte of an idx file says of which kind its numbers are
RAW = Path("MNIST", "raw")  # where torchvision keeps the files


@cache
def mnist_of_folder(folder: str) -> dict[str, tuple[Tensor, Tensor]]:
    """``train`` and ``test`` -> images (N, 1, 28, 28) in 0..1, labels (N,), all 60,000 and 10,000 of them.

    The files lie in the folder itself or in ``MNIST/raw`` in it, each as it is or with ``.gz``. UserError for a file
    that is missing, damaged or of another number or shape of images, and for a label that is no digit.
    """
    parts = {}
    for part, (images, labels, count) in MNIST_FILES.items():
        pixels = idx_array(_place_of(Path(folder), images), (count, 28, 28))
        digits = idx_array(_place_of(Path(folder), labels), (count,))
        if digits.max() >= len(MNIST_CLASSES):
            raise UserError(f"{_place_of(Path(folder), labels)} has the label {digits.max()}, expected 0 to 9")
        parts[part] = torch.from_numpy(pixels).float()[:, None] / 255, torch.from_numpy(digits).long()
    return parts


def _place_of(folder: Path, name: str) -> Path:
    for place in (folder, folder / RAW):
        for found in (place / name, place / f"{name}.gz"):
            if found.is_file():
                return found
    raise UserError(f"{folder} has no file {name} or {name}.gz, neither there nor in {RAW}")


def idx_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The unsigned bytes of an idx file as an array of this shape; UserError where the file holds anything else."""
    header = bytes((0, 0, UNSIGNED_BYTES, len(shape))) + b"".join(side.to_bytes(4, "big") for side in shape)
    expected = len(header) + math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(expected + 1)  # never more: a small file can unpack to a huge one
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    wanted = " x ".join(f"{side:,}" for side in shape)
    if content[: len(header)] != header:
        raise UserError(f"{path} is not an idx file of {wanted} unsigned bytes, as MNIST's is")
    if len(content) != expected:
        raise UserError(f"{path} has {'more' if len(content) > expected else 'fewer'} bytes than {wanted} need")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()
