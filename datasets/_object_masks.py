"""Where the objects of images are: boxes, or mask images in a folder, drawn when they are asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from harness.errors import UserError, one_line

SIDES = ("x0", "y0", "x1", "y1")
Box = tuple[float, float, float, float]


class BoxMasks(Sequence):
    """Black images of the sizes of others, white inside boxes (left, top, right, bottom; the last two exclusive)."""

    def __init__(self, paths: Sequence[Path], boxes: Sequence[Sequence[Box]]) -> None:
        self.paths, self.boxes = paths, boxes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        mode, size = _mode_and_size(self.paths[index])
        mask = Image.new("L", size, 0)
        for box in self.boxes[index]:
            mask.paste(255, tuple(round(side) for side in box))
        return mask.convert(mode)


class FileMasks(Sequence):
    """The masks in image files, white where a file is not zero."""

    def __init__(self, paths: Sequence[Path], masks: Sequence[Path]) -> None:
        self.paths, self.masks = paths, masks

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return _read_mask(self.masks[index]).convert(_mode_and_size(self.paths[index])[0])


def mask_files(folder: Path, files: Sequence[str]) -> list[Path]:
    """The mask of each image: the file of its name in the folder, or of its name with the ending .png."""
    if not folder.is_dir():
        raise UserError(f"masks {str(folder)!r} is not a folder; expected one of images of the same names")
    found = [next((p for p in (folder / f, (folder / f).with_suffix(".png")) if p.is_file()), None) for f in files]
    missing = [file for file, path in zip(files, found, strict=True) if path is None]
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} images have no mask in {folder}; the first is {missing[0]!r}")
    return [path for path in found if path is not None]


def mask_problem(path: Path, mask: Path) -> str | None:
    """Why the mask of an image cannot be used, or None."""
    try:
        size = _read_mask(mask).size
    except Exception as error:  # whatever a broken file provokes in a decoder
        return f"its mask cannot be read: {one_line(error).replace(str(mask), mask.name)}"
    expected = _mode_and_size(path)[1]
    return None if size == expected else f"its mask is {size[0]} x {size[1]}, the image {expected[0]} x {expected[1]}"


def read_boxes(rows: Sequence[Mapping[str, str]]) -> list[Box]:
    """The boxes in the rows of one image; a row without any side has none."""
    return [_box(row) for row in rows if any(row[side] for side in SIDES)]


def box_problem(path: Path, boxes: Sequence[Box]) -> str | None:
    """Why boxes do not lie in an image, or None."""
    width, height = _mode_and_size(path)[1]
    for left, top, right, bottom in boxes:
        if left < 0 or top < 0 or right > width or bottom > height:
            return f"its box {left:g}, {top:g}, {right:g}, {bottom:g} is not within the image, {width} x {height}"
    return None


def _box(row: Mapping[str, str]) -> Box:
    try:
        left, top, right, bottom = (float(row[side]) for side in SIDES)
    except ValueError:
        left = right = top = bottom = float("nan")
    if not (left < right and top < bottom):
        came = ", ".join(repr(row[side]) for side in SIDES)
        raise UserError(f"the box of {row['file']} is {came}, expected pixels {', '.join(SIDES)}, x0 < x1 and y0 < y1")
    return left, top, right, bottom


def _mode_and_size(path: Path) -> tuple[str, tuple[int, int]]:
    """How the image is handed to the model; only its header is read. Rare modes' masks are RGB."""
    with Image.open(path) as image:
        return image.mode if image.mode in ("L", "RGB", "RGBA") else "RGB", image.size


def _read_mask(path: Path) -> Image.Image:
    """White where any channel but transparency is not zero; of images with a palette, where its index is not."""
    with Image.open(path) as image:
        opaque = image.convert(image.mode.rstrip("Aa")) if image.mode in ("RGBA", "LA", "RGBa", "La") else image
        values = np.asarray(opaque)
    inside = values.any(-1) if values.ndim == 3 else values != 0
    return Image.fromarray(inside.astype(np.uint8) * 255)
