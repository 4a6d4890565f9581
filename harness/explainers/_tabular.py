"""Tables for global methods: training rows with the model's outputs, held-out rows, and one result for all samples.

Random draws depend on the seed alone, and results on the seed and the training data: never on the explained samples.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.errors import NotApplicable, UserError
from harness.option_types import InnerShare, Range
from harness.predictor import pick
from harness.randomness import bits, permutations
from harness.removal.background import drawn_rows, global_key
from harness.samples import Samples
from harness.task import CLASSES, Task

# The capabilities that all global methods of tables declare.
GLOBAL = {"scope": "global", "access": "forward", "modalities": ("table",), "per_class": False, "cost": "once: T F"}
# The labels that a method is fitted to, and the rows that it is fitted to at most: two to fit, one held out.
FittedLabels = Literal["predicted", "label"]
Rows = Annotated[int, Range(3, 1_000_000)]
EXPLAINED = {"predicted": "model", "label": "data"}  # what a method explains that was fitted to these labels
TRAINING_ROWS = 10_000
# A column of more values, or of fewer rows to a value, is taken as continuous.
MOST_KINDS, ROWS_OF_A_KIND = 20, 10


@dataclass(frozen=True)
class HeldOutRows:
    """Options of methods that fit a model to some of the training rows and test it on the others.

    held_out   the share of the rows that the fit does not see
    rows       how many training rows are used at most; where there are more, the seed draws which
    """

    held_out: InnerShare = 0.3
    rows: Rows = TRAINING_ROWS


SEVEN_TO_THREE = HeldOutRows()


@dataclass(frozen=True)
class Table:
    """Training rows and the model's outputs for them.

    inputs   (R, D), on the model's device
    outputs  (R, K) the model's logits, K = 1 where it has a single output or one of several is explained
    output   the column of the model's outputs that is explained, or None for all of them
    labels   (R,) their true labels, or None
    names    (C,) of the columns; their numbers where the data has no names
    columns  (D,) int64, the column each number belongs to; C = D where each is a column of its own
    seed     of all random draws
    task     of the model
    """

    inputs: Tensor
    outputs: Tensor
    labels: Tensor | None
    names: tuple[str, ...]
    columns: np.ndarray
    seed: int
    task: Task = CLASSES
    output: int | None = None

    def explained(self, outputs: Tensor) -> Tensor:
        """The explained columns (..., K) of the model's outputs."""
        return outputs if self.output is None else outputs[..., self.output, None]

    @property
    def number_names(self) -> tuple[str, ...]:
        """The names of the numbers (D,)."""
        return names_of_numbers(self.names, self.columns)

    def of_columns(self, values: np.ndarray) -> np.ndarray:
        """Sums over the numbers of each column: (C, ...) from (D, ...)."""
        sums = np.zeros((len(self.names), *values.shape[1:]))
        np.add.at(sums, self.columns, values)
        return sums

    @property
    def values(self) -> np.ndarray:
        """The inputs as float64, for libraries that work on the CPU."""
        return self.inputs.double().cpu().numpy()

    @cached_property
    def units(self) -> np.ndarray:
        """The power of two up to the range of each number in the rows, (D,) float64; 1 where it does not vary."""
        span = np.ptp(self.values, axis=0)
        return np.where(span > 0, np.ldexp(1.0, np.frexp(span)[1] - 1), 1.0)

    @property
    def values_in_units(self) -> np.ndarray:
        """``values`` in ``units``, for libraries that take small differences for none: scikit-learn's trees those of at
        most 1e-7, so that they would not see a column of nanometres."""
        return self.values / self.units

    @property
    def single(self) -> bool:
        """Whether the model has a single output, a number rather than classes."""
        return self.outputs.shape[1] == 1

    def truth(self, labels: str) -> Tensor:
        """The right answer for each row (R,), on the CPU: the model's own (``predicted``) or the ``label``.

        Class indices, or float64 numbers where the model has a single output.
        """
        if labels == "predicted":
            return (self.outputs[:, 0].double() if self.single else self.outputs.argmax(1)).cpu()
        if self.labels is None:
            raise NotApplicable(
                "labels=label needs the labels of the training inputs, the data has none (give train_labels=)"
            )
        return checked_labels(self.labels.cpu(), self.outputs.shape[1])

    def check_probabilities(self) -> None:
        """NotApplicable where nothing says that the model's outputs have probabilities of classes."""
        pick(self.task.track(self.outputs, self.outputs.argmax(1)), "probability")

    def response(self, labels: str) -> np.ndarray:
        """``truth`` for a fit: NotApplicable where it is the same for all rows."""
        truth = self.truth(labels).numpy()
        if (truth == truth[0]).all():
            what = "the model's answers" if labels == "predicted" else "the labels"
            raise NotApplicable(f"{what} are the same for all {len(truth)} training rows: there is nothing to fit")
        return truth

    def split(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """The row numbers to fit on and those held out, a ``share`` that the seed draws; at least two and one."""
        count = len(self.inputs)
        held = min(max(1, round(share * count)), count - 2)
        order = permutations(global_key(self.seed, "held-out rows"), 1, count)[0, 0].numpy()
        return np.sort(order[held:]), np.sort(order[:held])

    def split_for(self, response: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """``split``; NotApplicable where the response (R, ...) is the same for all rows to fit on."""
        fit, held = self.split(share)
        if (response[fit] == response[fit[0]]).all():
            raise NotApplicable(f"all {len(fit)} rows to fit on have the same answer: there is nothing to fit")
        return fit, held

    def random_state(self, use: str) -> int:
        """A seed for scikit-learn, another one for each ``use``."""
        return int(bits(global_key(self.seed, use), 1)) & 0x7FFFFFFF


def training_table(context: Samples, rows: int) -> Table:
    """At most ``rows`` training rows with the model's outputs; where there are more, the seed draws which.

    NotApplicable where the data has no training inputs.
    """
    if context.train is None:
        raise NotApplicable("needs training inputs, the data has none (give train=)")
    if len(context.train) < 3:
        raise NotApplicable(f"needs at least 3 training inputs, the data has {len(context.train)}")
    chosen = drawn_rows(len(context.train), rows, context.seed).to(context.train.device)
    inputs = context.train[chosen].to(context.inputs)
    outputs = context.predictor.logits(inputs)
    check_rows(inputs, outputs)
    labels = None if context.train_labels is None else context.train_labels.to(chosen.device)[chosen]
    columns, outputs = columns_of_numbers(context), outputs.view(len(inputs), -1)
    explained = _explained_output(context, outputs.shape[1])
    table = Table(inputs, outputs, labels, column_names(context), columns, context.seed, context.task, explained)
    return replace(table, outputs=table.explained(outputs))


def check_rows(inputs: Tensor, outputs: Tensor) -> None:
    """UserError unless training rows and the model's outputs for them are finite."""
    for what, values in (("train", inputs), ("the model's outputs for train", outputs)):
        if not values.isfinite().all():
            raise UserError(f"{what} hold NaN or infinite values, expected finite numbers")


def columns_of_numbers(context: Samples) -> np.ndarray:
    """The column that each number of an input belongs to, (D,) int64."""
    return np.array(context.units.columns if context.units.grouped else range(context.inputs.shape[1]))


def _explained_output(context: Samples, count: int) -> int | None:
    """The output that a global explanation is about; None for all: classes that exclude each other, or the only output.

    Of numbers and of independent labels it is about the output that is explained, which must be the same for all.
    """
    if context.task.exclusive or count == 1:
        return None
    explained = context.targets.unique()
    if len(explained) > 1:
        raise NotApplicable("describes one output for all samples, but these samples' targets are different outputs")
    return int(explained)


def column_names(context: Samples) -> tuple[str, ...]:
    """The names of the units; their numbers where there are no names, or one name for several units."""
    count, names = context.units.count, context.unit_names
    return tuple(names) if names and len(names) == count else tuple(str(number) for number in range(count))


def values_repeat(kinds: int, rows: int) -> bool:
    """Whether a column of so many distinct values in so many rows is a category: two values, or few that repeat.

    Neighbours in a column of which many rows are equal say nothing of a density, which estimates of it assume.
    """
    return kinds <= 2 or (kinds <= MOST_KINDS and kinds * ROWS_OF_A_KIND <= rows)


def names_of_numbers(names: tuple[str, ...], columns: np.ndarray) -> tuple[str, ...]:
    """The names of the numbers (D,): a column's own where it is one number, else ``column[0]``, ..."""
    sizes, used, found = np.bincount(columns), Counter(), []
    for column in columns.tolist():
        found.append(names[column] if sizes[column] == 1 else f"{names[column]}[{used[column]}]")
        used[column] += 1
    return tuple(found)


def checked_labels(labels: Tensor, outputs: int) -> Tensor:
    """Training labels as class indices, or as float64 numbers where the model has a single output; UserError for
    others."""
    if outputs == 1:
        if not labels.isfinite().all():
            raise UserError("train_labels hold NaN or infinite values, expected finite numbers")
        return labels.double()
    if labels.is_floating_point():
        raise UserError(f"train_labels are {labels.dtype}, expected class indices from 0 to {outputs - 1}")
    if labels.min() < 0 or labels.max() >= outputs:
        came = f"{int(labels.min())} to {int(labels.max())}"
        raise UserError(f"train_labels are from {came}, expected class indices from 0 to {outputs - 1}")
    return labels.long()


def shares_of_splits(table: Table, importances: np.ndarray) -> Tensor:
    """The columns' shares of the decrease of impurity (C,), the sums of those of their numbers (D,).

    NotApplicable where no tree has a split.
    """
    if not importances.any():
        raise NotApplicable("no split of the training rows by any column separates the model's answers")
    return torch.from_numpy(table.of_columns(importances))


def broadcast(values: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Global values as attributions (N, C): (C,) or (1, C) the same for all samples, (classes, C) those of its target.

    One row is that of the only output that is explained, whatever its number in the model.
    """
    values = values.to(inputs)
    return values.view(1, -1).repeat(len(inputs), 1) if values.dim() == 1 or len(values) == 1 else values[targets]


def fit_facts(table: Table, labels: str) -> dict[str, Any]:
    """Facts of a fit to a table: to which labels, to how many rows, and what it therefore explains."""
    return {"fitted_on": labels, "explains": EXPLAINED[labels], "training_rows": len(table.inputs)}


def class_agreement(answers: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """``fidelity``, the share of rows with the right class, and ``majority``, that of the most frequent class alone."""
    return {"fidelity": float((answers == right).mean()), "majority": float(np.bincount(right).max() / len(right))}


def r_squared(answers: np.ndarray, right: np.ndarray) -> float:
    """The explained share of the variance, of all columns together; NaN where there is no variance."""
    left, total = ((right - answers) ** 2).sum(), ((right - right.mean(0)) ** 2).sum()
    return float(1 - left / total) if total > 0 else float("nan")


def held_out_scores(table: Table, fitted: Any, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How well a fitted scikit-learn estimator predicts held-out rows: ``class_agreement``, or r2 for numbers."""
    answers = fitted.predict(x)
    return {"r2": r_squared(answers, y)} if table.single else class_agreement(answers, y)


def deviations(x: np.ndarray) -> np.ndarray:
    """Standard deviations (D,) of the columns, 1 for those that do not vary."""
    deviation = x.std(0)
    return np.where(deviation > 0, deviation, 1)


def repeats_table(names: tuple[str, ...], values: np.ndarray) -> pd.DataFrame:
    """Values (C, repeats) as rows: unit, repeat, value."""
    count = values.shape[1]
    return pd.DataFrame(
        {"unit": np.repeat(names, count), "repeat": np.tile(np.arange(count), len(names)), "value": values.ravel()}
    )
