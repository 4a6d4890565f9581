"""Image files as every viewer shows them: turned upright where the file says how (EXIF orientation)."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageOps

LAID_ON_A_SIDE = (5, 6, 7, 8)  # orientations in which the stored rows are the columns of the upright image


def open_upright(source: Path | bytes) -> Image.Image:
    """An image from a file or from its encoded bytes, decoded and upright.

    Raises what Pillow raises for a file that it cannot decode.
    """
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """The image, decoded and turned as its EXIF orientation says; it then says nothing about an orientation."""
    image.load()
    if _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    return image


def as_shown(item: Any) -> Any:
    """An image of a data set as it is shown: upright; any other item as it is. ValueError for deep grey values."""
    if not isinstance(item, Image.Image):
        return item
    if problem := depth_problem(item):
        raise ValueError(problem)
    return upright(item)


def depth_problem(image: Image.Image) -> str | None:
    """Why an image is not one of 8 bits, or None: conversion to RGB would make all values above 255 white."""
    deep = image.mode.startswith(("I", "F"))
    return f"its grey values have more than 8 bits (mode {image.mode}), expected 0 to 255" if deep else None


def mode_and_upright_size(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and size (width, height) of the upright image, read from the file's header alone where it says enough."""
    with Image.open(path) as image:
        width, height = image.size
        # Pillow swaps the sides of a TIFF file when it opens it, and turns its pixels when it decodes them.
        laid = image.format != "TIFF" and _orientation(image) in LAID_ON_A_SIDE
        return image.mode, (height, width) if laid else (width, height)


def is_stored_turned(path: Path) -> bool:
    """Whether the file holds the image in another position than that in which it is shown."""
    with Image.open(path) as image:
        return _orientation(image) != 1


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)
