"""What the data sets made from the user's own files share: paths, labels, class names, and arrays on disk."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError, one_line
from harness.places import user_path


@dataclass(frozen=True)
class LabelOptions:
    """Options of the data sets whose labels are a column of the user's file.

    label_column  the column of labels: class indices from 0, or class names
    classes       a text file with one class name a line, in the order of the model's outputs. A name in the label
                  column stands for its line in this file; without the file, for its place among the sorted names
    """

    label_column: str = "label"
    classes: str | None = None


LABEL_OPTIONS = LabelOptions()


class ArrayRows(Sequence):
    """Rows of an array that may lie on disk, each read when it is accessed.

    An integer gives one row as a tensor, a slice gives several as one tensor. ``chosen`` (N,) are the numbers of the
    rows in this sequence; None means all rows of the array.
    """

    def __init__(self, array: np.ndarray, chosen: np.ndarray | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.array, self.chosen, self.dtype = array, chosen, dtype

    def __len__(self) -> int:
        return len(self.array) if self.chosen is None else len(self.chosen)

    def __getitem__(self, index: int | slice) -> Tensor:
        where = index if self.chosen is None else self.chosen[index]
        return as_tensor(self.array[where]).to(self.dtype)  # a copy, so that nothing is written into the file


def as_tensor(array: np.ndarray) -> Tensor:
    """A copy as a tensor. Numbers in foreign byte order or of more than 8 bytes, unknown to torch, are converted."""
    kind = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    return torch.from_numpy(np.array(array, dtype=kind))


def own_file(path: str | None, who: str, what: str) -> Path:
    """The file that the option ``path`` of the data set ``who`` names; UserError where it is not a file."""
    if not path:
        raise UserError(f"{who} needs path=FILE, {what}")
    file = user_path(path)
    if not file.is_file():
        raise UserError(f"path {path!r} is not a file; expected {what}")
    return file


def read_or_refuse(path: Path, what: str, read: Callable[[], Any]) -> Any:
    """What ``read()`` returns; UserError where the file ``path`` does not exist or cannot be read."""
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist")
    try:
        return read()
    except UserError:
        raise
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} cannot be read: it is no UTF-8 text; save it with the encoding UTF-8") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{what} {path} cannot be read: {one_line(error)}") from error


def read_class_names(path: Path) -> tuple[str, ...]:
    """The class names in a text file, one a line, in the order of the model's outputs; UserError for an empty file."""
    text = read_or_refuse(path, "class file", lambda: path.read_text(encoding="utf-8-sig"))
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names:
        raise UserError(f"class file {path} is empty, expected one class name a line")
    return names


def class_names(file: str | None, folder: Path = Path()) -> tuple[str, ...] | None:
    """The class names of the option ``classes``, a file in ``folder`` or anywhere; None where the option is None."""
    return read_class_names(folder / user_path(file)) if file else None


def class_indices(
    ids: Sequence[str], labels: Sequence[str], names: tuple[str, ...] | None
) -> tuple[list[int], tuple[str, ...] | None]:
    """The class index of every label, and the class names, None where the labels are indices without names.

    ``labels`` are texts: class indices from 0, or class names. A name stands for its place in ``names``, or without
    ``names`` for its place among the sorted labels. Labels that all occur in ``names`` are read as names, even if they
    are numbers. UserError that names the sample in ``ids`` for a label that is neither index nor name.
    """
    if names is None and any(_is_number(label) for label in labels):
        return _parsed_indices(ids, labels, None), None
    if names is not None and not set(labels) <= set(names) and all(_is_number(label) for label in labels):
        return _parsed_indices(ids, labels, len(names)), names
    names = names or tuple(sorted(set(labels)))
    _check_labels(ids, labels, names)
    place = {name: index for index, name in enumerate(names)}
    return [place[label] for label in labels], names


def _parsed_indices(ids: Sequence[str], labels: Sequence[str], count: int | None) -> list[int]:
    for name, label in zip(ids, labels, strict=True):
        if not re.fullmatch("[0-9]+", label):
            raise UserError(f"the label of {name} is {label!r}, expected a class index 0, 1, 2, ... as elsewhere")
        if count is not None and int(label) >= count:
            raise UserError(f"the label of {name} is {label}, but there are only {count} class names")
    return [int(label) for label in labels]


def _check_labels(ids: Sequence[str], labels: Sequence[str], names: tuple[str, ...]) -> None:
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
