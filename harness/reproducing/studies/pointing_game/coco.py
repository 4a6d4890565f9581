"""COCO val2014, as the pointing game asks for it."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from harness.errors import UserError, one_line
from harness.reproducing.studies.pointing_game.scenes import COCO_AREAS, PointingGame, PointingScene
from harness.reproducing.studies.pointing_game.voc import LARGEST_SIDE, easy_pairs, read_picture, text_of

COCO_LABEL, COCO_IMAGES, COCO_FILE = "COCO val2014", "val2014", "instances_val2014.json"
COCO_CATEGORIES = 80
FARTHEST = 1e6  # of a corner from the image, in pixels
COCO_DIFFICULT = "pointing_game_ebp_coco_difficult.txt"  # TorchRay's list of pairs
Outline = list[list[float]] | dict[str, Any]  # polygons (x, y, x, y, ...), or the lengths of runs of pixels


def coco_file(folder: Path) -> Path | None:
    """The file of annotations, in the folder itself or in ``annotations``; None where there is none."""
    places = (folder / COCO_FILE, folder / "annotations" / COCO_FILE)
    return next((path for path in places if path.is_file()), None)


def coco_game(folder: Path) -> PointingGame:
    """The game of a folder with ``val2014`` and ``instances_val2014.json``; UserError where something is missing or
    says something else.

    Every class in an image is asked for. Its region is the outlines of its objects, filled. Images without objects are
    left out. Classes follow one another by COCO's own numbers.
    """
    path = coco_file(folder)
    if path is None:
        raise UserError(f"{folder} has no {COCO_FILE}")
    stated = _stated_in(path)
    categories = dict(_read_each(path, "category", stated["categories"], _category))
    if len(categories) != COCO_CATEGORIES:
        raise UserError(f"{path} has {len(categories)} categories, expected COCO's {COCO_CATEGORIES}")
    images = dict(_read_each(path, "image", stated["images"], _listed_image))
    kinds = {number: kind for kind, number in enumerate(sorted(categories))}
    objects: dict[int, list[tuple[int, Outline]]] = defaultdict(list)
    for image, category, outline in _read_each(path, "annotation", stated["annotations"], _annotation):
        if image not in images or category not in kinds:
            raise UserError(
                f"{path} has an annotation of image {image} and category {category}, which it does not list"
            )
        if isinstance(outline, dict) and sum(outline["counts"]) != math.prod(images[image][1]):
            raise UserError(f"{path} has an annotation of image {image} whose runs do not add up to its pixels")
        objects[image].append((kinds[category], outline))
    files = [images[image][0] for image in objects]
    missing = [file for file in files if not (folder / COCO_IMAGES / file).is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} files are not in {folder / COCO_IMAGES}; first {missing[0]!r}")
    return PointingGame(
        COCO_LABEL,
        tuple(categories[number] for number in kinds),
        [_coco_scene(folder, *images[image], objects[image]) for image in sorted(objects)],
        listed=len(images),
        areas=COCO_AREAS,
        easy=easy_pairs(folder / COCO_DIFFICULT, COCO_CATEGORIES),
    )


def _coco_scene(folder: Path, file: str, size: tuple[int, int], objects: list[tuple[int, Outline]]) -> PointingScene:
    present = tuple(sorted({kind for kind, _ in objects}))
    return PointingScene(
        name=file.split(".")[0],
        size=size,
        present=present,
        asked=present,
        objects=len(objects),
        picture=partial(read_picture, folder / COCO_IMAGES / file),
        region=partial(outlines_of_class, size, objects),
    )


def outlines_of_class(size: tuple[int, int], objects: list[tuple[int, Outline]], kind: int) -> np.ndarray:
    """The region (H, W) bool of a class: polygons, or runs of pixels where objects are a crowd."""
    width, height = size
    canvas, runs = Image.new("L", size), np.zeros((height, width), dtype=bool)
    drawing = ImageDraw.Draw(canvas)
    for own, outline in objects:
        if own != kind:
            continue
        if isinstance(outline, dict):
            runs |= _filled_runs(size, outline)
        else:
            for polygon in outline:
                drawing.polygon(polygon, fill=1)
    return runs | (np.asarray(canvas) > 0)


def _filled_runs(size: tuple[int, int], outline: Mapping[str, Any]) -> np.ndarray:
    """Pixels (H, W) bool from the lengths of runs off and on the object in turn, column by column."""
    counts = np.array(outline["counts"], dtype=np.int64)
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return pixels.reshape(size).T


def _stated_in(path: Path) -> dict[str, list[Any]]:
    try:
        stated = json.loads(text_of(path, "COCO's annotations"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {one_line(error)[:200]}") from None
    for each in ("images", "annotations", "categories"):
        if not isinstance(stated, dict) or not isinstance(stated.get(each), list):
            raise UserError(f"{path} has no list of {each}, expected COCO's annotations of objects")
    return stated


def _read_each(path: Path, what: str, entries: list[Any], read: Callable[[Any], Any]) -> Iterable[Any]:
    """What ``read`` takes from each entry; UserError where an entry lacks something or has something else."""
    for place, entry in enumerate(entries):
        try:
            yield read(entry)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)[:200]
            raise UserError(f"{path}: {what} {place} of {len(entries)}: {reason}") from None


def _category(entry: Any) -> tuple[int, str]:
    return int(entry["id"]), str(entry["name"])


def _listed_image(entry: Any) -> tuple[int, tuple[str, tuple[int, int]]]:
    file, size = str(entry["file_name"]), (int(entry["width"]), int(entry["height"]))
    if file != Path(file).name or file.startswith("."):
        raise ValueError(f"file_name is {file[:100]!r}, expected the name of a file without folders")
    if min(size) < 1 or max(size) > LARGEST_SIDE:
        raise ValueError(f"the size is {size[0]} x {size[1]}, expected pixels from 1 to {LARGEST_SIDE:,}")
    return int(entry["id"]), (file, size)


def _annotation(entry: Any) -> tuple[int, int, Outline]:
    """Image, category and outline."""
    outline = entry["segmentation"]
    if isinstance(outline, dict):
        counts = outline["counts"]
        if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("counts of a segmentation are no list of whole numbers; compressed ones are not read")
    elif not outline or not all(map(_is_polygon, outline)):
        raise ValueError("a segmentation is no list of polygons of three corners or more")
    return int(entry["image_id"]), int(entry["category_id"]), outline


def _is_polygon(corners: Any) -> bool:
    known = isinstance(corners, list) and len(corners) >= 6 and len(corners) % 2 == 0
    return known and all(type(number) in (int, float) and abs(number) < FARTHEST for number in corners)
