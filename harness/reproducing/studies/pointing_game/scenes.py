"""What the pointing game is played on: images with regions of classes. The small games are here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.datasets.pasted import CLASSES, PASTED_SIDE, pasted
from harness.datasets.photos import BOXES_SIZE, photos
from harness.metrics.localisation import PUBLISHED_SIDE
from harness.reproducing.studies.pointing_game.rules import PUBLISHED_MARGIN
from harness.sources import Data

VOC_AREAS, COCO_AREAS = (0.025, 0.05, 0.1, 0.2), (0.018, 0.025, 0.05, 0.1)  # of extremal perturbations


@dataclass(frozen=True)
class PointingScene:
    """An image of the game.

    name      of the image
    size      width and height in pixels: points and regions are in these pixels
    present   the classes that are in the image
    asked     those that the game asks for
    objects   the number of annotated objects
    picture   the image, as the net's preparation takes it
    region    class -> its region (H, W) bool
    """

    name: str
    size: tuple[int, int]
    present: tuple[int, ...]
    asked: tuple[int, ...]
    objects: int
    picture: Callable[[], Any]
    region: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class PointingGame:
    """A pointing game.

    label    the name of the data
    classes  names of the classes
    scenes   the images with objects
    listed   the number of images that the data lists, with those without objects
    margin   pixels of the image: a point hits if it is nearer to the region
    areas    of the masks of extremal perturbations
    easy     image -> class -> whether the pair is not in the difficult subset; None where the subset is not known
    """

    label: str
    classes: tuple[str, ...]
    scenes: Sequence[PointingScene]
    listed: int
    margin: float = PUBLISHED_MARGIN
    areas: tuple[float, ...] = VOC_AREAS
    easy: Mapping[str, Sequence[bool]] | None = field(default=None, repr=False)

    def is_difficult(self, name: str, wanted: int) -> bool:
        """Whether a pair of image and class is in the difficult subset; TorchRay takes images that are not listed for
        difficult."""
        return self.easy is not None and not (name in self.easy and self.easy[name][wanted])


def pasted_game() -> PointingGame:
    """Shapes pasted on photographs, 32 pixels wide; the margin is scaled with the side."""
    data = pasted()
    margin = PUBLISHED_MARGIN * PASTED_SIDE / PUBLISHED_SIDE
    return PointingGame("pasted", CLASSES, _one_object_each(data, PASTED_SIDE), len(data), margin)


def photos_game() -> PointingGame:
    """Photographs with boxes, as the crop of 224 pixels that the net sees."""
    data = photos(boxes=True)
    return PointingGame("photos", data.classes, _one_object_each(data, BOXES_SIZE), len(data))


def _one_object_each(data: Data, side: int) -> list[PointingScene]:
    """The images of a data set with masks, each asked for its label."""
    return [
        PointingScene(
            name=name,
            size=(side, side),
            present=(int(label),),
            asked=(int(label),),
            objects=1,
            picture=lambda row=row: data.inputs[row],
            region=lambda wanted, row=row: np.array(data.masks[row], dtype=bool),
        )
        for row, (name, label) in enumerate(zip(data.ids, data.labels, strict=True))
    ]
