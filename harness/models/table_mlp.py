"""Small multilayer perceptrons for the tables, each trained from a seed on the training part of its data set."""

from collections.abc import Callable

from torch import nn

from harness.datasets import adult as adult_data
from harness.datasets import compas as compas_data
from harness.datasets import diabetes as diabetes_data
from harness.datasets import german_credit as german_data
from harness.datasets._people import People, Split
from harness.datasets.encoding import encode
from harness.models.training import Recipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel


def perceptron(numbers: int, outputs: int) -> Callable[[], nn.Module]:
    """Makes a network with two hidden layers of 32 and ReLU, its first weights drawn from torch's generator."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(numbers, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, outputs))

    return build


def shallow_perceptron(numbers: int, outputs: int) -> Callable[[], nn.Module]:
    """Makes a network with one hidden layer of eight, for the variant of that name."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(numbers, 8), nn.ReLU(), nn.Linear(8, outputs))

    return build


def recipe(
    name: str, load_split: Callable[[], Split], numbers: int, outputs: int, *, epochs: int, decay: float
) -> Recipe:
    """How one of them is trained; its weights hang on the source files that make its numbers, too."""
    return Recipe(
        name,
        perceptron(numbers, outputs),
        load_split,
        epochs=epochs,
        rate=0.005,
        decay=decay,
        batch_size=128,
        shallow=shallow_perceptron(numbers, outputs),
        reads=(encode, People),
    )


ADULT = offered(recipe("adult_mlp", adult_data.load_split, 87, 2, epochs=5, decay=1e-4))
ADULT_WITHOUT = recipe(
    "adult_mlp_without_sensitive", adult_data.load_split_without_sensitive, 80, 2, epochs=5, decay=1e-4
)
COMPAS = offered(recipe("compas_mlp", compas_data.load_split, 15, 2, epochs=15, decay=1e-3))
COMPAS_WITHOUT = recipe(
    "compas_mlp_without_sensitive", compas_data.load_split_without_sensitive, 7, 2, epochs=15, decay=1e-3
)
GERMAN = offered(recipe("german_mlp", german_data.load_split, 61, 2, epochs=15, decay=1e-2))
GERMAN_WITHOUT = recipe(
    "german_mlp_without_sensitive", german_data.load_split_without_sensitive, 57, 2, epochs=15, decay=1e-2
)
DIABETES = offered(recipe("diabetes_mlp", diabetes_data.load_split, 10, 1, epochs=30, decay=1e-1))


@model()
def adult_mlp(*, seed: int = 0, epochs: int = 5, with_sensitive: bool = True) -> LoadedModel:
    """An MLP for the Adult table with ReLU alone, 3,938 weights, trained in seconds: about 85 % right.

    Two hidden layers of 32; inputs (N, 87) as the data set ``adult`` gives them, two logits; (N, 80) where
    ``with_sensitive`` is off, as it must then be of the data set. Trained from ``seed`` for ``epochs`` epochs on the
    training part, and the weights are cached.
    """
    chosen = ADULT if with_sensitive else ADULT_WITHOUT
    return LoadedModel(trained(chosen, seed=seed, epochs=epochs), classes=adult_data.CLASSES)


@model()
def compas_mlp(*, seed: int = 0, epochs: int = 15, with_sensitive: bool = True) -> LoadedModel:
    """An MLP for the COMPAS table with ReLU alone, 1,634 weights, trained in seconds: about 68 % right.

    Two hidden layers of 32; inputs (N, 15) as the data set ``compas`` gives them, two logits; (N, 7) where
    ``with_sensitive`` is off, as it must then be of the data set. Trained from ``seed`` for ``epochs`` epochs on the
    training part, and the weights are cached.
    """
    chosen = COMPAS if with_sensitive else COMPAS_WITHOUT
    return LoadedModel(trained(chosen, seed=seed, epochs=epochs), classes=compas_data.CLASSES)


@model()
def german_mlp(*, seed: int = 0, epochs: int = 15, with_sensitive: bool = True) -> LoadedModel:
    """An MLP for the German credit table with ReLU alone, 3,106 weights, trained in a second: about 75 % right.

    Two hidden layers of 32; inputs (N, 61) as the data set ``german_credit`` gives them, two logits; (N, 57) where
    ``with_sensitive`` is off, as it must then be of the data set. Trained from ``seed`` for ``epochs`` epochs on the
    training part, and the weights are cached.
    """
    chosen = GERMAN if with_sensitive else GERMAN_WITHOUT
    return LoadedModel(trained(chosen, seed=seed, epochs=epochs), classes=german_data.CLASSES)


@model()
def diabetes_mlp(*, seed: int = 0, epochs: int = 30) -> LoadedModel:
    """A regression MLP for the diabetes table with ReLU alone, 1,441 weights, trained in a second: R2 about 0.56.

    Two hidden layers of 32; inputs (N, 10) standardised as the data set ``diabetes`` gives them, one output, the
    standardised progression. Trained from ``seed`` for ``epochs`` epochs on the training part by squared error, and the
    weights are cached. What speaks of classes does not apply: use ``score=logit``, the output itself.
    """
    return LoadedModel(trained(DIABETES, seed=seed, epochs=epochs))
