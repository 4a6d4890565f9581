"""The images and nets of the study road_cifar10: CIFAR-10's test part from the user's folder, or pasted shapes."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness.datasets.pasted import load_split
from harness.errors import UserError
from harness.identity import files_of
from harness.models.pasted_cnn import pasted_cnn
from harness.models.state import read_state, ready
from harness.models.training import TrainingOptions

TEST_FILE, TEST_COUNT, SIDE_OF_CIFAR = "test_batch.bin", 10_000, 32
BYTES_OF_IMAGE = 1 + 3 * SIDE_OF_CIFAR**2  # label, red, green, blue
BINARY_FOLDER = "cifar-10-batches-bin"
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WEIGHTS_OF_USER = ("weights.safetensors", "weights.pth")
CIFAR, SHAPES_ON_PHOTOGRAPHS = "CIFAR-10", "pasted shapes"
RESNET_OF_PAPER, SMALL_CNN = "ResNet-18", "small CNN"


@dataclass(frozen=True)
class RoadSubject:
    """A net with images.

    net     inputs (N, 3, 32, 32) in -1..1 -> logits
    images  (N, 3, 32, 32) in 0..1
    labels  (N,)
    """

    net: nn.Module
    images: Tensor
    labels: Tensor


class FromUnitRange(nn.Module):
    """A net for inputs in 0..1 as one for inputs in -1..1."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, ...) in -1..1 to the outputs of the net."""
        return self.net((inputs + 1) / 2)


def standardised(images: Tensor) -> Tensor:
    """Images in 0..1 as the inputs of the paper's nets, in -1..1."""
    return 2 * images - 1


@cache
def road_subject(folder: str) -> RoadSubject:
    """The user's net with CIFAR-10's test images; without a folder a small CNN with shapes pasted on photographs."""
    if folder:
        return RoadSubject(net_of_user(Path(folder)), *cifar_of_folder(folder))
    images, labels = load_split()["test"][:2]
    net = FromUnitRange(pasted_cnn(training=TrainingOptions(epochs=10)).module).eval()
    return RoadSubject(net, images, labels)


@cache
def cifar_of_folder(folder: str) -> tuple[Tensor, Tensor]:
    """CIFAR-10's test images (10000, 3, 32, 32) in 0..1 and labels: from the binary version, whose size is checked, or
    from PNG files in folders with the names of the classes. UserError where neither is there."""
    root = Path(folder)
    binary = next((path for path in (root / BINARY_FOLDER / TEST_FILE, root / TEST_FILE) if path.is_file()), None)
    pixels, labels = _from_binary(binary) if binary else _from_pictures(root)
    counts = np.bincount(labels, minlength=len(CIFAR_CLASSES))
    if len(counts) != len(CIFAR_CLASSES) or (counts != TEST_COUNT // len(CIFAR_CLASSES)).any():
        raise UserError(f"{folder} has {counts.tolist()} images of the classes, expected 1,000 of each of ten")
    return torch.from_numpy(pixels).float() / 255, torch.from_numpy(labels)


def _from_binary(file: Path) -> tuple[np.ndarray, np.ndarray]:
    size, expected = file.stat().st_size, TEST_COUNT * BYTES_OF_IMAGE
    if size != expected:
        raise UserError(f"{file} has {size:,} bytes, expected {expected:,}: 10,000 images of 3,073 bytes")
    rows = np.fromfile(file, dtype=np.uint8).reshape(TEST_COUNT, BYTES_OF_IMAGE)
    return rows[:, 1:].reshape(-1, 3, SIDE_OF_CIFAR, SIDE_OF_CIFAR), rows[:, 0].astype(np.int64)


def _from_pictures(root: Path) -> tuple[np.ndarray, np.ndarray]:
    if not all((root / name).is_dir() for name in CIFAR_CLASSES):
        raise UserError(
            f"{root} holds neither {BINARY_FOLDER}/{TEST_FILE} nor ten folders with PNG files, {CIFAR_CLASSES[0]} to "
            f"{CIFAR_CLASSES[-1]}; the pickled version cifar-10-batches-py is not read"
        )
    files = [(path, label) for label, name in enumerate(CIFAR_CLASSES) for path in sorted((root / name).glob("*.png"))]
    pixels = []
    for path, _ in files:
        with Image.open(path) as image:
            if image.size != (SIDE_OF_CIFAR, SIDE_OF_CIFAR):
                raise UserError(f"{path} has {image.size[0]} x {image.size[1]} pixels, expected 32 x 32")
            pixels.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    return np.stack(pixels) if pixels else np.empty((0, 3, 32, 32)), np.array([label for _, label in files], np.int64)


def net_of_user(folder: Path) -> nn.Module:
    """torchvision's ResNet-18 with ten outputs and the user's weights, of which nothing is executed.

    Its first convolution is torchvision's, of 7 x 7, or for small images, of 3 x 3 without pooling, by the shape of its
    weights. UserError where there are none or they do not fit.
    """
    from torchvision.models import resnet18  # imported here: it takes a second

    file = next((folder / name for name in WEIGHTS_OF_USER if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder} holds none of {', '.join(WEIGHTS_OF_USER)}: a ResNet-18 for CIFAR-10 is needed")
    state = {name.removeprefix("module."): tensor for name, tensor in read_state(file).items()}
    net = resnet18(weights=None, num_classes=len(CIFAR_CLASSES))
    if "conv1.weight" in state and state["conv1.weight"].shape[-1] == 3:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{file} does not fit ResNet-18: {' '.join(str(error).split())[:200]}") from error
    return ready(net)


def fingerprint_of_cifar(folder: str) -> str:
    """Of the user's files; "" without a folder."""
    return files_of({"path": folder}) if folder else ""
