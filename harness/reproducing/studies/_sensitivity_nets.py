"""The four nets and the images of ``sensitivity_n``: ReLU or tanh, with or without biases (Ancona et al. 2018)."""

from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn

from harness.datasets.generated_rows import GeneratedRows
from harness.datasets.tetrominoes import TetrominoFamily, TetrominoOptions
from harness.datasets.xai_tris import family_of, xai_tris_splitter
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


def recipe_of_small_net(name: str) -> TrainingRecipe:
    """How one of FOUR_NETS is built and trained."""
    activation, biased = FOUR_NETS[name]

    def build() -> nn.Module:
        first, second = HIDDEN
        return nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(PIXELS, first, biased), activation()),
            *(nn.Linear(first, second, biased), activation()),
            nn.Linear(second, len(IMAGES.classes), biased),
        )

    label = f"sensitivity_n_{name.replace(' ', '_')}"
    return TrainingRecipe(label, build, load_training_images, rate=0.03, batch_size=128, reads=(TetrominoFamily,))


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
            last.bias.sub_(small(torch.zeros(1, PIXELS, dtype=last.bias.dtype))[0])
    return small


def explained_logits(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The logits (k,) of one class for each input."""
    with torch.no_grad():
        return net(inputs).gather(1, targets[:, None])[:, 0]
