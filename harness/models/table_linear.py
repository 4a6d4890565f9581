"""Linear models of the tables: logistic regressions, and a ridge regression where a number is to be predicted."""

from collections.abc import Callable

from torch import nn

from harness.datasets import adult as adult_data
from harness.datasets import breast_cancer as cancer_data
from harness.datasets import compas as compas_data
from harness.datasets import diabetes as diabetes_data
from harness.datasets import german_credit as german_data
from harness.datasets._people import People, Split
from harness.datasets.encoding import encode
from harness.models.training import Recipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel


def line(numbers: int, outputs: int) -> Callable[[], nn.Module]:
    """Makes one linear layer, its first weights drawn from torch's generator."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(numbers, outputs))

    return build


def recipe(name: str, load_split: Callable[[], Split], numbers: int, outputs: int, *, epochs: int) -> Recipe:
    """How one of them is trained; its weights hang on the source files that make its numbers, too."""
    return Recipe(
        name,
        line(numbers, outputs),
        load_split,
        epochs=epochs,
        rate=0.02,
        decay=1e-3,
        batch_size=128,
        reads=(encode, People),
    )


ADULT = offered(recipe("adult_linear", adult_data.load_split, 87, 2, epochs=5))
ADULT_WITHOUT = recipe("adult_linear_without_sensitive", adult_data.load_split_without_sensitive, 80, 2, epochs=5)
COMPAS = offered(recipe("compas_linear", compas_data.load_split, 15, 2, epochs=20))
COMPAS_WITHOUT = recipe("compas_linear_without_sensitive", compas_data.load_split_without_sensitive, 7, 2, epochs=20)
GERMAN = offered(recipe("german_linear", german_data.load_split, 61, 2, epochs=40))
GERMAN_WITHOUT = recipe("german_linear_without_sensitive", german_data.load_split_without_sensitive, 57, 2, epochs=40)
DIABETES = offered(recipe("diabetes_linear", diabetes_data.load_split, 10, 1, epochs=100))
CANCER = offered(recipe("cancer_linear", cancer_data.load_split, 30, 2, epochs=40))


@model()
def adult_linear(*, seed: int = 0, epochs: int = 5, with_sensitive: bool = True) -> LoadedModel:
    """A logistic regression for the Adult table, 176 weights, trained in seconds: about 85 % right.

    Inputs (N, 87) as the data set ``adult`` gives them, two logits; (N, 80) where ``with_sensitive`` is off, as it must
    then be of the data set. Trained from ``seed`` for ``epochs`` epochs on the training part, and the weights are
    cached.
    """
    chosen = ADULT if with_sensitive else ADULT_WITHOUT
    return LoadedModel(trained(chosen, seed=seed, epochs=epochs), classes=adult_data.CLASSES)


@model()
def compas_linear(*, seed: int = 0, epochs: int = 20, with_sensitive: bool = True) -> LoadedModel:
    """A logistic regression for the COMPAS table, 32 weights, trained in seconds: about 67 % right.

    Inputs (N, 15) as the data set ``compas`` gives them, two logits; (N, 7) where ``with_sensitive`` is off, as it must
    then be of the data set. Trained from ``seed`` for ``epochs`` epochs on the training part, and the weights are
    cached.
    """
    chosen = COMPAS if with_sensitive else COMPAS_WITHOUT
    return LoadedModel(trained(chosen, seed=seed, epochs=epochs), classes=compas_data.CLASSES)


@model()
def german_linear(*, seed: int = 0, epochs: int = 40, with_sensitive: bool = True) -> LoadedModel:
    """A logistic regression for the German credit table, 124 weights, trained in a second: about 75 % right.

    Inputs (N, 61) as the data set ``german_credit`` gives them, two logits; (N, 57) where ``with_sensitive`` is off, as
    it must then be of the data set. Trained from ``seed`` for ``epochs`` epochs on the training part, and the weights
    are cached.
    """
    chosen = GERMAN if with_sensitive else GERMAN_WITHOUT
    return LoadedModel(trained(chosen, seed=seed, epochs=epochs), classes=german_data.CLASSES)


@model()
def diabetes_linear(*, seed: int = 0, epochs: int = 100) -> LoadedModel:
    """A ridge regression for the diabetes table, 11 weights, trained in a second: R2 about 0.56.

    Inputs (N, 10) standardised as the data set ``diabetes`` gives them, one output, the standardised progression.
    Trained from ``seed`` for ``epochs`` epochs on the training part by squared error, and the weights are cached. What
    speaks of classes does not apply: use ``score=logit``, the output itself.
    """
    return LoadedModel(trained(DIABETES, seed=seed, epochs=epochs))


@model()
def cancer_linear(*, seed: int = 0, epochs: int = 40) -> LoadedModel:
    """A logistic regression for the breast cancer table, 62 weights, trained in a second: about 96 % right.

    Inputs (N, 30) standardised as the data set ``breast_cancer`` gives them, two logits. Trained from ``seed`` for
    ``epochs`` epochs on the training part, and the weights are cached.
    """
    return LoadedModel(trained(CANCER, seed=seed, epochs=epochs), classes=cancer_data.CLASSES)
