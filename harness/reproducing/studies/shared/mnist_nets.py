"""Small convolutional nets for digits of 28 x 28 pixels, trained here on zeros and ones or on the user's MNIST."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.datasets.mnist_zeros_ones import CLASSES_01, zeros_and_ones
from harness.identity import digest
from harness.models.training import TrainingOptions, TrainingRecipe, trained
from harness.reproducing.studies.shared.mnist_files import MNIST_CLASSES, mnist_of_folder
from harness.sources import Data

DigitParts = Mapping[str, tuple[Tensor, Tensor]]  # train and test -> images (N, 1, 28, 28) in 0..1, labels (N,)
PIXEL_RANGE = (0.0, 1.0)


@dataclass(frozen=True)
class DigitNet:
    """The form of a net: convolutions of 5 x 5, each with ReLU and a max-pool, and dense layers with ReLU.

    name      for messages and the file of the weights
    channels  of the convolutions, 2
    hidden    units of the dense layers before the logits
    padding   of the convolutions
    """

    name: str
    channels: tuple[int, int]
    hidden: tuple[int, ...]
    padding: int = 0

    def build(self, classes: int) -> nn.Sequential:
        """The net with first weights from torch's generator; all ReLU are modules."""
        first, second = self.channels
        side = ((28 + 2 * self.padding - 4) // 2 + 2 * self.padding - 4) // 2
        parts: list[nn.Module] = []
        for inputs, outputs in ((1, first), (first, second)):
            parts += [nn.Conv2d(inputs, outputs, 5, padding=self.padding), nn.ReLU(), nn.MaxPool2d(2)]
        parts.append(nn.Flatten())
        widths = (second * side**2, *self.hidden)
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            parts += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*parts, nn.Linear(widths[-1], classes))


LENET = DigitNet("lenet", (6, 16), (120, 84))


@dataclass(frozen=True)
class Digits:
    """Images of digits with what a study says of them.

    words    the data in words
    classes  the names of the classes
    load     gives the parts
    key      "" for the digits that are here, else a fingerprint of the user's, so that weights are not mixed up
    """

    words: str
    classes: tuple[str, ...]
    load: Callable[[], DigitParts]
    key: str = ""

    def data(self, count: int, net: nn.Module | None = None) -> Data:
        """The first test images with their labels; of a net only those that it classifies right."""
        inputs, labels = self.load()["test"]
        if net is not None:
            with torch.no_grad():
                right = torch.cat([net(part).argmax(1) for part in inputs[: 4 * count + 100].split(500)])
            chosen = (right == labels[: len(right)]).nonzero()[:, 0]
            inputs, labels = inputs[chosen], labels[chosen]
        if len(inputs) < count:
            raise ValueError(f"there are no {count} images")
        return Data(inputs[:count], labels[:count], value_range=PIXEL_RANGE, modality="image", classes=self.classes)


def digits_of(folder: Path | str | None) -> Digits:
    """The user's MNIST, or zeros and ones where there is no folder; UserError where its files are not MNIST's."""
    if not folder:
        return Digits("MNIST, zeros and ones", CLASSES_01, zeros_and_ones)
    load = lambda: mnist_of_folder(str(folder))
    return Digits("MNIST", MNIST_CLASSES, load, _key_of_parts(str(folder)))


@cache
def _key_of_parts(folder: str) -> str:
    """A fingerprint of all pixels and labels."""
    parts = mnist_of_folder(folder)
    return digest(*(each.numpy().tobytes() for part in sorted(parts) for each in parts[part]))


def digit_net(form: DigitNet, digits: Digits, seed: int, epochs: int) -> nn.Module:
    """A net of this form after training on the training part of these digits, frozen."""
    return trained(recipe_of_digit_net(form, digits), TrainingOptions(seed, epochs))


def recipe_of_digit_net(form: DigitNet, digits: Digits) -> TrainingRecipe:
    """How a net is trained: Adam with a one-cycle rate up to 0.003, batches of 128."""
    label = "_".join(filter(None, (form.name, "digits" if digits.key else "zeros_ones", digits.key)))
    build = lambda: form.build(len(digits.classes))
    return TrainingRecipe(
        label, build, digits.load, rate=0.003, batch_size=128, reads=(zeros_and_ones, mnist_of_folder)
    )


def accuracy_on_digits(net: nn.Module, digits: Digits) -> float:
    """The share of the test images that the net classifies right."""
    inputs, labels = digits.load()["test"]
    with torch.no_grad():
        found = torch.cat([net(part).argmax(1) for part in inputs.split(500)])
    return (found == labels).double().mean().item()
