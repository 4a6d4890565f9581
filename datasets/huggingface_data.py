"""Hugging Face data sets that lie on this machine: a folder written by save_to_disk, or a local CSV or Parquet file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.datasets._own import class_indices, read_names
from harness.datasets.table_file import Reading, data_of
from harness.datasets.text_file import CHUNK, texts_of
from harness.errors import UserError, one_line, unknown
from harness.registry import dataset
from harness.sources import Data

KINDS = ("image", "text", "table")
BUILDERS = {".csv": "csv", ".parquet": "parquet"}


class Column(Sequence):
    """One column of a Hugging Face data set, read from disk an entry at a time."""

    def __init__(self, rows: Any, name: str) -> None:
        self.rows, self.name = rows, name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index][self.name]


@dataset(modality="any", source="your files", licence="yours", samples="yours", classes="yours")
def huggingface(
    *,
    path: str | None = None,
    kind: str = "image",
    split: str | None = None,
    column: str | None = None,
    label_column: str = "label",
    classes: str | None = None,
    train: float = 0.7,
    groups: Any = None,
    drop: Any = None,
    missing: str = "error",
) -> Data:
    """A data set of the library datasets on this machine: images, texts or a table, with a column of labels.

    ``path`` is a folder written by ``save_to_disk``, or a CSV or Parquet file; ``split`` chooses where there are
    several. ``kind`` is image, text or table. ``column`` holds the images or texts (default ``image`` or ``text``);
    of a table all columns but ``label_column`` are inputs, and ``train``, ``groups``, ``drop`` and ``missing`` are
    those of the data set ``table``. Labels are the set's own classes, else class indices or names as of ``text``, with
    ``classes`` a text file of names. Images are decoded and texts read one at a time; nothing is downloaded and no code
    of the data set runs. Empty texts are left out and named in ``skipped``.

    Needs the extra ``datasets``. UserError, with one line, without it, for a path that is no such set, a split or
    column that is not there, and labels that are no classes.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    rows = _split(_opened(path), split, path)
    if kind == "table":
        reading = Reading(label_column, train=train, groups=groups, drop=drop, missing=missing)
        known = _class_names(rows, label_column) if label_column in rows.column_names else None
        return data_of(rows.to_pandas(), reading, classes=known)
    column = column or kind
    for name in (column, label_column):
        if name not in rows.column_names:
            raise unknown(f"column of {path!r}", name, rows.column_names)
    names = _class_names(rows, label_column) or (read_names(Path(classes).expanduser()) if classes else None)
    if kind == "text":
        return texts_of(_triples(rows, column, label_column), str(path), names)
    return _images(rows, column, label_column, names)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        datasets = None
    if not hasattr(datasets, "load_from_disk"):  # where the library is missing, the folder of that name is found
        raise UserError("huggingface needs the library datasets: pip install 'harness[datasets]'")
    return datasets


def _opened(path: str | None) -> Any:
    if not path:
        raise UserError("huggingface needs path=FOLDER, as save_to_disk wrote it, or path=FILE, a CSV or Parquet file")
    place, library = Path(path).expanduser(), _library()
    if not place.is_dir() and not (place.is_file() and place.suffix.lower() in BUILDERS):
        raise UserError(f"path {path!r} is neither a folder nor a {' or '.join(BUILDERS)} file; nothing is downloaded")
    try:
        if place.is_dir():
            return library.load_from_disk(str(place))
        return library.load_dataset(BUILDERS[place.suffix.lower()], data_files=str(place))
    except Exception as error:  # whatever broken files provoke in the library
        raise UserError(f"path {path!r} cannot be read as a data set: {one_line(error)[:300]}") from None


def _split(found: Any, split: str | None, path: str | None) -> Any:
    """The rows of one split; a set without splits is one."""
    if not hasattr(found, "keys"):
        if split is not None:
            raise UserError(f"split is {split!r}, but {path!r} has no splits")
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise unknown(f"split of {path!r}", split, found)
    return found[split]


def _class_names(rows: Any, label_column: str) -> tuple[str, ...] | None:
    names = getattr(rows.features[label_column], "names", None)
    return None if names is None else tuple(names)


def _labels(rows: Any, label_column: str) -> list[str]:
    return ["" if label is None else str(label) for label in rows[label_column]]


def _images(rows: Any, column: str, label_column: str, names: tuple[str, ...] | None) -> Data:
    ids = [f"row_{number}" for number in range(len(rows))]
    if not ids:
        raise UserError("the data set has no rows")
    indices, names = class_indices(ids, _labels(rows, label_column), names)
    # Without the other columns, so that reading an image reads nothing else.
    return Data(ids, Column(rows.select_columns([column]), column), torch.tensor(indices), "image", classes=names)


def _triples(rows: Any, column: str, label_column: str) -> Iterator[tuple[str | None, str, None]]:
    for start in range(0, len(rows), CHUNK):
        piece = rows[start : start + CHUNK]
        for words, label in zip(piece[column], piece[label_column], strict=True):
            if words is not None and not isinstance(words, str):
                raise UserError(f"column {column!r} holds {words!r:.60}, expected texts")
            yield words, "" if label is None else str(label), None
