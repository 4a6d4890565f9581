"""Who plays the pointing game: a net that reads images of any size, and what it takes from an image."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError
from harness.models.lite0 import lite0
from harness.models.pasted_cnn import pasted_cnn
from harness.models.state import read_state
from harness.models.torchvision_models import torchvision_classifier
from harness.reproducing.studies.pointing_game.scenes import PointingGame

WEIGHTS = "weights.pth"
SHORT_SIDE = 224  # of what the net sees
VGG, RESNET = "VGG-16", "ResNet-50"
# Of each net: torchvision's name, a tensor that only it has, the weights of its last layer, and the layer of Grad-CAM.
ARCHITECTURES = {
    VGG: ("vgg16", "features.28.weight", "classifier.6.weight", "body.features.29"),
    RESNET: ("resnet50", "layer4.2.conv3.weight", "fc.weight", "body.layer4"),
}
POOLED = 7  # places along a side that the nets' first dense layer, or their mean, sees
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB, as torchvision's nets expect


@dataclass(frozen=True)
class Player:
    """A net that plays.

    label    as in the table
    module   inputs (N, 3, H, W) -> logits (N, classes)
    prepare  a picture -> input (3, H, W)
    square   a picture -> input (3, H, H), for RISE
    layer    of Grad-CAM; None for the last one with places
    task     what the logits are (``harness.task``): ``labels`` where classes do not exclude each other
    """

    label: str
    module: nn.Module
    prepare: Callable[[Any], Tensor]
    square: Callable[[Any], Tensor]
    layer: str | None = None
    task: str = "classes"

    def on(self, device: str) -> "Player":
        """The same player on a device."""
        return replace(self, module=self.module.to(device))


class AtAllPlaces(nn.Module):
    """A net (N, 3, H, W) -> (N, classes, h, w) as a classifier: the logarithm of the sum of exponentials over places.

    Its gradient is that of the places' logits with their softmax as weights, which is what TorchRay passes back in the
    pointing game. ``averaged`` takes the mean over places, as TorchRay's extremal perturbations do. With a single place
    both are its logit.
    """

    def __init__(self, body: nn.Module, averaged: bool = False) -> None:
        super().__init__()
        self.body, self.averaged = body, averaged

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, 3, H, W) to logits (N, classes)."""
        places = self.body(inputs).flatten(2)
        return places.mean(2) if self.averaged else places.logsumexp(2)


def averaging(module: nn.Module) -> nn.Module:
    """The same net with the mean over places; a net of a single place as it is."""
    return AtAllPlaces(module.body, averaged=True).eval() if isinstance(module, AtAllPlaces) else module


def at_all_places(label: str, network: nn.Module) -> AtAllPlaces:
    """A network of torchvision with its dense layers as convolutions, so that it reads images of any size from 224."""
    parts = dict(network.named_children())
    if label == VGG:
        layers = [
            _as_convolution(each, POOLED if place == 0 else 1) if isinstance(each, nn.Linear) else each
            for place, each in enumerate(parts["classifier"])
        ]
        body = OrderedDict(features=parts["features"], classifier=nn.Sequential(*layers))
    else:
        body = OrderedDict({**parts, "avgpool": nn.AvgPool2d(POOLED, stride=1), "fc": _as_convolution(parts["fc"], 1)})
    return AtAllPlaces(nn.Sequential(body)).requires_grad_(False).eval()


def _as_convolution(dense: nn.Linear, side: int) -> nn.Conv2d:
    """A dense layer on channels at ``side`` x ``side`` places as a convolution with the same weights."""
    layer = nn.Conv2d(dense.in_features // side**2, dense.out_features, side, device="meta")
    layer.weight, layer.bias = nn.Parameter(dense.weight.detach().view(layer.weight.shape)), dense.bias
    return layer


def player_of_folder(folder: Path, game: PointingGame) -> Player:
    """The player with the weights of the user's folder; UserError where they are not of a known net or of the game's
    classes."""
    path, label = folder / WEIGHTS, architecture_of(folder, game)
    name, _, _, layer = ARCHITECTURES[label]
    network = torchvision_classifier(architecture=name, weights=str(path.absolute()), classes=len(game.classes)).module
    return Player(label, at_all_places(label, network), shorter_side, squared, layer, "labels")


def architecture_of(folder: Path, game: PointingGame) -> str:
    """The label of the net whose weights are in the folder."""
    path = folder / WEIGHTS
    state = read_state(path)
    for label, (_, own, last, _) in ARCHITECTURES.items():
        if own in state and last in state:
            if len(state[last]) != len(game.classes):
                raise UserError(
                    f"{path} is a {label} with {len(state[last]):,} outputs, expected {len(game.classes)}: the classes "
                    f"of {game.label} in their order"
                )
            return label
    raise UserError(f"{path} has weights of neither {' nor '.join(ARCHITECTURES)} as torchvision names them")


def shorter_side(image: Image.Image) -> Tensor:
    """An image as input (3, H, W), the shorter side 224 pixels, standardised."""
    short, long = sorted(image.size)
    other = SHORT_SIDE * long // short
    return _standardised_at(image, (other, SHORT_SIDE) if image.height > image.width else (SHORT_SIDE, other))


def squared(image: Image.Image) -> Tensor:
    """An image as input (3, 224, 224), whatever its sides are, standardised."""
    return _standardised_at(image, (SHORT_SIDE, SHORT_SIDE))


def _standardised_at(image: Image.Image, size: Sequence[int]) -> Tensor:
    """Linear interpolation at the new pixels alone, without smoothing first, as in TorchRay."""
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    values = F.interpolate(values, tuple(size), mode="bilinear", align_corners=False)[0]
    return (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def pasted_player() -> Player:
    """The net for shapes that are pasted on photographs."""
    same = lambda picture: picture
    return Player("pasted_cnn", pasted_cnn().module, same, same)


def photos_player() -> Player:
    """EfficientNet-Lite0, with its own preparation of photographs."""
    loaded = lite0()
    return Player("lite0", loaded.module, loaded.preprocess, loaded.preprocess)
