"""ImageNet's validation images in a user's folder: found, counted, chosen by the rule of a paper, listed in a file."""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from harness.errors import UserError, one_line, unknown
from harness.identity import digest
from harness.results.disk import whole_file
from harness.sources import Data

VALIDATION = "val"  # the folder of the class folders where torchvision, or a full copy of ImageNet, lays them out
SUFFIXES = (".jpeg", ".jpg", ".png")
WNID = re.compile(r"n\d{8}")
# The rule of a paper: total and count -> the places of the chosen images in the order of folders and file names.
RULES: dict[str, Callable[[int, int], np.ndarray]] = {
    "first": lambda total, count: np.arange(count),
    "spread": lambda total, count: np.arange(count) * total // count,
    "permuted": lambda total, count: np.random.default_rng(0).permutation(total)[:count],
}


@dataclass(frozen=True)
class ExpectedFolder:
    """What the user's folder has to hold.

    classes  number of class folders, whose names are WordNet ids; sorted, they are the classes 0, 1, ...
    images   number of images in them
    wnids    digest of the sorted names; "" where any names will do
    """

    classes: int
    images: int
    wnids: str = ""


def root_of_classes(folder: Path) -> Path:
    """The folder that holds the class folders: ``folder/val`` if it has any, else ``folder``."""
    inner = folder / VALIDATION
    return inner if inner.is_dir() and _class_folders(inner) else folder


def checked_images(root: Path, expected: ExpectedFolder) -> pd.DataFrame:
    """All images, in the order of the class folders' and the files' names: file (below ``root``), label and bytes.

    UserError, in one line, where classes or images are not those that are expected.
    """
    classes = _class_folders(root)
    _check_class_folders(root, [each.name for each in classes], expected)
    rows = [
        (f"{each.name}/{name}", label, size) for label, each in enumerate(classes) for name, size in _images_in(each)
    ]
    if len(rows) != expected.images:
        raise UserError(_other_number(root, [row[1] for row in rows], classes, expected))
    return pd.DataFrame(rows, columns=["file", "label", "bytes"])


def chosen_images(images: pd.DataFrame, rule: str, count: int) -> pd.DataFrame:
    """The rows that a rule chooses, in its order; ``permuted`` is numpy's ``default_rng(0).permutation``."""
    if rule not in RULES:
        raise unknown("rule of a subset", rule, RULES)
    if count > len(images):
        raise UserError(f"the subset has {count:,} images, but the folder holds {len(images):,}")
    return images.iloc[RULES[rule](len(images), count)].reset_index(drop=True)


def digest_of_ids(images: pd.DataFrame) -> str:
    """A hash of the chosen files and their order: twelve hexadecimal digits."""
    return digest(*images["file"])


def keep_listing(images: pd.DataFrame, root: Path, path: Path) -> Path:
    """Write the chosen images into a CSV file, and beside it where they lie; UserError for one that cannot be decoded.

    The images are decoded only if they are not those that the file lists already. The place is in a file of its own: a
    folder that has been moved holds the same images.
    """
    listed = images.to_csv(index=False)
    if not path.exists() or path.read_text(encoding="utf-8") != listed:
        _check_decodable([root / file for file in images["file"]])
    for target, text in ((_folder_beside(path), f"{root.resolve()}\n"), (path, listed)):
        with whole_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


def images_of_listing(*, path: str = "", first: int = 0, count: int | None = None) -> Data:
    """The ``count`` images from the place ``first`` of a listing, as they are stored, with their classes as labels.

    A data set in the sense of ``harness.run``. Images are not turned as their files may say: the papers' code reads
    them with PIL alone. Ids are the files below the folder of the classes.
    """
    rows = pd.read_csv(path).iloc[first : None if count is None else first + count]
    root = Path(_folder_beside(Path(path)).read_text(encoding="utf-8").strip())
    return Data(
        inputs=StoredImages([root / file for file in rows["file"]]),
        labels=torch.tensor(rows["label"].to_numpy()),
        ids=list(rows["file"]),
        modality="image",
    )


class StoredImages(Sequence):
    """Images in RGB as their files store them, each decoded when it is asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        with Image.open(self.paths[index]) as image:
            return image.convert("RGB")


def _class_folders(root: Path) -> list[Path]:
    return sorted(each for each in root.iterdir() if each.is_dir() and WNID.fullmatch(each.name))


def _images_in(folder: Path) -> list[tuple[str, int]]:
    """Name and size of each image in a class folder, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted((each.name, each.stat().st_size) for each in entries if each.name.lower().endswith(SUFFIXES))


def _check_class_folders(root: Path, names: list[str], expected: ExpectedFolder) -> None:
    if len(names) != expected.classes:
        raise UserError(
            f"{root} holds {len(names):,} class folders named by WordNet ids like n01440764, expected "
            f"{expected.classes:,}, in it or in its folder {VALIDATION}"
        )
    if expected.wnids and digest(*names) != expected.wnids:
        raise UserError(
            f"the {len(names):,} class folders of {root}, {names[0]} to {names[-1]}, are not those of ImageNet-1k, "
            "whose sorted names are the classes 0 to 999"
        )


def _other_number(root: Path, labels: list[int], classes: Sequence[Path], expected: ExpectedFolder) -> str:
    """That there are too many or too few images, and one class folder where that is so."""
    each = expected.images / expected.classes
    counts = np.bincount(labels, minlength=expected.classes)
    odd = int(np.argmax(counts != each))
    return (
        f"{root} holds {len(labels):,} images, expected {expected.images:,}: {classes[odd].name} has {counts[odd]:,}, "
        f"expected {each:g}"
    )


def _folder_beside(path: Path) -> Path:
    return path.with_suffix(".folder")


def _check_decodable(paths: Sequence[Path]) -> None:
    with ThreadPoolExecutor() as threads:  # decoding runs in parallel: it releases the global lock
        problems = [problem for problem in threads.map(_why_undecodable, paths) if problem]
    if problems:
        raise UserError(f"{len(problems):,} of {len(paths):,} images cannot be decoded; the first is {problems[0]}")


def _why_undecodable(path: Path) -> str:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))  # a JPEG is then decoded at a small size
            image.load()
    except Exception as error:  # a decoder can raise anything on a broken file
        return f"{path}: {one_line(error)}"
    return ""
