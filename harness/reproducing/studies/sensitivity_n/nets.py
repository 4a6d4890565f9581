"""Nets and images of the studies of sensitivity-n: ReLU or tanh, with or without biases (Ancona et al. 2018)."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.datasets.generated_rows import GeneratedRows
from harness.datasets.mnist_zeros_ones import CLASSES_01, zeros_and_ones
from harness.datasets.mnist_zeros_ones import SIDE as MNIST_SIDE
from harness.datasets.tetrominoes import TetrominoFamily, TetrominoOptions
from harness.datasets.xai_tris import family_of, xai_tris_splitter
from harness.models.mnist_cnn import mnist_cnn
from harness.models.training import TrainingOptions, TrainingRecipe, trained

IMAGES = TetrominoOptions("rotation", "white")  # a tetromino that is turned and put anywhere, in white noise
IMAGE_SIDE = 8
PIXELS = IMAGE_SIDE * IMAGE_SIDE
HIDDEN = (64, 32)
load_training_images = cache(xai_tris_splitter(IMAGES, IMAGE_SIDE))  # all nets learn from the same images

RELU, RELU_BARE = "ReLU with biases", "ReLU without biases"
TANH, TANH_BARE = "tanh with biases", "tanh without biases"
FOUR_NETS: dict[str, tuple[type[nn.Module], bool]] = {
    RELU: (nn.ReLU, True),
    RELU_BARE: (nn.ReLU, False),
    TANH: (nn.Tanh, True),
    TANH_BARE: (nn.Tanh, False),
}


CNN = "published CNN"  # the registered model ``mnist_cnn``: ReLU with biases, convolutions and a max-pool
# Each net -> which of FOUR_NETS it is like, so that the same equalities hold for it.
KIND_OF_NET = {**{name: name for name in FOUR_NETS}, CNN: RELU}


@dataclass(frozen=True)
class SensitivityBench:
    """The nets of a study and the images on which they are explained.

    words   the images in words, as a data set of the numbers
    pixels  of an image
    nets    the names of the nets, each a key of KIND_OF_NET
    given   names of the nets that have published weights, and so one training
    net     (name, training, epochs) -> the net, frozen, in double precision
    images  count -> images (count, 1, H, W) in double precision, labels (count,)
    """

    words: str
    pixels: int
    nets: tuple[str, ...]
    net: Callable[[str, int, int], nn.Module]
    images: Callable[[int], tuple[Tensor, Tensor]]
    given: tuple[str, ...] = ()


def recipe_of_small_net(
    name: str,
    label: str = "sensitivity_n",
    pixels: int = PIXELS,
    classes: int = len(IMAGES.classes),
    load_split: Callable[[], Mapping[str, Any]] = load_training_images,
    reads: tuple[Callable, ...] = (TetrominoFamily,),
) -> TrainingRecipe:
    """How one of FOUR_NETS is built and trained, for images of this size and with this number of classes."""
    activation, biased = FOUR_NETS[name]

    def build() -> nn.Module:
        first, second = HIDDEN
        return nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(pixels, first, biased), activation()),
            *(nn.Linear(first, second, biased), activation()),
            nn.Linear(second, classes, biased),
        )

    label = f"{label}_{name.replace(' ', '_')}"
    return TrainingRecipe(label, build, load_split, rate=0.03, batch_size=128, reads=reads)


def small_net(name: str, training: int, epochs: int) -> nn.Module:
    """One of FOUR_NETS after training from the seed ``training``, frozen, in double precision.

    In double precision rounding is far below any bound, and no hidden sum is so near 0 that rounding turns a ReLU over.
    """
    return trained(recipe_of_small_net(name), TrainingOptions(training, epochs)).double()


def first_images(count: int) -> tuple[Tensor, Tensor]:
    """The first images of the test part, (count, 1, 8, 8) in double precision, and their labels (count,)."""
    family = family_of(IMAGES, IMAGE_SIDE)
    chosen = family.parts["test"][:count]
    images, labels = (GeneratedRows(make, chosen)[:] for make in (family.inputs, family.labels))
    return images.double(), labels


def zero_one_net(name: str, training: int, epochs: int) -> nn.Module:
    """One of FOUR_NETS after training on zeros and ones of MNIST, as by ``small_net``; or the CNN."""
    if name == CNN:
        return mnist_cnn().module.double()
    pixels, classes = MNIST_SIDE * MNIST_SIDE, len(CLASSES_01)
    recipe = recipe_of_small_net(name, "sensitivity_n_mnist", pixels, classes, zeros_and_ones, (zeros_and_ones,))
    return trained(recipe, TrainingOptions(training, epochs)).double()


def first_zeros_and_ones(count: int) -> tuple[Tensor, Tensor]:
    """The first images of the test part, (count, 1, 28, 28) in double precision, and their labels (count,)."""
    images, labels = zeros_and_ones()["test"]
    return images[:count].double(), labels[:count]


def shrunk(net: nn.Sequential, share: float) -> nn.Sequential:
    """The net as a function of smaller inputs, (f(share x) - f(0)) / share: nearly linear where ``share`` is small.

    The last bias becomes what makes it 0 at 0. No explanation by differences or by relevance depends on that bias, and
    a large output would round small differences away.
    """
    small = deepcopy(net)
    first, last = small[1], small[-1]
    with torch.no_grad():
        first.weight.mul_(share)
        last.weight.div_(share)
        if last.bias is not None:
            last.bias.sub_(small(torch.zeros(1, first.in_features, dtype=last.bias.dtype))[0])
    return small


def explained_logits(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The logits (k,) of one class for each input."""
    with torch.no_grad():
        return net(inputs).gather(1, targets[:, None])[:, 0]


SENSITIVITY_BENCHES = {
    "xai_tris": SensitivityBench("XAI-TRIS, rotation, white", PIXELS, tuple(FOUR_NETS), small_net, first_images),
    "mnist": SensitivityBench(
        "MNIST, zeros and ones", MNIST_SIDE**2, (*FOUR_NETS, CNN), zero_one_net, first_zeros_and_ones, (CNN,)
    ),
}
