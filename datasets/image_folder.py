"""The user's own images: a folder with a CSV file of labels, or with a subfolder for each class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from harness.datasets._csv_files import csv_as_texts
from harness.datasets._object_masks import (
    SIDES,
    BoxMasks,
    FileMasks,
    PixelBox,
    box_problem,
    mask_files,
    mask_problem,
    read_boxes,
)
from harness.datasets.own_files import (
    LABEL_OPTIONS,
    LabelOptions,
    class_indices,
    class_names,
    read_or_refuse,
)
from harness.errors import UserError, one_line
from harness.messages import say
from harness.photographs import depth_problem, is_stored_turned
from harness.places import user_path
from harness.registry import dataset
from harness.sources import Data, Images, MaskImages

LABELS = "labels.csv"


@dataset(
    modality="image",
    source="your files",
    licence="yours",
    samples="yours",
    classes="yours",
    renamed={"labels": "labels_path"},
)
def image_folder(
    *,
    path: str | None = None,
    labels_path: str = LABELS,
    file_column: str = "file",
    label: LabelOptions = LABEL_OPTIONS,
    masks: str | None = None,
    boxes: bool = False,
) -> Data:
    """The images of a folder, labelled by a CSV file or by the names of its subfolders, and decoded one at a time.

    ``path`` is the folder and ``labels_path`` the CSV file, in that folder or anywhere by an absolute path. Its column
    ``file_column`` holds file names relative to the folder, which become the ids. ``LabelOptions`` describes
    ``label_column`` and ``classes``, a file in the folder or anywhere. Labels that are all names in ``classes`` are
    read as names even if they are numbers. Where there is no ``labels.csv``, every subfolder is a class, with the
    images in it and below it. Its number is the place of its name in alphabetical order, as in torchvision, so that
    ``10`` comes before ``2``.

    Images stand upright, turned as their files say (EXIF orientation), as every viewer shows them. Masks and boxes
    belong to the upright image. ``masks`` is a folder, in ``path`` or absolute, of masks: images of the same size and
    of the same name (or that name with the ending .png), not zero where the object is. ``boxes`` reads the objects from
    the CSV file instead: columns x0, y0, x1, y1 in pixels of the image, x1 and y1 exclusive; several rows per file for
    several boxes, empty fields for no box. Masks and boxes go through the model's preprocessing with the image, so that
    they are right to half a pixel after crop and resize (``harness.sources.MaskImages``).

    Every image and mask is decoded once at the start. Images that cannot be decoded, and those whose mask cannot be
    decoded or has another size or whose box is not within the image, are left out and listed in ``skipped``, as are
    files in subfolders that are no images. UserError for a folder, file, column or mask that does not exist, a label
    that is neither index nor name, a file listed twice without boxes, a box without area, and no images.
    """
    folder = _existing_folder(path)
    if masks and boxes:
        raise UserError("both masks and boxes say where the objects are; give one of them")
    inside = folder / masks if masks else None
    table, skipped = _listed_images(folder, labels_path, file_column, label.label_column, boxes, inside)
    names = class_names(label.classes, folder) or _names_of_folders(table)
    indices, names = class_indices(list(table["file"]), list(table["label"]), names)
    paths = _image_paths(folder, list(table["file"]))
    objects = _ImagesWithObjects(
        paths, mask_files(inside, list(table["file"])) if inside else None, list(table["boxes"]) if boxes else None
    )
    problems = _problems(objects)
    good = [row for row, problem in enumerate(problems) if problem is None]
    if not good:
        raise UserError(f"none of the {len(paths)} images in {folder} can be decoded: {problems[0]}")
    if inside or boxes:
        _tell_turned_images([paths[row] for row in good])
    return Data(
        ids=[table["file"][row] for row in good],
        inputs=Images([paths[row] for row in good]),
        labels=torch.tensor([indices[row] for row in good]),
        modality="image",
        classes=names,
        masks=objects.masks_of(good),
        skipped=skipped
        + [f"{table['file'][row]}: {problem}" for row, problem in enumerate(problems) if problem is not None],
    )


class _ImagesWithObjects:
    """Image files with the masks or boxes of their objects, if there are any."""

    def __init__(
        self, paths: Sequence[Path], masks: Sequence[Path] | None, boxes: Sequence[Sequence[PixelBox]] | None
    ) -> None:
        self.paths, self.masks, self.boxes = paths, masks, boxes

    def masks_of(self, rows: Sequence[int]) -> MaskImages | None:
        """The masks of the images ``rows``, or None where there are neither masks nor boxes."""
        pick = lambda values: [values[row] for row in rows]
        if self.masks is not None:
            return MaskImages(FileMasks(pick(self.paths), pick(self.masks)))
        return None if self.boxes is None else MaskImages(BoxMasks(pick(self.paths), pick(self.boxes)))

    def problem(self, row: int) -> str | None:
        """Why an image, its mask or its boxes cannot be used, or None."""
        problem = _image_problem(self.paths[row])
        if problem is None and self.masks is not None:
            problem = mask_problem(self.paths[row], self.masks[row])
        if problem is None and self.boxes is not None:
            problem = box_problem(self.paths[row], self.boxes[row])
        return problem


def _tell_turned_images(paths: Sequence[Path]) -> None:
    """Say how many images are turned: tools that ignore the orientation draw masks and boxes on the unturned image."""
    turned = [path.name for path in paths if is_stored_turned(path)]
    if turned:
        say(
            f"{len(turned)} of {len(paths)} images are turned upright as their files say (EXIF), the first is "
            f"{turned[0]!r}; their masks and boxes are taken to belong to the upright images"
        )


def _existing_folder(path: str | None) -> Path:
    if not path:
        raise UserError("image_folder needs path=FOLDER, the folder that holds the images")
    folder = user_path(path)
    if not folder.is_dir():
        raise UserError(f"path {path!r} is not a folder; expected the folder that holds the images")
    return folder


def _listed_images(
    folder: Path, labels: str, file_column: str, label_column: str, boxes: bool, masks: Path | None
) -> tuple[pd.DataFrame, list[str]]:
    """One row per image, with columns ``file``, ``label`` and, if asked for, ``boxes``; and the files that are no
    image."""
    if labels != LABELS or (folder / labels).is_file() or boxes:
        return _label_table(folder / labels, file_column, label_column, boxes), []
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
                others.append(f"{name}: its name does not end like that of an image")
    if not rows:
        raise UserError(f"the folders in {folder}, {classes[0].name!r} and others, hold no images")
    return pd.DataFrame(rows, dtype=object), others  # as objects, for pandas' texts take no name that is not UTF-8


def _names_of_folders(table: pd.DataFrame) -> tuple[str, ...] | None:
    """The names of the folders that are classes, in alphabetical order; None where a CSV file has the labels."""
    return table["folders"].iloc[0] if "folders" in table else None


def _label_table(path: Path, file_column: str, label_column: str, boxes: bool) -> pd.DataFrame:
    wanted = (file_column, label_column, *(SIDES if boxes else ()))
    table = read_or_refuse(path, "CSV file", lambda: csv_as_texts(path, wanted)).fillna("")
    for column in wanted:
        if column not in table.columns:
            raise UserError(f"{path} has no column {column!r}, only {', '.join(map(str, table.columns))}")
    if table.empty:
        raise UserError(f"{path} lists no images, expected a row for each")
    columns = {"file": file_column, "label": label_column, **{side: side for side in SIDES if boxes}}
    table = pd.DataFrame({name: table[column] for name, column in columns.items()})
    if boxes:
        return _with_boxes(path, table)
    twice = table["file"][table["file"].duplicated()]
    if len(twice):
        raise UserError(f"{path} lists {twice.iloc[0]!r} more than once, expected every file once")
    return table


def _with_boxes(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """One row per file, with all its boxes."""
    by_file: list[dict[str, Any]] = []
    for file, rows in table.groupby("file", sort=False):
        if rows["label"].nunique() > 1:
            raise UserError(f"{path} gives {file!r} the labels {', '.join(rows['label'].unique())}, expected one")
        by_file.append({"file": file, "label": rows["label"].iloc[0], "boxes": read_boxes(rows.to_dict("records"))})
    return pd.DataFrame(by_file)


def _image_paths(folder: Path, files: list[str]) -> list[Path]:
    paths = [folder / file for file in files]
    missing = [file for file, path in zip(files, paths, strict=True) if not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} files are not in {folder}; the first is {missing[0]!r}")
    return paths


def _problems(objects: _ImagesWithObjects) -> list[str | None]:
    """For each image, why it, its mask or its boxes cannot be used, or None."""
    with ThreadPoolExecutor() as threads:  # decoding runs in parallel: it releases the global lock
        return list(threads.map(objects.problem, range(len(objects.paths))))


def _image_problem(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.draft(image.mode, (1, 1))  # a JPEG is then decoded at a small size; other formats ignore this
            image.load()
            image.getexif()  # raises where the orientation cannot be read
            return depth_problem(image)
    except Exception as error:  # a decoder can raise anything on a broken file
        return one_line(error).replace(f" {str(path)!r}", "")
