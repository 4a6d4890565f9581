"""Small multilayer perceptrons for the tables, each trained from a seed on the training part of its data set."""

from collections.abc import Callable

from torch import nn

from harness.models._training_tables import TABLE_CLASSES, TABLE_READS, TRAINING_TABLES, recipe_name
from harness.models.training import PeopleTrainingOptions, TrainingOptions, TrainingRecipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel

# Data set -> the model of it, its training, and its weight decay.
MLP_MODELS = {"adult": "adult_mlp", "compas": "compas_mlp", "german_credit": "german_mlp", "diabetes": "diabetes_mlp"}
MLP_TRAINING = {
    "adult": PeopleTrainingOptions(epochs=5),
    "compas": PeopleTrainingOptions(epochs=15),
    "german_credit": PeopleTrainingOptions(epochs=15),
    "diabetes": TrainingOptions(epochs=30),
}
MLP_DECAY = {"adult": 1e-4, "compas": 1e-3, "german_credit": 1e-2, "diabetes": 1e-1}


def perceptron(numbers: int, outputs: int) -> Callable[[], nn.Module]:
    """A function that makes a network with two hidden layers of 32 and ReLU, with weights from torch's generator."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(numbers, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, outputs))

    return build


def shallow_perceptron(numbers: int, outputs: int) -> Callable[[], nn.Module]:
    """A function that makes a network with one hidden layer of eight, for the variant ``shallow``."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(numbers, 8), nn.ReLU(), nn.Linear(8, outputs))

    return build


def mlp_recipe(data: str, with_sensitive: bool) -> TrainingRecipe:
    """How the perceptron of a table is trained; with the sensitive columns it is offered for variants."""
    table = TRAINING_TABLES[data, with_sensitive]
    recipe = TrainingRecipe(
        recipe_name(MLP_MODELS[data], with_sensitive),
        perceptron(table.numbers, table.outputs),
        table.load_split,
        epochs=MLP_TRAINING[data].epochs,
        rate=0.005,
        decay=MLP_DECAY[data],
        batch_size=128,
        shallow=shallow_perceptron(table.numbers, table.outputs),
        reads=TABLE_READS,
    )
    return offered(recipe) if with_sensitive else recipe


MLP_RECIPES = {(data, inputs): mlp_recipe(data, inputs) for data, inputs in TRAINING_TABLES if data in MLP_MODELS}


@model()
def adult_mlp(*, training: PeopleTrainingOptions = MLP_TRAINING["adult"]) -> LoadedModel:
    """A ReLU MLP for the Adult table, 3,938 weights, trained in seconds: test accuracy about 85 %.

    Two hidden layers of 32. Inputs (N, 87) as the data set ``adult`` gives them, (N, 80) without the sensitive columns;
    two logits. The options ``seed``, ``epochs`` and ``with_sensitive`` are those of ``PeopleTrainingOptions``.
    """
    return _mlp_of_table("adult", training, training.with_sensitive)


@model()
def compas_mlp(*, training: PeopleTrainingOptions = MLP_TRAINING["compas"]) -> LoadedModel:
    """A ReLU MLP for the COMPAS table, 1,634 weights, trained in seconds: test accuracy about 68 %.

    Two hidden layers of 32. Inputs (N, 15) as the data set ``compas`` gives them, (N, 7) without the sensitive columns;
    two logits. The options ``seed``, ``epochs`` and ``with_sensitive`` are those of ``PeopleTrainingOptions``.
    """
    return _mlp_of_table("compas", training, training.with_sensitive)


@model()
def german_mlp(*, training: PeopleTrainingOptions = MLP_TRAINING["german_credit"]) -> LoadedModel:
    """A ReLU MLP for the German credit table, 3,106 weights, trained in a second: test accuracy about 75 %.

    Two hidden layers of 32. Inputs (N, 61) as the data set ``german_credit`` gives them, (N, 57) without the sensitive
    column; two logits. The options ``seed``, ``epochs`` and ``with_sensitive`` are those of ``PeopleTrainingOptions``.
    """
    return _mlp_of_table("german_credit", training, training.with_sensitive)


@model()
def diabetes_mlp(*, training: TrainingOptions = MLP_TRAINING["diabetes"]) -> LoadedModel:
    """A ReLU MLP for regression on the diabetes table, 1,441 weights, trained in a second: R2 about 0.56.

    Two hidden layers of 32. Inputs (N, 10) standardised as the data set ``diabetes`` gives them; one output, the
    standardised progression. It is trained by squared error. Every score is the output itself. The options ``seed`` and
    ``epochs`` are those of ``TrainingOptions``.
    """
    return _mlp_of_table("diabetes", training)


def _mlp_of_table(data: str, training: TrainingOptions, with_sensitive: bool = True) -> LoadedModel:
    return LoadedModel(trained(MLP_RECIPES[data, with_sensitive], training), classes=TABLE_CLASSES[data])
