"""A model's decisions on a table, whether it predicts the explained class, and the rows that local rules draw from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import NotApplicable
from harness.explainers._tabular import check_rows, column_names, columns_of_numbers, names_of_numbers
from harness.predictor import predicted_class
from harness.removal.background import Background
from harness.samples import Samples
from harness.task import Task

MOST_NUMBERS_AT_ONCE = 2**22  # in rows that are built at once: bounds the memory


@dataclass(frozen=True)
class BackgroundRows:
    """Training inputs whose values take the place of a sample's own, with the model's outputs for them.

    inputs   (R, D), on the model's device
    outputs  (R, K) canonical outputs
    columns  (D,) int64, the column each number belongs to
    names    (C,) of the columns; their numbers where the data has no names
    """

    inputs: Tensor
    outputs: Tensor
    columns: np.ndarray
    names: tuple[str, ...]

    @property
    def number_names(self) -> tuple[str, ...]:
        """The names of the numbers (D,)."""
        return names_of_numbers(self.names, self.columns)

    @property
    def categorical(self) -> np.ndarray:
        """Whether a number is one of several of a category (D,) bool."""
        return np.bincount(self.columns)[self.columns] > 1


def background_rows(context: Samples, count: int) -> BackgroundRows:
    """``count`` training inputs, the same under all seeds; NotApplicable without any, and where no class is decided."""
    task = context.task
    rows = Background(count).inputs(context)
    outputs = context.predictor.logits(rows).view(len(rows), -1)
    if not task.classed or (outputs.shape[1] == 1 and not task.independent):
        raise NotApplicable("a rule or a counterfactual is about a class, the model's output is a number")
    check_rows(rows, outputs)
    return BackgroundRows(rows, outputs, columns_of_numbers(context), column_names(context))


def decided(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the target (rows,) is predicted, bool: it is the ``predicted_class`` of outputs (rows, K), or as an
    independent label has a probability above 1/2.
    """
    if task.independent:
        return task.probabilities(outputs).gather(1, targets[:, None])[:, 0] > 0.5
    return predicted_class(outputs) == targets


def own_decisions(context: Samples) -> tuple[Tensor, Tensor]:
    """Whether each sample's target is predicted, and whether that is known, since its outputs are finite: (n,) bool."""
    outputs = context.model_outputs().view(len(context), -1)
    return decided(context.task, outputs, context.targets), outputs.isfinite().all(1)


def refuse_unknown(context: Samples, known: Tensor, values: Tensor) -> Tensor:
    """The attributions (n, C) if all decisions are ``known`` (n,); else NotApplicable, with NaN for the others."""
    if known.all():
        return values
    some = names_of_some(context, ~known)
    reason = f"the model's outputs are not finite, which is no decision, for sample {some} or changed rows of it"
    raise NotApplicable(reason, maps=values.masked_fill(~known[:, None], torch.nan))


def names_of_some(context: Samples, chosen: Tensor) -> str:
    """The names of the samples that are ``chosen`` (n,) bool, five of them at most."""
    names = [str(name) for name, each in zip(sample_names(context), chosen, strict=True) if each]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


def lead(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """The target's probability less that of its strongest rival (rows,): the likeliest other class, or "not"."""
    shares = task.probabilities(outputs)
    own = shares.gather(1, targets[:, None])
    rival = 1 - own if task.independent else shares.scatter(1, targets[:, None], -1.0).amax(1, keepdim=True)
    return (own - rival)[:, 0]


def outputs_of(context: Samples, sample: Tensor, build: Callable[[Tensor], Tensor], known: Tensor) -> Tensor:
    """The model's outputs (rows, K) for inputs that ``build(rows)`` makes of the samples ``sample`` (rows,).

    Outputs that are not finite are no decision: they become 0, and ``known`` (n,) bool becomes False for the sample.
    """
    numbers = torch.arange(len(sample), device=sample.device)
    parts = numbers.split(max(1, MOST_NUMBERS_AT_ONCE // context.inputs[0].numel()))
    outputs = torch.cat([context.model_outputs(build(rows), sample[rows]).view(len(rows), -1) for rows in parts])
    lost = ~outputs.isfinite().all(1)
    known[sample[lost]] = False
    return outputs.masked_fill(lost[:, None], 0)


def decision_in_words(context: Samples, target: int, own: bool) -> str:
    """``class 1`` or ``not class 1``; ``label`` in place of ``class`` where labels do not exclude each other."""
    return f"{'' if own else 'not '}{'label' if context.task.independent else 'class'} {target}"


def sample_names(context: Samples) -> list[str | int]:
    """The ids of the samples; their numbers in the data set where they have none."""
    places = context.places.tolist()
    return places if context.ids is None else [str(context.ids[place]) for place in places]
