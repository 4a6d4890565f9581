"""The tables of the study beexai with a net for each: those of packages, or the CSV files in the user's folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from harness.datasets._table_options import TableFileOptions, TableOptions
from harness.datasets._target_column import FEW_CLASSES
from harness.datasets.table_file import table_file
from harness.errors import UserError
from harness.identity import files_of
from harness.models._training_tables import TRAINING_TABLES
from harness.models.cancer_mlp import cancer_mlp
from harness.models.table_mlp import adult_mlp, compas_mlp, diabetes_mlp, german_mlp
from harness.models.training import PeopleTrainingOptions, TrainingOptions, TrainingRecipe, trained
from harness.sources import Data, LoadedModel

CLASSES_TASK, NUMBERS_TASK = "classification", "regression"
TARGETS_FILE = "targets.csv"  # in the user's folder: file, target, and task where it is not plain
LEAST_ROWS = 30  # of a table of the user's
HIDDEN, BLOCKS, DROPOUT = 128, 3, 0.1  # of the net of the released code
NETS: Mapping[str, Callable[[int], LoadedModel]] = {
    "adult": lambda seed: adult_mlp(training=PeopleTrainingOptions(seed=seed, epochs=5)),
    "compas": lambda seed: compas_mlp(training=PeopleTrainingOptions(seed=seed, epochs=15)),
    "german_credit": lambda seed: german_mlp(training=PeopleTrainingOptions(seed=seed, epochs=15)),
    "breast_cancer": lambda seed: cancer_mlp(training=TrainingOptions(seed=seed, epochs=20)),
    "diabetes": lambda seed: diabetes_mlp(training=TrainingOptions(seed=seed, epochs=30)),
}


@dataclass(frozen=True)
class NetOfTable:
    """A net with the rows that are explained.

    net      gives logits (N, classes), or numbers (N, 1)
    inputs   (N, D), columns of categories as several numbers
    targets  (N,) the predicted class, or 0
    task     CLASSES_TASK or NUMBERS_TASK
    score    the accuracy, or R2, on the rows that were not for training
    train    (R, D) the inputs of the training rows
    """

    net: nn.Module
    inputs: Tensor
    targets: Tensor
    task: str
    score: float
    train: Tensor

    @property
    def net_of_scores(self) -> nn.Module:
        """The net with the outputs that the released code explains: probabilities, or numbers."""
        return nn.Sequential(self.net, nn.Softmax(1)).eval() if self.task == CLASSES_TASK else self.net

    def loaded(self, *, probabilities: bool) -> LoadedModel:
        """The net for ``harness.explain``; with probabilities these are explained in place of logits."""
        task = "classes" if self.task == CLASSES_TASK else "regression"
        return LoadedModel(self.net_of_scores if probabilities else self.net, task=task)


def net_of_table(table: str, folder: str, seed: int, rows: int) -> NetOfTable:
    """The net of this seed, with so many rows of the table's test part; the rows are the same for every seed."""
    if folder:
        data = _own_table(folder, table)
        net, inputs, labels, train = _net_of_own_table(folder, table, seed), data.inputs, data.labels, data.train
    else:
        net, parts = NETS[table](seed).module, TRAINING_TABLES[table, True].load_split()
        (inputs, labels), train = parts["test"][:2], parts["train"][0]
    task = NUMBERS_TASK if labels.is_floating_point() else CLASSES_TASK
    with torch.no_grad():
        outputs = net(inputs)
    chosen = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))[:rows]
    targets = outputs.argmax(1) if task == CLASSES_TASK else torch.zeros(len(inputs), dtype=torch.long)
    return NetOfTable(net, inputs[chosen], targets[chosen], task, _score_on_test(outputs, labels, task), train)


def _score_on_test(outputs: Tensor, labels: Tensor, task: str) -> float:
    if task == CLASSES_TASK:
        return (outputs.argmax(1) == labels).double().mean().item()
    left = (outputs.view(-1) - labels).double().square().sum()
    return (1 - left / (labels - labels.mean()).double().square().sum()).item()


