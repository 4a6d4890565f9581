"""A small convolutional network for the digits of scikit-learn."""

from torch import nn

from harness.datasets._parts import stratified_rows
from harness.datasets.digits import CLASSES, VALUE_RANGE, load_split
from harness.models.training import TrainingOptions, TrainingRecipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel

DIGITS_CNN_TRAINING = TrainingOptions(epochs=20)


@model()
def digits_cnn(*, training: TrainingOptions = DIGITS_CNN_TRAINING) -> LoadedModel:
    """A ReLU CNN for 8x8 digits, 22,954 weights, trained in seconds: test accuracy above 97 %.

    Three convolutions and two dense layers, trained on the data set ``digits``. Inputs (N, 1, 8, 8) in 0..1; ten
    logits. The options ``seed`` and ``epochs`` are those of ``TrainingOptions``.
    """
    return LoadedModel(trained(RECIPE, training), value_range=VALUE_RANGE, classes=CLASSES)


def build() -> nn.Module:
    """The network, with first weights from torch's generator."""
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


def build_shallow_digits_cnn() -> nn.Module:
    """A network with one convolution and one dense layer, 1,370 weights, for the variant ``shallow``."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))


RECIPE = offered(
    TrainingRecipe(
        "digits_cnn",
        build,
        load_split,
        epochs=DIGITS_CNN_TRAINING.epochs,
        rate=0.01,
        shallow=build_shallow_digits_cnn,
        reads=(stratified_rows,),
    )
)
