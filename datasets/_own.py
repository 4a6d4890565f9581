"""What the user's own files have in common: paths, labels as class indices, and rows that lie on disk."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError, one_line


class Rows(Sequence):
    """Some rows of an array that may lie on disk: tensors, each made when it is asked for.

    A number gives one row, a slice several as one tensor. ``kept`` (N,) are the rows there are, None for all.
    """

    def __init__(self, array: np.ndarray, kept: np.ndarray | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.array, self.kept, self.dtype = array, kept, dtype

    def __len__(self) -> int:
        return len(self.array) if self.kept is None else len(self.kept)

    def __getitem__(self, index: int | slice) -> Tensor:
        where = index if self.kept is None else self.kept[index]
        return as_tensor(self.array[where]).to(self.dtype)  # a copy: the file is left as it is


def as_tensor(array: np.ndarray) -> Tensor:
    """A copy as a tensor; torch knows neither the other order of bytes nor numbers of more than eight of them."""
    kind = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    return torch.from_numpy(np.array(array, dtype=kind))


def own_file(path: str | None, who: str, what: str) -> Path:
    """The file that the option ``path`` names."""
    if not path:
        raise UserError(f"{who} needs path=FILE, {what}")
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"path {path!r} is not a file; expected {what}")
    return file


def readable(path: Path, what: str, read: Callable[[], Any]) -> Any:
    """What ``read()`` gives; one line where the file is not there or cannot be read."""
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist")
    try:
        return read()
    except (OSError, ValueError) as error:
        raise UserError(f"{what} {path} cannot be read: {one_line(error)}") from error


@contextmanager
def whole_rows() -> Iterator[None]:
    """Inside, a CSV file whose rows are longer than its header is a ValueError; pandas cuts them, with a warning."""
    from pandas.errors import ParserWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)
        try:
            yield
        except ParserWarning:
            raise ValueError("its rows have more fields than its header; a text with commas needs quotes") from None


def read_names(path: Path) -> tuple[str, ...]:
    """Class names, one a line, in the order of the model's outputs."""
    text = readable(path, "class file", lambda: path.read_text(encoding="utf-8-sig"))
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names:
        raise UserError(f"class file {path} is empty, expected one class name a line")
    return names


def class_indices(
    ids: Sequence[str], labels: Sequence[str], names: tuple[str, ...] | None
) -> tuple[list[int], tuple[str, ...] | None]:
    """The class index of every label, and the names of the classes where there are names.

    Labels are texts: class indices from 0, or names. Names stand for their place in ``names``, or without them for
    their place among the sorted names. Labels that are all among ``names`` are names, even if they are numbers.
    """
    if names is None and any(_is_number(label) for label in labels):
        return _numbers(ids, labels, None), None
    if names is not None and not set(labels) <= set(names) and all(_is_number(label) for label in labels):
        return _numbers(ids, labels, len(names)), names
    names = names or tuple(sorted(set(labels)))
    _check_names(ids, labels, names)
    place = {name: index for index, name in enumerate(names)}
    return [place[label] for label in labels], names


def _numbers(ids: Sequence[str], labels: Sequence[str], count: int | None) -> list[int]:
    for name, label in zip(ids, labels, strict=True):
        if not re.fullmatch("[0-9]+", label):
            raise UserError(f"the label of {name} is {label!r}, expected a class index 0, 1, 2, ... as elsewhere")
        if count is not None and int(label) >= count:
            raise UserError(f"the label of {name} is {label}, but there are only {count} class names")
    return [int(label) for label in labels]


def _check_names(ids: Sequence[str], labels: Sequence[str], names: tuple[str, ...]) -> None:
    times = Counter(names)
    for name, label in zip(ids, labels, strict=True):
        if not label:
            raise UserError(f"the label of {name} is empty, expected a class index or name")
        if times[label] == 0:
            close = get_close_matches(label, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"the label of {name} is {label!r}, which is not among the {len(names)} class names{hint}")
        if times[label] > 1:
            raise UserError(f"the label of {name} is {label!r}, the name of {times[label]} classes; use indices")


def _is_number(label: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", label) is not None
