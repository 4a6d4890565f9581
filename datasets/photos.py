"""Twenty labelled photographs, and the names of the thousand ImageNet classes."""

import json
import re
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from harness.assets import Wheel, read_members
from harness.registry import dataset
from harness.sources import Data, Images

FOOLBOX = Wheel("foolbox-3.3.4-py3-none-any.whl", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb")
BOXES_SIZE = 224  # side of the crop in which the boxes were drawn


@dataset(
    modality="image",
    source="foolbox 3.3.4, which does not say where the photographs are from",
    licence="not stated for the photographs; foolbox, which ships them, is under MIT",
    samples="20 to test",
    classes="1,000 of ImageNet-1k",
)
def photos(*, boxes: bool = False) -> Data:
    """Twenty photographs with ImageNet labels, for smoke tests and paired comparisons, not rankings (foolbox 3.3.4).

    Items are PIL images, ids are file names, and the label is the last number in the name. Two labels are doubtful
    (``imagenet_12``, ``imagenet_14``). foolbox is under the MIT licence but does not say where the photographs come
    from: they are fetched once (1.7 MB) and not redistributed.

    With ``boxes`` the data are the 17 photographs that have object boxes, with masks (17, 224, 224), True inside a box.
    The masks belong to the crop that the model ``lite0`` sees: the shorter side resized to 256, the middle 224 pixels.
    One annotator drew the boxes by eye, to about 8 pixels; they cover 49 % of the crop on average. This is a weak
    ground truth: compare scores against it only with those of the controls.
    """
    members = read_members(FOOLBOX, "foolbox/data/imagenet_*.jpg")
    files = {Path(name).name: content for name, content in members.items()}
    boxes_of = _boxes_by_file() if boxes else {}
    names = [name for name in files if not boxes or name in boxes_of]
    return Data(
        ids=names,
        inputs=Images([files[name] for name in names]),
        labels=torch.tensor([_label_in_name(name) for name in names]),
        modality="image",
        classes=imagenet_classes(),
        masks=torch.stack([_box_mask(boxes_of[name]) for name in names]) if boxes else None,
    )


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet-1k, in the order of their indices, as torchvision spells them."""
    return tuple(json.loads(_text_beside("imagenet_classes.json")))


def _label_in_name(name: str) -> int:
    return int(re.search(r"_(\d+)\.jpg$", name)[1])


def _boxes_by_file() -> dict[str, list[list[int]]]:
    return json.loads(_text_beside("photos_boxes.json"))["boxes"]


def _box_mask(boxes: list[list[int]]) -> Tensor:
    """A mask (224, 224), True inside the boxes (left, top, right, bottom); right and bottom are exclusive."""
    mask = torch.zeros(BOXES_SIZE, BOXES_SIZE, dtype=torch.bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def _text_beside(file: str) -> str:
    return Path(__file__).with_name(file).read_text(encoding="utf-8")