def tables_of_folder(folder: Path) -> dict[str, str]:
    """File -> target of the CSV files in the user's folder: the last column, or what the file targets.csv says.

    Each is read once, so that a table that cannot be used is told before anything is measured. UserError for none, for
    one with too few rows, and for an entry of targets.csv without a file.
    """
    files = sorted(path.name for path in folder.glob("*.csv") if path.name != TARGETS_FILE)
    if not files:
        raise UserError(f"{folder} holds no CSV files, expected a file for each table, its target in the last column")
    unknown = [name for name in _stated_targets(str(folder)) if name not in files]
    if unknown:
        raise UserError(f"{folder / TARGETS_FILE} names {unknown[0]}, which is not in the folder")
    found = {}
    for name in files:
        data = _own_table(str(folder), name)
        if min(len(data.inputs), len(data.train)) < LEAST_ROWS:
            raise UserError(
                f"{folder / name} has {len(data.train)} rows to train and {len(data.inputs)} to explain, expected "
                f"{LEAST_ROWS} or more of each"
            )
        found[name] = _target_and_task(str(folder), name)[0]
    return found


def fingerprint_of_tables(folder: str) -> str:
    """Of the user's files; "" for the tables of packages."""
    return files_of({"path": folder}) if folder else ""


@cache
def _stated_targets(folder: str) -> dict[str, dict[str, str]]:
    """File -> its row in targets.csv; empty where there is no such file."""
    path = Path(folder, TARGETS_FILE)
    if not path.is_file():
        return {}
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    lacking = [name for name in ("file", "target") if name not in rows]
    if lacking:
        raise UserError(f"{path} lacks the column {lacking[0]}, expected file, target and perhaps task")
    return {row["file"]: row for row in rows.to_dict("records")}


@cache
def _target_and_task(folder: str, name: str) -> tuple[str, str]:
    """The target column and the task: as stated, or the last column; numbers that are many or no classes are predicted
    as numbers."""
    stated = _stated_targets(folder).get(name, {})
    head = pd.read_csv(Path(folder, name), nrows=0)
    target = stated.get("target") or head.columns[-1]
    if target not in head:
        raise UserError(f"{Path(folder, name)} has no column {target!r}")
    values = pd.read_csv(Path(folder, name), usecols=[target])[target].dropna()
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    whole = numbers and (values == values.round()).all() and values.nunique() <= FEW_CLASSES
    return target, stated.get("task") or (NUMBERS_TASK if numbers and not whole else CLASSES_TASK)


@cache
def _own_table(folder: str, name: str) -> Data:
    """A table of the user's; numbers to predict are standardised by the training rows."""
    target, task = _target_and_task(folder, name)
    options = TableOptions(task=task, train=0.8, missing="skip", unseen="skip")
    data = table_file(path=str(Path(folder, name)), own=TableFileOptions(target=target), shared=options)
    if task == NUMBERS_TASK:
        mean, deviation = data.train_labels.mean(), data.train_labels.std()
        data.labels, data.train_labels = ((each - mean) / deviation for each in (data.labels, data.train_labels))
    return data


def _net_of_own_table(folder: str, name: str, seed: int) -> nn.Module:
    """A net in the form of the released code, trained on the user's table."""
    data = _own_table(folder, name)
    outputs = int(data.train_labels.max()) + 1 if not data.train_labels.is_floating_point() else 1
    classes = max(outputs, len(data.classes or ()))
    recipe = TrainingRecipe(
        f"beexai_{files_of({'path': str(Path(folder, name))})}",
        lambda: deep_perceptron(data.inputs.shape[1], classes),
        lambda: {"train": (data.train, data.train_labels)},
        rate=0.005,
        batch_size=128,
        reads=(table_file,),
    )
    return trained(recipe, TrainingOptions(seed, epochs=30))


def deep_perceptron(numbers: int, outputs: int) -> nn.Sequential:
    """The net of the released code: layers of 128 with ReLU, batch norm and dropout, each nonlinearity a module."""
    layers: list[nn.Module] = []
    for inputs in (numbers, *(HIDDEN,) * BLOCKS):
        layers += [nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.BatchNorm1d(HIDDEN), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, nn.BatchNorm1d(HIDDEN), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, outputs))
