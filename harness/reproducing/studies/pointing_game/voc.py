"""VOC2007 test in its usual layout, as the pointing game asks for it."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from harness.errors import UserError, one_line
from harness.reproducing.studies.pointing_game.scenes import VOC_AREAS, PointingGame, PointingScene

VOC_LABEL, VOC_FOLDER = "VOC2007 test", Path("VOCdevkit", "VOC2007")
VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
VOC_DIFFICULT = "pointing_game_ebp_voc07_difficult.txt"  # TorchRay's list of pairs
NAME_OF_IMAGE = re.compile(r"[A-Za-z0-9_-]{1,100}")
LARGEST_SIDE = 10_000  # of an image in pixels
MOST_BYTES = 2**20  # of an annotation; those of VOC2007 have a few thousand
DECLARATIONS = ("<!DOCTYPE", "<!ENTITY")


@dataclass(frozen=True)
class VocObject:
    """An annotated object: its class, its box (left, top, right, bottom) as slices, and whether it is difficult."""

    kind: int
    box: tuple[int, int, int, int]
    difficult: bool


def voc_game(folder: Path) -> PointingGame:
    """The game of a folder that holds VOCdevkit/VOC2007; UserError where a file is missing or says something else.

    A class is asked for in an image if one of its objects there is not difficult. Its region is the boxes of all its
    objects, the difficult ones too.
    """
    base = folder / VOC_FOLDER
    names = _names_of_images(base / "ImageSets" / "Main" / "test.txt")
    for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        missing = [name for name in names if not (base / kind / f"{name}.{ending}").is_file()]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(names)} files are not in {base / kind}; the first is {missing[0]}.{ending}"
            )
    scenes = [_voc_scene(base, name) for name in names]
    easy = easy_pairs(folder / VOC_DIFFICULT, len(VOC_CLASSES))
    return PointingGame(VOC_LABEL, VOC_CLASSES, scenes, len(names), areas=VOC_AREAS, easy=easy)


def _names_of_images(path: Path) -> list[str]:
    names = text_of(path, "the list of test images").split()
    for name in names:
        if not NAME_OF_IMAGE.fullmatch(name):
            raise UserError(f"{path} lists {name[:100]!r}, expected names of images such as 000001")
    if len(set(names)) < len(names):
        raise UserError(f"{path} lists an image twice, expected each once")
    return names


def _voc_scene(base: Path, name: str) -> PointingScene:
    size, objects = read_voc_annotation(base / "Annotations" / f"{name}.xml")
    return PointingScene(
        name=name,
        size=size,
        present=tuple(sorted({each.kind for each in objects})),
        asked=tuple(sorted({each.kind for each in objects if not each.difficult})),
        objects=len(objects),
        picture=partial(read_picture, base / "JPEGImages" / f"{name}.jpg"),
        region=partial(boxes_of_class, size, objects),
    )


def boxes_of_class(size: tuple[int, int], objects: tuple[VocObject, ...], kind: int) -> np.ndarray:
    """The region (H, W) bool of a class: the boxes of its objects."""
    width, height = size
    region = np.zeros((height, width), dtype=bool)
    for each in objects:
        if each.kind == kind:
            left, top, right, bottom = each.box
            region[top:bottom, left:right] = True
    return region


def read_voc_annotation(path: Path) -> tuple[tuple[int, int], tuple[VocObject, ...]]:
    """Width and height of an image, and its objects, from an annotation of VOC."""
    root = safe_xml(path)
    size = (_number_in(path, root, "size/width"), _number_in(path, root, "size/height"))
    if min(size) < 1 or max(size) > LARGEST_SIDE:
        raise UserError(f"{path} gives the size {size[0]} x {size[1]}, expected pixels from 1 to {LARGEST_SIDE:,}")
    return size, tuple(_voc_object(path, each, size) for each in root.findall("object"))


def _voc_object(path: Path, found: ElementTree.Element, size: tuple[int, int]) -> VocObject:
    name = (found.findtext("name") or "").strip()
    if name not in VOC_CLASSES:
        raise UserError(f"{path} has an object {name[:100]!r}, expected one of VOC's 20 classes")
    # Numbers count from 1, and the last pixel belongs to the box.
    left, top = (_number_in(path, found, f"bndbox/{side}") - 1 for side in ("xmin", "ymin"))
    right, bottom = (_number_in(path, found, f"bndbox/{side}") for side in ("xmax", "ymax"))
    box = (max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1]))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"{path} has a box of {name} with no pixel of the image, {size[0]} x {size[1]}")
    difficult = found.find("difficult") is not None and bool(_number_in(path, found, "difficult"))
    return VocObject(VOC_CLASSES.index(name), box, difficult)


def safe_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without declarations of a document type or of entities, which could fill the memory or
    name other files."""
    text = text_of(path, "an annotation", MOST_BYTES)
    if any(each in text for each in DECLARATIONS):
        raise UserError(f"{path} declares a document type or entities, expected an annotation of VOC without them")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no XML: {one_line(error)}") from None


def _number_in(path: Path, found: ElementTree.Element, name: str) -> int:
    text = (found.findtext(name) or "").strip()
    try:
        number = float(text)
        if abs(number) < 1e9:
            return int(number)
    except ValueError:
        pass
    raise UserError(f"{path} has {text[:50]!r} for {name}, expected a number")


def text_of(path: Path, what: str, most: int = 2**31) -> str:
    """The text of a file in UTF-8; UserError where it is missing, larger than ``most`` bytes or something else."""
    try:
        if path.stat().st_size > most:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes, expected {what} of at most {most:,}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}), expected {what}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8, expected {what}") from None


def read_picture(path: Path) -> Image.Image:
    """An image in RGB as it is stored: regions belong to the stored pixels."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # a decoder can raise anything on a broken file
        raise UserError(f"{path} cannot be decoded: {one_line(error)}") from None


def easy_pairs(path: Path, classes: int) -> dict[str, tuple[bool, ...]] | None:
    """Image -> class -> whether the pair is not difficult, from TorchRay's list: a line for each image, with its name
    and a 1 for each difficult class; None where there is no such file."""
    if not path.is_file():
        return None
    found = {}
    for line in text_of(path, "TorchRay's list of difficult pairs").splitlines():
        name, *flags = line.split("\t")
        if len(flags) != classes or not set(flags) <= {"0", "1"}:
            raise UserError(f"{path} has the line {line[:60]!r}, expected a name and {classes} times 0 or 1, with tabs")
        found[name] = tuple(flag == "0" for flag in flags)
    return found
