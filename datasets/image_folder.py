"""The user's own images: a folder and a CSV file that labels them."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from harness.errors import UserError, one_line
from harness.registry import dataset
from harness.sources import Data, Images


@dataset(modality="image", source="your files", licence="yours", samples="yours", classes="yours")
def image_folder(
    *, path: str | None = None, labels: str = "labels.csv", file_column: str = "file", label_column: str = "label",
    classes: str | None = None,
) -> Data:  # fmt: skip
    """The images of a folder that a CSV file lists with their labels, decoded one at a time for the model.

    ``labels`` is the CSV and ``classes`` a text file with one class name a line, in the order of the model's outputs;
    both lie in the folder ``path``, or are given by absolute paths. Column ``file_column`` holds file names relative
    to the folder, which become the ids; ``label_column`` holds class indices from 0, or names. Names stand for their
    line in ``classes``, or without that file for their place among the sorted names, as torchvision numbers folders.
    A column whose labels are all names of ``classes`` is read as names even if they are numbers.

    Every image is decoded once at the start; those that cannot be are left out and named in ``skipped``. UserError,
    with one line, for a missing folder, file or column, a label that is neither, a file listed twice, and no images.
    """
    folder = _folder(path)
    table = _read_table(folder / labels, file_column, label_column)
    names = _read_names(folder / classes) if classes else None
    indices, names = _indices(table, names)
    paths = _existing(folder, list(table["file"]))
    problems = _problems(paths)
    good = [row for row, problem in enumerate(problems) if problem is None]
    if not good:
        raise UserError(f"none of the {len(paths)} images in {folder} can be decoded: {problems[0]}")
    return Data(
        ids=[table["file"][row] for row in good],
        items=Images([paths[row] for row in good]),
        labels=torch.tensor([indices[row] for row in good]),
        modality="image",
        classes=names,
        skipped=[f"{table['file'][row]}: {problem}" for row, problem in enumerate(problems) if problem is not None],
    )


def _folder(path: str | None) -> Path:
    if not path:
        raise UserError("image_folder needs path=FOLDER, the folder that holds the images")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"path {path!r} is not a folder; expected the folder that holds the images")
    return folder


def _read_table(path: Path, file_column: str, label_column: str) -> pd.DataFrame:
    """Columns ``file`` and ``label`` as text, one row per image."""
    as_text = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}  # a class may be called NA
    table = _readable(path, "CSV file", lambda: pd.read_csv(path, index_col=False, skipinitialspace=True, **as_text))
    for column in (file_column, label_column):
        if column not in table.columns:
            raise UserError(f"{path} has no column {column!r}, only {', '.join(map(str, table.columns))}")
    if table.empty:
        raise UserError(f"{path} lists no images, expected a row for each")
    table = pd.DataFrame({"file": table[file_column].str.strip(), "label": table[label_column].str.strip()})
    twice = table["file"][table["file"].duplicated()]
    if len(twice):
        raise UserError(f"{path} lists {twice.iloc[0]!r} more than once, expected every file once")
    return table


def _readable(path: Path, what: str, read: Callable[[], Any]) -> Any:
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist")
    try:
        return read()
    except (OSError, ValueError) as error:
        raise UserError(f"{what} {path} cannot be read: {one_line(error)}") from error


def _read_names(path: Path) -> tuple[str, ...]:
    text = _readable(path, "class file", lambda: path.read_text(encoding="utf-8-sig"))
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names:
        raise UserError(f"class file {path} is empty, expected one class name a line")
    return names


def _indices(table: pd.DataFrame, names: tuple[str, ...] | None) -> tuple[list[int], tuple[str, ...] | None]:
    """The class index of every row, and the names of the classes where there are names."""
    labels = list(table["label"])
    if names is None and any(_is_number(label) for label in labels):
        return _numbers(table, None), None
    if names is not None and not set(labels) <= set(names) and all(_is_number(label) for label in labels):
        return _numbers(table, len(names)), names
    names = names or tuple(sorted(set(labels)))
    _check_names(table, names)
    place = {name: index for index, name in enumerate(names)}
    return [place[label] for label in labels], names


def _numbers(table: pd.DataFrame, count: int | None) -> list[int]:
    for file, label in zip(table["file"], table["label"], strict=True):
        if not re.fullmatch("[0-9]+", label):
            raise UserError(f"the label of {file} is {label!r}, expected a class index 0, 1, 2, ... as elsewhere")
        if count is not None and int(label) >= count:
            raise UserError(f"the label of {file} is {label}, but there are only {count} class names")
    return [int(label) for label in table["label"]]


def _check_names(table: pd.DataFrame, names: tuple[str, ...]) -> None:
    times = Counter(names)
    for file, label in zip(table["file"], table["label"], strict=True):
        if not label:
            raise UserError(f"the label of {file} is empty, expected a class index or name")
        if times[label] == 0:
            close = get_close_matches(label, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"the label of {file} is {label!r}, which is not among the {len(names)} class names{hint}")
        if times[label] > 1:
            raise UserError(f"the label of {file} is {label!r}, the name of {times[label]} classes; use indices")


def _is_number(label: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", label) is not None


def _existing(folder: Path, files: list[str]) -> list[Path]:
    paths = [folder / file for file in files]
    missing = [file for file, path in zip(files, paths, strict=True) if not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} files are not in {folder}; the first is {missing[0]!r}")
    return paths


def _problems(paths: Sequence[Path]) -> list[str | None]:
    """Why each image cannot be decoded, or None."""
    with ThreadPoolExecutor() as threads:  # decoding releases the interpreter
        return list(threads.map(_problem, paths))


def _problem(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.draft(image.mode, (1, 1))  # a JPEG is read whole but decoded small; other formats in full
            image.load()
    except Exception as error:  # whatever a broken file provokes in a decoder
        return one_line(error).replace(f" {str(path)!r}", "")
    return None
