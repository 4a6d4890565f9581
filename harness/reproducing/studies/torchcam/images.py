"""The images and nets of the study torchcam: Imagenette with the user's weights, or twenty photographs with Lite0."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from harness.datasets.photos import photos
from harness.errors import UserError, one_line
from harness.identity import files_of
from harness.models.lite0 import lite0
from harness.reproducing.studies.shared.image_nets import (
    WEIGHTS_FOLDER,
    published_urls,
    sized_classifier,
    sized_input,
    with_files_of_user,
)

# Imagenette's class folders, in their sorted order, which is that of the images -> the class of ImageNet-1k.
CLASSES_OF_IMAGENETTE = {
    "n01440764": (0, "tench"),
    "n02102040": (217, "English springer"),
    "n02979186": (482, "cassette player"),
    "n03000684": (491, "chain saw"),
    "n03028079": (497, "church"),
    "n03394916": (566, "French horn"),
    "n03417042": (569, "garbage truck"),
    "n03425413": (571, "gas pump"),
    "n03445777": (574, "golf ball"),
    "n03888257": (701, "parachute"),
}
COUNTS = {3925: "imagenette2", 500: "imagenette"}  # images of the part val of the two releases
SUFFIXES_OF_IMAGES = (".jpeg", ".jpg", ".png")
PART = "val"
CROPPED = "cropped from 256"


@dataclass(frozen=True)
class NetOfTool:
    """A net of torch-cam's table.

    architecture, weights  torchvision's names
    label                  as in the table
    layer                  the last one before the mean over places
    linear                 whether one linear layer follows that mean
    default                whether these weights are torchvision's default, which the table has
    """

    architecture: str
    weights: str
    label: str
    layer: str
    linear: bool = False
    default: bool = True


NETS_OF_TOOL = (
    NetOfTool("resnet18", "IMAGENET1K_V1", "ResNet-18", "layer4", linear=True),
    NetOfTool("mobilenet_v3_large", "IMAGENET1K_V1", "MobileNetV3-Large", "features", default=False),
    NetOfTool("mobilenet_v3_large", "IMAGENET1K_V2", "MobileNetV3-Large", "features"),
)
PHOTOGRAPHS, IMAGENETTE = "20 photographs", "Imagenette val"
LITE0 = NetOfTool("", "", "EfficientNet-Lite0", "head", linear=True)


@dataclass(frozen=True)
class Subject:
    """A net with its images.

    module  inputs (N, 3, H, W) -> logits (N, 1000)
    layer   where maps are made
    count   of images
    load    first and last -> inputs and labels
    """

    module: nn.Module
    layer: str
    count: int
    load: Callable[[int, int], tuple[Tensor, Tensor]]


@cache
def subject_of(folder: str, architecture: str, weights: str, side: int) -> Subject:
    """A net of the user's folder; without a folder Lite0 with photographs of this side."""
    if not folder:
        return Subject(
            lite0().module,
            LITE0.layer,
            len(_photographs_of_side(side)[1]),
            lambda first, last: _part(side, first, last),
        )
    net = next(each for each in NETS_OF_TOOL if (each.architecture, each.weights) == (architecture, weights))
    options = with_files_of_user({"architecture": architecture, "weights": weights}, Path(folder))
    module = sized_classifier(**options, sized=CROPPED).module
    files = listed_images(folder)
    return Subject(module, net.layer, len(files), lambda first, last: _decoded(folder, files[first:last]))


def nets_in(folder: Path) -> list[NetOfTool]:
    """The nets whose files of published weights are in the user's folder; UserError for none."""
    file_of = lambda each: published_urls(each.architecture)[each.weights].rpartition("/")[2]
    found = [each for each in NETS_OF_TOOL if (folder / WEIGHTS_FOLDER / file_of(each)).is_file()]
    if not found:
        wanted = ", ".join(file_of(each) for each in NETS_OF_TOOL)
        raise UserError(f"{folder / WEIGHTS_FOLDER} holds none of torchvision's files {wanted}, expected one or more")
    return found


@cache
def listed_images(folder: str) -> list[tuple[str, int]]:
    """File below the part val and class of each image, by class folders and file names; UserError where classes or
    the number of images are not Imagenette's."""
    root = Path(folder, PART)
    root = root if root.is_dir() else Path(folder)
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name != WEIGHTS_FOLDER)
    if found != list(CLASSES_OF_IMAGENETTE):
        odd = sorted(set(found) ^ set(CLASSES_OF_IMAGENETTE))
        raise UserError(
            f"{root} has not the ten class folders of Imagenette, n01440764 to n03888257: {', '.join(odd[:3])} "
            f"{'is' if len(odd) == 1 else 'are'} missing or too many"
        )
    files = [
        (f"{name}/{path.name}", label)
        for name, (label, _) in CLASSES_OF_IMAGENETTE.items()
        for path in sorted((root / name).iterdir())
        if path.name.lower().endswith(SUFFIXES_OF_IMAGES)
    ]
    if len(files) not in COUNTS:
        raise UserError(f"{root} holds {len(files):,} images, expected 3,925 (imagenette2) or 500 (imagenette)")
    return files


def fingerprint_of_images(folder: str) -> str:
    """Of the user's images and weights; "" without a folder."""
    return files_of({"path": folder}) if folder else ""


def _decoded(folder: str, files: list[tuple[str, int]]) -> tuple[Tensor, Tensor]:
    root = Path(folder, PART)
    root = root if root.is_dir() else Path(folder)
    inputs = []
    for name, _ in files:
        try:
            with Image.open(root / name) as image:
                inputs.append(sized_input(CROPPED, image))
        except OSError as error:
            raise UserError(f"{root / name} cannot be decoded: {one_line(error)}") from error
    return torch.stack(inputs), torch.tensor([label for _, label in files])


@cache
def _photographs_of_side(side: int) -> tuple[Tensor, Tensor]:
    """The photographs as Lite0 sees them, made smaller by areas, with their labels."""
    data, loaded = photos(), lite0()
    inputs = torch.stack([loaded.preprocess(image) for image in data.inputs])
    return F.interpolate(inputs, (side, side), mode="bilinear", antialias=True, align_corners=False), data.labels


def _part(side: int, first: int, last: int) -> tuple[Tensor, Tensor]:
    inputs, labels = _photographs_of_side(side)
    return inputs[first:last], labels[first:last]
