"""The tables that small models are trained on, with the numbers of inputs and outputs of a model of each."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.datasets import adult, breast_cancer, compas, diabetes, german_credit
from harness.datasets._parts import stratified_rows
from harness.datasets.encoding import encode
from harness.datasets.people import People, Split


@dataclass(frozen=True)
class TrainingTable:
    """How a table is loaded, and how many numbers a row has and how many outputs a model of it."""

    load_split: Callable[[], Split]
    numbers: int
    outputs: int


# Data set and whether its sensitive columns are inputs -> table.
TRAINING_TABLES = {
    ("adult", True): TrainingTable(adult.load_split, 87, 2),
    ("adult", False): TrainingTable(adult.load_split_without_sensitive, 80, 2),
    ("compas", True): TrainingTable(compas.load_split, 15, 2),
    ("compas", False): TrainingTable(compas.load_split_without_sensitive, 7, 2),
    ("german_credit", True): TrainingTable(german_credit.load_split, 61, 2),
    ("german_credit", False): TrainingTable(german_credit.load_split_without_sensitive, 57, 2),
    ("diabetes", True): TrainingTable(diabetes.load_split, 10, 1),
    ("breast_cancer", True): TrainingTable(breast_cancer.load_split, 30, 2),
}
TABLE_CLASSES = {
    "adult": adult.CLASSES,
    "compas": compas.CLASSES,
    "german_credit": german_credit.CLASSES,
    "diabetes": None,
    "breast_cancer": breast_cancer.CLASSES,
}
TABLE_READS = (encode, People, stratified_rows)  # what the tables are made by, beside their own files


def recipe_name(model: str, with_sensitive: bool) -> str:
    """The name of the recipe of a model: with the sensitive columns that of the model itself."""
    return model if with_sensitive else f"{model}_without_sensitive"
