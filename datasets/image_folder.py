"""The user's own images: a folder and a CSV file that labels them, or a folder for each class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from harness.datasets._object_masks import (
    SIDES,
    Box,
    BoxMasks,
    FileMasks,
    box_problem,
    mask_files,
    mask_problem,
    read_boxes,
)
from harness.datasets._own import class_indices, read_names, readable, whole_rows
from harness.errors import UserError, one_line
from harness.registry import dataset
from harness.sources import Data, Images, MaskImages

LABELS = "labels.csv"


@dataset(modality="image", source="your files", licence="yours", samples="yours", classes="yours")
def image_folder(
    *,
    path: str | None = None,
    labels: str = LABELS,
    file_column: str = "file",
    label_column: str = "label",
    classes: str | None = None,
    masks: str | None = None,
    boxes: bool = False,
) -> Data:
    """The images of a folder that a CSV file or the names of its subfolders label, decoded one at a time for the model.

    ``labels`` is the CSV and ``classes`` a text file with one class name a line, in the order of the model's outputs;
    both lie in the folder ``path``, or are given by absolute paths. Column ``file_column`` holds file names relative
    to the folder, which become the ids; ``label_column`` holds class indices from 0, or names. Names stand for their
    line in ``classes``, or without that file for their place among the sorted names, as torchvision numbers folders.
    A column whose labels are all names of ``classes`` is read as names even if they are numbers. Where there is no
    ``labels.csv``, every subfolder is a class of that name, with the images in it and below: numbered by their sorted
    names as torchvision does it, so that ``10`` comes before ``2``.

    ``masks`` is a folder, in ``path`` or absolute, of images of the same names (or those with the ending .png) and
    sizes, not zero where the object is. ``boxes`` reads them from the CSV: columns x0, y0, x1, y1 in pixels of the
    image file, the last two exclusive; several rows a file, or empty fields for no box. Either goes through the model's
    preprocessing as the image does, so that it lies right after crop and resize, to half a pixel of what the model
    sees (``harness.sources.MaskImages``).

    Every image and mask is decoded once at the start; those that cannot be, masks of another size and boxes that leave
    the image are left out and named in ``skipped``, as are files in subfolders that are no images. UserError, with one
    line, for a missing folder, file, column or mask, a label that is neither index nor name, a file listed twice
    without boxes, a box without area, and no images.
    """
    folder = _folder(path)
    if masks and boxes:
        raise UserError("both masks and boxes say where the objects are; give one of them")
    inside = folder / masks if masks else None
    table, skipped = _listed(folder, labels, file_column, label_column, boxes, inside)
    names = read_names(folder / classes) if classes else _of_folders(table)
    indices, names = class_indices(list(table["file"]), list(table["label"]), names)
    paths = _existing(folder, list(table["file"]))
    drawn = _Drawn(
        paths, mask_files(inside, list(table["file"])) if inside else None, list(table["boxes"]) if boxes else None
    )
    problems = _problems(drawn)
    good = [row for row, problem in enumerate(problems) if problem is None]
    if not good:
        raise UserError(f"none of the {len(paths)} images in {folder} can be decoded: {problems[0]}")
    return Data(
        ids=[table["file"][row] for row in good],
        items=Images([paths[row] for row in good]),
        labels=torch.tensor([indices[row] for row in good]),
        modality="image",
        classes=names,
        masks=drawn.of(good),
        skipped=skipped
        + [f"{table['file'][row]}: {problem}" for row, problem in enumerate(problems) if problem is not None],
    )


class _Drawn:
    """Images with what is drawn on them, if anything."""

    def __init__(
        self, paths: Sequence[Path], masks: Sequence[Path] | None, boxes: Sequence[Sequence[Box]] | None
    ) -> None:
        self.paths, self.masks, self.boxes = paths, masks, boxes

    def of(self, rows: Sequence[int]) -> MaskImages | None:
        """The masks of some images."""
        pick = lambda values: [values[row] for row in rows]
        if self.masks is not None:
            return MaskImages(FileMasks(pick(self.paths), pick(self.masks)))
        return None if self.boxes is None else MaskImages(BoxMasks(pick(self.paths), pick(self.boxes)))

    def problem(self, row: int) -> str | None:
        """Why an image or what is drawn on it cannot be used, or None."""
        said = _problem(self.paths[row])
        if said is None and self.masks is not None:
            said = mask_problem(self.paths[row], self.masks[row])
        if said is None and self.boxes is not None:
            said = box_problem(self.paths[row], self.boxes[row])
        return said


def _folder(path: str | None) -> Path:
    if not path:
        raise UserError("image_folder needs path=FOLDER, the folder that holds the images")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"path {path!r} is not a folder; expected the folder that holds the images")
    return folder


def _listed(
    folder: Path, labels: str, file_column: str, label_column: str, boxes: bool, masks: Path | None
) -> tuple[pd.DataFrame, list[str]]:
    """Columns ``file``, ``label`` and, if wanted, ``boxes``, one row per image, and what is no image."""
    if labels != LABELS or (folder / labels).is_file() or boxes:
        return _read_table(folder / labels, file_column, label_column, boxes), []
    classes = [each for each in sorted(folder.iterdir()) if each.is_dir() and each != masks]
    classes = [each for each in classes if not each.name.startswith(".")]
    if not classes:
        raise UserError(f"{folder} has neither {LABELS} nor a folder for each class")
    rows, others, names = [], [], tuple(sorted(each.name for each in classes))
    for each in classes:
        for file in sorted(file for file in each.rglob("*") if file.is_file() and not file.name.startswith(".")):
            name = file.relative_to(folder).as_posix()
            if file.suffix.lower() in Image.registered_extensions():
                rows.append({"file": name, "label": each.name, "folders": names})
            else:
                others.append(f"{name}: it has not the ending of an image")
    if not rows:
        raise UserError(f"the folders in {folder}, {classes[0].name!r} and others, hold no images")
    return pd.DataFrame(rows), others


def _of_folders(table: pd.DataFrame) -> tuple[str, ...] | None:
    """The names of the folders that are classes, sorted as text as torchvision does it; None where a CSV labels."""
    return table["folders"].iloc[0] if "folders" in table else None


def _read_table(path: Path, file_column: str, label_column: str, boxes: bool) -> pd.DataFrame:
    table = readable(path, "CSV file", lambda: _read_csv(path))
    sides = SIDES if boxes else ()
    for column in (file_column, label_column, *sides):
        if column not in table.columns:
            raise UserError(f"{path} has no column {column!r}, only {', '.join(map(str, table.columns))}")
    if table.empty:
        raise UserError(f"{path} lists no images, expected a row for each")
    columns = {"file": file_column, "label": label_column, **{side: side for side in sides}}
    table = pd.DataFrame({name: table[column].str.strip() for name, column in columns.items()})
    if boxes:
        return _with_boxes(path, table)
    twice = table["file"][table["file"].duplicated()]
    if len(twice):
        raise UserError(f"{path} lists {twice.iloc[0]!r} more than once, expected every file once")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    as_text = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}  # a class may be called NA
    with whole_rows():
        return pd.read_csv(path, index_col=False, skipinitialspace=True, **as_text)


def _with_boxes(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """One row per file, with its boxes."""
    found: list[dict[str, Any]] = []
    for file, rows in table.groupby("file", sort=False):
        if rows["label"].nunique() > 1:
            raise UserError(f"{path} gives {file!r} the labels {', '.join(rows['label'].unique())}, expected one")
        found.append({"file": file, "label": rows["label"].iloc[0], "boxes": read_boxes(rows.to_dict("records"))})
    return pd.DataFrame(found)


def _existing(folder: Path, files: list[str]) -> list[Path]:
    paths = [folder / file for file in files]
    missing = [file for file, path in zip(files, paths, strict=True) if not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} files are not in {folder}; the first is {missing[0]!r}")
    return paths


def _problems(drawn: _Drawn) -> list[str | None]:
    """Why each image, or what is drawn on it, cannot be used, or None."""
    with ThreadPoolExecutor() as threads:  # decoding releases the interpreter
        return list(threads.map(drawn.problem, range(len(drawn.paths))))


def _problem(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.draft(image.mode, (1, 1))  # a JPEG is read whole but decoded small; other formats in full
            image.load()
            if image.mode.startswith(("I", "F")):  # made into RGB, all that is above 255 becomes white
                return f"its grey values have more than 8 bits (mode {image.mode}), expected 0 to 255"
    except Exception as error:  # whatever a broken file provokes in a decoder
        return one_line(error).replace(f" {str(path)!r}", "")
    return None
