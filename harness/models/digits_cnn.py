"""A small convolutional network for the digits of scikit-learn."""

from torch import nn

from harness.datasets.digits import CLASSES, VALUE_RANGE, load_split
from harness.models.training import Recipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel


@model()
def digits_cnn(*, seed: int = 0, epochs: int = 20) -> LoadedModel:
    """A CNN for 8x8 digits with ReLU alone, 22,954 weights, trained in seconds: above 97 % right on the test part.

    Three convolutions and two dense layers; inputs (N, 1, 8, 8) in 0..1, ten logits. It is trained from ``seed`` for
    ``epochs`` epochs on the training part of the data set ``digits``, and the weights are cached.
    """
    module = trained(RECIPE, seed=seed, epochs=epochs)
    return LoadedModel(module, value_range=VALUE_RANGE, classes=CLASSES)


def build() -> nn.Module:
    """The network with its first weights drawn from torch's generator."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def build_shallow() -> nn.Module:
    """One convolution and one dense layer, 1,370 weights, for the variant of that name."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))


RECIPE = offered(Recipe("digits_cnn", build, load_split, epochs=20, rate=0.01, shallow=build_shallow))
