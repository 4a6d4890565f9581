"""Hugging Face data sets on this machine: a folder written by save_to_disk, or a local CSV or Parquet file."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from harness.datasets._table_options import TABLE_OPTIONS, TableFileOptions, TableOptions
from harness.datasets._table_reading import table_data
from harness.datasets.own_files import LABEL_OPTIONS, LabelOptions, class_indices, class_names
from harness.datasets.text_file import ROWS_AT_A_TIME, texts_of
from harness.errors import UserError, one_line, unknown
from harness.photographs import as_shown
from harness.places import user_path
from harness.registry import dataset
from harness.sources import Data

BUILDERS = {".csv": "csv", ".parquet": "parquet"}


class ColumnItems(Sequence):
    """The images in one column of a Hugging Face data set, each read when it is accessed, upright as it is shown."""

    def __init__(self, rows: Any, name: str) -> None:
        self.rows, self.name = rows, name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return as_shown(self.rows[index][self.name])


@dataset(name="huggingface", modality="any", source="your files", licence="yours", samples="yours", classes="yours")
def huggingface_set(
    *,
    path: str | None = None,
    kind: Literal["image", "text", "table"] = "image",
    split: str | None = None,
    column: str | None = None,
    label: LabelOptions = LABEL_OPTIONS,
    shared: TableOptions = TABLE_OPTIONS,
) -> Data:
    """A data set of the library datasets on this machine: images, texts or a table, with a column of labels.

    ``path`` is a folder written by ``save_to_disk``, or a CSV or Parquet file; ``split`` chooses among several splits.
    ``kind`` is image, text or table. ``column`` holds the images or texts (default ``image`` or ``text``). The inputs
    of a table are all columns but ``label_column``; ``TableOptions`` describes its other options. The class names are
    those of the data set itself, or as ``LabelOptions`` describes them (``label_column``, ``classes``). Images are
    decoded and texts read one at a time. Nothing is downloaded, and no code of the data set is run. Empty texts are
    left out and listed in ``skipped``.

    Needs the extra ``datasets``. UserError without it, for a path that is no such data set, a split or column that does
    not exist, and labels that are no classes.
    """
    rows, label_column = _rows_of_split(_open_saved_set(path), split, path), label.label_column
    if kind == "table":
        known = _names_of_set(rows, label_column) if label_column in rows.column_names else None
        return table_data(rows.to_pandas(), TableFileOptions(label_column), shared, classes=known)
    column = column or kind
    for name in (column, label_column):
        if name not in rows.column_names:
            raise unknown(f"column of {path!r}", name, rows.column_names)
    names = _names_of_set(rows, label_column) or class_names(label.classes)
    if kind == "text":
        return texts_of(_texts_with_labels(rows, column, label_column), str(path), names)
    return _image_data(rows, column, label_column, names)


def _datasets_library() -> Any:
    try:
        import datasets
    except ImportError:
        datasets = None
    # Without the library, Python can find a folder called datasets instead.
    if not hasattr(datasets, "load_from_disk"):
        raise UserError("huggingface needs the library datasets: pip install 'harness[datasets]'")
    return datasets


def _open_saved_set(path: str | None) -> Any:
    if not path:
        raise UserError("huggingface needs path=FOLDER, as save_to_disk wrote it, or path=FILE, a CSV or Parquet file")
    place, library = user_path(path), _datasets_library()
    if not place.is_dir() and not (place.is_file() and place.suffix.lower() in BUILDERS):
        raise UserError(f"path {path!r} is neither a folder nor a {' or '.join(BUILDERS)} file; nothing is downloaded")
    try:
        if place.is_dir():
            return library.load_from_disk(str(place))
        return library.load_dataset(BUILDERS[place.suffix.lower()], data_files=str(place))
    except Exception as error:  # the library can raise anything on broken files
        raise UserError(f"path {path!r} cannot be read as a data set: {one_line(error)[:300]}") from None


def _rows_of_split(saved: Any, split: str | None, path: str | None) -> Any:
    """The rows of the split ``split``, or of the only one; all rows of a data set without splits."""
    if not hasattr(saved, "keys"):
        if split is not None:
            raise UserError(f"split is {split!r}, but {path!r} has no splits")
        return saved
    if split is None and len(saved) == 1:
        return next(iter(saved.values()))
    if split not in saved:
        raise unknown(f"split of {path!r}", split, saved)
    return saved[split]


def _names_of_set(rows: Any, label_column: str) -> tuple[str, ...] | None:
    """The class names that the data set itself holds, or None."""
    names = getattr(rows.features[label_column], "names", None)
    return None if names is None else tuple(names)


def _image_data(rows: Any, column: str, label_column: str, names: tuple[str, ...] | None) -> Data:
    ids = [f"row_{number}" for number in range(len(rows))]
    if not ids:
        raise UserError("the data set has no rows")
    labels = ["" if label is None else str(label) for label in rows[label_column]]
    indices, names = class_indices(ids, labels, names)
    # Only the column of images is kept, so that accessing an image reads nothing else.
    items = ColumnItems(rows.select_columns([column]), column)
    return Data(items, labels=torch.tensor(indices), ids=ids, modality="image", classes=names)


def _texts_with_labels(rows: Any, column: str, label_column: str) -> Iterator[tuple[str | None, str, None]]:
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        piece = rows[start : start + ROWS_AT_A_TIME]
        for words, label in zip(piece[column], piece[label_column], strict=True):
            if words is not None and not isinstance(words, str):
                raise UserError(f"column {column!r} holds {words!r:.60}, expected texts")
            yield words, "" if label is None else str(label), None
