"""Where the objects in images are: masks made from boxes or read from files, each when it is accessed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from harness.errors import UserError, one_line
from harness.photographs import is_stored_turned, mode_and_upright_size, open_upright

SIDES = ("x0", "y0", "x1", "y1")
PixelBox = tuple[float, float, float, float]


class BoxMasks(Sequence):
    """Masks made from boxes: one black image per image file, of its size, white inside the boxes of that file.

    A box is (left, top, right, bottom) in pixels of the upright image, right and bottom exclusive.
    """

    def __init__(self, paths: Sequence[Path], boxes: Sequence[Sequence[PixelBox]]) -> None:
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
    """Masks read from image files: white where the file is not zero."""

    def __init__(self, paths: Sequence[Path], masks: Sequence[Path]) -> None:
        self.paths, self.masks = paths, masks

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return _read_mask(self.masks[index]).convert(_mode_and_size(self.paths[index])[0])


def mask_files(folder: Path, files: Sequence[str]) -> list[Path]:
    """The mask file of each image: the file in ``folder`` with the same name, or with the same name and the ending
    .png.

    UserError where the folder or a mask does not exist.
    """
    if not folder.is_dir():
        raise UserError(
            f"masks {str(folder)!r} is not a folder; expected a folder of masks with the names of the images"
        )
    paths = [next((p for p in (folder / f, (folder / f).with_suffix(".png")) if p.is_file()), None) for f in files]
    missing = [file for file, path in zip(files, paths, strict=True) if path is None]
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} images have no mask in {folder}; the first is {missing[0]!r}")
    return [path for path in paths if path is not None]


def mask_problem(path: Path, mask: Path) -> str | None:
    """Why the mask of the image ``path`` cannot be used, or None."""
    try:
        size = _read_mask(mask).size
    except Exception as error:  # a decoder can raise anything on a broken file
        return f"its mask cannot be read: {one_line(error).replace(str(mask), mask.name)}"
    expected = _mode_and_size(path)[1]
    if size == expected:
        return None
    shown = "the upright image" if is_stored_turned(path) else "the image"
    return f"its mask is {size[0]} x {size[1]}, {shown} {expected[0]} x {expected[1]}"


def read_boxes(rows: Sequence[Mapping[str, str]]) -> list[PixelBox]:
    """The boxes in the CSV rows of one image; a row with four empty sides holds no box."""
    return [_checked_box(row) for row in rows if any(row[side] for side in SIDES)]


def box_problem(path: Path, boxes: Sequence[PixelBox]) -> str | None:
    """Which box does not lie within the image ``path``, as a message, or None."""
    width, height = _mode_and_size(path)[1]
    for left, top, right, bottom in boxes:
        if left < 0 or top < 0 or right > width or bottom > height:
            return f"its box {left:g}, {top:g}, {right:g}, {bottom:g} is not within the image, {width} x {height}"
    return None


def _checked_box(row: Mapping[str, str]) -> PixelBox:
    try:
        left, top, right, bottom = (float(row[side]) for side in SIDES)
    except ValueError:
        left = right = top = bottom = float("nan")
    if not (left < right and top < bottom):
        came = ", ".join(repr(row[side]) for side in SIDES)
        raise UserError(f"the box of {row['file']} is {came}, expected pixels {', '.join(SIDES)}, x0 < x1 and y0 < y1")
    return left, top, right, bottom


def _mode_and_size(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and size (width, height) of the upright image; a mode other than L, RGB and RGBA becomes RGB."""
    mode, size = mode_and_upright_size(path)
    return mode if mode in ("L", "RGB", "RGBA") else "RGB", size


def _read_mask(path: Path) -> Image.Image:
    """White where any channel but transparency is not zero; in an image with a palette, where the index is not zero."""
    image = open_upright(path)
    opaque = image.convert(image.mode.rstrip("Aa")) if image.mode in ("RGBA", "LA", "RGBa", "La") else image
    values = np.asarray(opaque)
    inside = values.any(-1) if values.ndim == 3 else values != 0
    return Image.fromarray(inside.astype(np.uint8) * 255)
