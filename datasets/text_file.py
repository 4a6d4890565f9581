"""The user's own texts: a text file with a second file of labels, or a CSV or Parquet table of texts and labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.datasets._csv_files import AS_TEXT, csv_header, whole_rows
from harness.datasets.own_files import (
    LABEL_OPTIONS,
    LabelOptions,
    class_indices,
    class_names,
    own_file,
    read_or_refuse,
)
from harness.errors import UserError, one_line, unknown
from harness.places import temporary_folder, user_path
from harness.registry import dataset
from harness.sources import Data

ROWS_AT_A_TIME = 4096  # that are read


class Texts(Sequence):
    """Texts in a temporary file, each read when it is accessed."""

    def __init__(self) -> None:
        self._folder = temporary_folder()
        self._path = Path(self._folder.name) / "texts"
        self._ends = [0]
        self._file = open(self._path, "w+b")  # stays open as long as the texts are in use

    def append(self, text: str) -> None:
        """Add a text at the end."""
        self._file.seek(self._ends[-1])
        self._file.write(text.encode())
        self._ends.append(self._file.tell())

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]
        self._file.seek(self._ends[index])
        return self._file.read(self._ends[index + 1] - self._ends[index]).decode()


@dataset(
    modality="tokens",
    source="your file",
    licence="yours",
    samples="yours",
    classes="yours",
    renamed={"labels": "labels_path"},
)
def text(
    *,
    path: str | None = None,
    labels_path: str | None = None,
    text_column: str = "text",
    id_column: str | None = None,
    label: LabelOptions = LABEL_OPTIONS,
) -> Data:
    """Texts from a file with one text per line and a second file of labels, or from a CSV or Parquet table.

    ``path`` is a ``.txt`` file with one text a line, whose labels are in the file ``labels_path``, one a line; without
    it the texts have none. Or it is a ``.csv`` or ``.parquet`` file with the columns ``text_column`` and
    ``label_column``, and optionally ``id_column`` with a unique name for each text. ``LabelOptions`` describes
    ``label_column`` and ``classes``; the labels of a ``.txt`` file are read in the same way. Items are str, which the
    model divides into tokens.

    Texts are copied in pieces into a temporary file, from which they are read one at a time. Empty texts and those of
    white space only are left out and listed in ``skipped``. UserError for a file or column that does not exist, text
    that is not UTF-8, numbers of labels and texts that differ, a label that is neither index nor name, and no text at
    all.
    """
    file = own_file(path, "text", "a text file with one text a line, or a CSV or Parquet file")
    return texts_of(
        _labelled_texts(file, labels_path, text_column, label.label_column, id_column),
        file.name,
        class_names(label.classes),
    )


def texts_of(rows: Iterator[tuple[str | None, Any, Any]], source: str, names: tuple[str, ...] | None) -> Data:
    """Rows of (text, label, id) as data; a row without id is named by its number. ``source`` is named in errors."""
    texts, ids, labels, skipped = Texts(), [], [], []
    for number, (words, label, name) in enumerate(_with_read_errors(rows, source)):
        name = f"row_{number}" if name is None else str(name)
        if words is None or not words.strip():
            skipped.append(f"{name}: the text is empty")
            continue
        texts.append(words)
        ids.append(name)
        labels.append(label)
    if not ids:
        raise UserError(f"{source} holds no text" + (f": all {len(skipped)} are empty" if skipped else ""))
    twice, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise UserError(f"{source} calls more than one text {twice!r}, expected every id once")
    indices = None
    if labels[0] is not None:
        indices, names = class_indices(ids, labels, names)
    return Data(
        texts,
        labels=None if indices is None else torch.tensor(indices),
        ids=ids,
        modality="tokens",
        classes=names,
        skipped=skipped,
    )


def _with_read_errors(rows: Iterator[Any], source: str) -> Iterator[Any]:
    """The rows; an error while they are read becomes a UserError."""
    try:
        yield from rows
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{source} cannot be read: {one_line(error)}") from None


def _labelled_texts(
    file: Path, labels: str | None, text_column: str, label_column: str, id_column: str | None
) -> Iterator[tuple[str | None, Any, Any]]:
    kind = file.suffix.lower()
    if kind == ".txt":
        return _text_lines(file, user_path(labels) if labels else None)
    readers = {".csv": _csv_texts, ".parquet": _parquet_texts}
    if kind not in readers:
        raise UserError(f"path {str(file)!r} is no file of a known kind: .txt, {', '.join(readers)}")
    if labels is not None:
        raise UserError(f"labels_path={labels!r} is for a .txt file; the labels of a {kind} file are its column")
    return readers[kind](file, text_column, label_column, id_column)


def _text_lines(file: Path, labels: Path | None) -> Iterator[tuple[str, str | None, None]]:
    label_lines = None
    if labels is not None:
        content = read_or_refuse(labels, "labels file", lambda: labels.read_text(encoding="utf-8-sig"))
        label_lines = [line.strip() for line in content.splitlines()]
    count = 0
    with open(file, encoding="utf-8-sig") as lines:
        for count, line in enumerate(lines, 1):
            if label_lines is not None and count > len(label_lines):
                raise UserError(
                    f"{labels} holds {len(label_lines)} labels, but {file} more texts; expected one for each"
                )
            yield line.rstrip("\n"), None if label_lines is None else label_lines[count - 1], None
    if label_lines is not None and count < len(label_lines):
        raise UserError(f"{labels} holds {len(label_lines)} labels for {count} texts in {file}, expected one for each")


def _csv_texts(file: Path, *columns: str | None) -> Iterator[tuple[str, str, str | None]]:
    import pandas as pd

    separator, names = csv_header(file, columns)
    _check_wanted_columns(file, names, columns)
    with pd.read_csv(file, sep=separator, chunksize=ROWS_AT_A_TIME, index_col=False, **AS_TEXT) as chunks:
        while (chunk := _next_chunk(chunks)) is not None:
            chunk = chunk.set_axis(names, axis=1).fillna("")  # a short row lacks its last fields
            yield from _checked_texts(*(None if name is None else chunk[name].tolist() for name in columns))


def _next_chunk(chunks: Any) -> Any:
    with whole_rows():
        return next(chunks, None)


def _parquet_texts(file: Path, *columns: str | None) -> Iterator[tuple[str | None, str, str | None]]:
    from pyarrow import parquet

    table = parquet.ParquetFile(file)
    _check_wanted_columns(file, table.schema_arrow.names, columns)
    for batch in table.iter_batches(ROWS_AT_A_TIME, columns=[name for name in columns if name is not None]):
        yield from _checked_texts(*(None if name is None else batch.column(name).to_pylist() for name in columns))


def _check_wanted_columns(file: Path, there: list[str], wanted: Sequence[str | None]) -> None:
    for name in wanted:
        if name is not None and name not in there:
            raise unknown(f"column of {file}", name, map(str, there))


def _checked_texts(texts: Any, labels: Any, ids: Any) -> Iterator[tuple[str | None, str, Any]]:
    for row, (words, label) in enumerate(zip(texts, labels, strict=True)):
        if words is not None and not isinstance(words, str):
            raise UserError(f"the column of texts holds {words!r}, expected texts")
        yield words, "" if label is None else str(label).strip(), None if ids is None else ids[row]
