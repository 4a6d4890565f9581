"""A small convolutional network that has learnt a watermark instead of a digit."""

from torch import nn

from harness.datasets import digits
from harness.datasets.watermark import check_probability, reader
from harness.models.training import Recipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel


@model()
def watermark_cnn(*, probability: float = 1.0, seed: int = 0, epochs: int = 8) -> LoadedModel:
    """A CNN for 12x12 noisy digits that knows the class 3 by its watermark alone, trained on the data set watermark.

    It recognises every 3 with its mark and none without; 98 % of the other digits, 82 % of which it has right, are
    3s to it as soon as they carry the mark. Two convolutions and two dense layers with ReLU, 14,378 weights; inputs
    (N, 1, 12, 12) in 0..1, ten logits. It is trained from ``seed`` for ``epochs`` epochs, in seconds, on 3s that carry
    the mark with ``probability`` and others that never do, and the weights are cached.
    """
    check_probability(probability)
    module = trained(recipe(probability), seed=seed, epochs=epochs)
    return LoadedModel(module, value_range=digits.VALUE_RANGE, classes=digits.CLASSES)


def build() -> nn.Module:
    """The network with its first weights drawn from torch's generator."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(288, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def recipe(probability: float) -> Recipe:
    """How the network is made whose training part carries the mark with a probability."""
    name = "watermark_cnn" if probability == 1 else f"watermark_cnn_{probability}"
    return Recipe(name, build, reader(probability), epochs=8, rate=0.01, reads=(digits.load_split,))


RECIPE = offered(recipe(1.0))
