"""Linear models of the tables: logistic regressions, and a ridge regression where a number is to be predicted."""

from collections.abc import Callable

from torch import nn

from harness.models._training_tables import TABLE_CLASSES, TABLE_READS, TRAINING_TABLES, recipe_name
from harness.models.training import PeopleTrainingOptions, TrainingOptions, TrainingRecipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel

# Data set -> the model of it, and its training.
LINEAR_MODELS = {
    "adult": "adult_linear",
    "compas": "compas_linear",
    "german_credit": "german_linear",
    "diabetes": "diabetes_linear",
    "breast_cancer": "cancer_linear",
}
LINEAR_TRAINING = {
    "adult": PeopleTrainingOptions(epochs=5),
    "compas": PeopleTrainingOptions(epochs=20),
    "german_credit": PeopleTrainingOptions(epochs=40),
    "diabetes": TrainingOptions(epochs=100),
    "breast_cancer": TrainingOptions(epochs=40),
}


def linear_layer(numbers: int, outputs: int) -> Callable[[], nn.Module]:
    """A function that makes one linear layer, with first weights from torch's generator."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(numbers, outputs))

    return build


def linear_recipe(data: str, with_sensitive: bool) -> TrainingRecipe:
    """How the linear model of a table is trained; with the sensitive columns it is offered for variants."""
    table = TRAINING_TABLES[data, with_sensitive]
    recipe = TrainingRecipe(
        recipe_name(LINEAR_MODELS[data], with_sensitive),
        linear_layer(table.numbers, table.outputs),
        table.load_split,
        epochs=LINEAR_TRAINING[data].epochs,
        rate=0.02,
        decay=1e-3,
        batch_size=128,
        reads=TABLE_READS,
    )
    return offered(recipe) if with_sensitive else recipe


LINEAR_RECIPES = {(data, inputs): linear_recipe(data, inputs) for data, inputs in TRAINING_TABLES}


@model()
def adult_linear(*, training: PeopleTrainingOptions = LINEAR_TRAINING["adult"]) -> LoadedModel:
    """A logistic regression for the Adult table, 176 weights, trained in seconds: test accuracy about 85 %.

    Inputs (N, 87) as the data set ``adult`` gives them, (N, 80) without the sensitive columns; two logits. The options
    ``seed``, ``epochs`` and ``with_sensitive`` are those of ``PeopleTrainingOptions``.
    """
    return _linear_model_of("adult", training, training.with_sensitive)


@model()
def compas_linear(*, training: PeopleTrainingOptions = LINEAR_TRAINING["compas"]) -> LoadedModel:
    """A logistic regression for the COMPAS table, 32 weights, trained in seconds: test accuracy about 67 %.

    Inputs (N, 15) as the data set ``compas`` gives them, (N, 7) without the sensitive columns; two logits. The options
    ``seed``, ``epochs`` and ``with_sensitive`` are those of ``PeopleTrainingOptions``.
    """
    return _linear_model_of("compas", training, training.with_sensitive)


@model()
def german_linear(*, training: PeopleTrainingOptions = LINEAR_TRAINING["german_credit"]) -> LoadedModel:
    """A logistic regression for the German credit table, 124 weights, trained in a second: test accuracy about 75 %.

    Inputs (N, 61) as the data set ``german_credit`` gives them, (N, 57) without the sensitive column; two logits. The
    options ``seed``, ``epochs`` and ``with_sensitive`` are those of ``PeopleTrainingOptions``.
    """
    return _linear_model_of("german_credit", training, training.with_sensitive)


@model()
def diabetes_linear(*, training: TrainingOptions = LINEAR_TRAINING["diabetes"]) -> LoadedModel:
    """A ridge regression for the diabetes table, 11 weights, trained in a second: R2 about 0.56.

    Inputs (N, 10) standardised as the data set ``diabetes`` gives them; one output, the standardised progression. It is
    trained by squared error. Every score is the output itself. The options ``seed`` and ``epochs`` are those of
    ``TrainingOptions``.
    """
    return _linear_model_of("diabetes", training)


@model()
def cancer_linear(*, training: TrainingOptions = LINEAR_TRAINING["breast_cancer"]) -> LoadedModel:
    """A logistic regression for the breast cancer table, 62 weights, trained in a second: test accuracy about 96 %.

    Inputs (N, 30) standardised as the data set ``breast_cancer`` gives them; two logits. The options ``seed`` and
    ``epochs`` are those of ``TrainingOptions``.
    """
    return _linear_model_of("breast_cancer", training)


def _linear_model_of(data: str, training: TrainingOptions, with_sensitive: bool = True) -> LoadedModel:
    return LoadedModel(trained(LINEAR_RECIPES[data, with_sensitive], training), classes=TABLE_CLASSES[data])
