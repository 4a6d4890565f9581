"""Permutation importance: how much worse a model becomes when a column of a table is permuted."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._tabular import (
    GLOBAL,
    TRAINING_ROWS,
    FittedLabels,
    Rows,
    broadcast,
    repeats_table,
    training_table,
)
from harness.option_types import Repeats
from harness.predictor import NO_CLASS, Predictor, predicted_class
from harness.randomness import element, permutations
from harness.registry import explainer
from harness.removal.background import global_key
from harness.samples import Samples
from harness.task import CLASSES, LOG_PROBABILITY, Task


def _error_rate(outputs: Tensor, truth: Tensor, task: Task = CLASSES) -> Tensor:
    predicted = predicted_class(outputs.flatten(0, -2)).view(outputs.shape[:-1])
    wrong = (predicted != truth).double()
    return wrong.masked_fill(predicted == NO_CLASS, torch.nan).mean(-1)


def _log_loss(outputs: Tensor, truth: Tensor, task: Task = CLASSES) -> Tensor:
    tracked = task.track(outputs.flatten(0, -2), truth.expand(outputs.shape[:-1]).flatten())
    return -tracked[:, LOG_PROBABILITY].view(outputs.shape[:-1]).double().mean(-1)


def _squared_error(outputs: Tensor, truth: Tensor, task: Task = CLASSES) -> Tensor:
    return (outputs[..., 0].double() - truth).square().mean(-1)


# Losses (...,) of canonical outputs (..., R, K) against the truth (R,); the task says what probabilities these mean.
LOSSES = {"accuracy": _error_rate, "log_loss": _log_loss, "squared_error": _squared_error}


def _permute(model: nn.Module, context: Samples, /, repeats: int, score: str | None, labels: str, rows: int) -> Tensor:
    table = training_table(context, rows)
    score = score or ("squared_error" if table.single else "accuracy")
    if table.single != (score == "squared_error"):
        what = "a single output: use score=squared_error" if table.single else "several classes"
        raise NotApplicable(f"score={score} does not fit a model with {what}")
    if score == "log_loss":
        table.check_probabilities()
    truth = table.truth(labels).to(table.inputs.device)
    of_explained = partial(LOSSES[score], truth=truth, task=table.task)
    loss = lambda outputs: of_explained(table.explained(outputs))
    key = global_key(context.seed, "permutation importance").to(table.inputs.device)
    values = loss_increases(
        context.predictor,
        table.inputs,
        loss,
        repeats,
        lambda pairs: permutations(element(key, pairs), 1, len(truth))[:, 0],
        torch.from_numpy(table.columns),
    )
    if not values.isfinite().all():
        why = "an output is not a number, or the right class has the probability 0"
        raise NotApplicable(f"the {score} is not finite: {why}")
    if not values.any():
        raise NotApplicable(f"no permutation of any column changes the {score} on the {len(truth)} training rows")
    intact = float(of_explained(table.outputs))
    context.tell(
        repeats=repeats_table(table.names, values.T.cpu().numpy()),
        explains="model",
        measured_on=labels,
        training_rows=len(truth),
        **({"accuracy": 1 - intact} if score == "accuracy" else {score: intact}),
    )
    return values.mean(0)


def loss_increases(
    predictor: Predictor,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    repeats: int,
    orders: Callable[[Tensor], Tensor],
    columns: Tensor,
) -> Tensor:
    """The growth of the loss when one of C columns of ``inputs`` (R, D) is permuted: (repeats, C), float64.

    ``columns`` (D,) says which column each number belongs to: they are permuted together. ``loss`` maps outputs (P, R,
    K) to (P,). ``orders`` maps the numbers of P pairs, repeat * C + column, to orders of the rows (P, R). As many pairs
    are evaluated at once as fill a forward pass.
    """
    count, columns = len(inputs), columns.to(inputs.device)
    total = int(columns.max()) + 1
    losses = []
    for some in torch.arange(repeats * total, device=inputs.device).split(max(1, predictor.chunk // count)):
        own = columns == (some % total)[:, None]
        permuted = torch.where(own[:, None], inputs[orders(some)], inputs)
        losses.append(loss(predictor.logits(permuted.flatten(0, 1)).view(len(some), count, -1)))
    intact = loss(predictor.logits(inputs).view(1, count, -1))
    return torch.cat(losses).double().view(repeats, total) - intact.double()


@explainer(
    **GLOBAL | {"cost": "once: (R C + 1) T F"},
    stochastic=True,
    prepare=_permute,
    tunable={"repeats": (30,), "score": ("log_loss",)},
)
def permutation_importance(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepared: Tensor,
    repeats: Repeats = 10,
    score: Literal["accuracy", "log_loss", "squared_error"] | None = None,
    labels: FittedLabels = "label",
    rows: Rows = TRAINING_ROWS,
) -> Tensor:
    """Permutation importance: how much worse the model becomes when a column's values are permuted among the training
    rows (Breiman 2001; Fisher et al. 2018, 1801.01489, as a difference).

    Shape (N, C), the same for all samples: for each of C columns the mean over ``repeats`` permutations, in which all
    the numbers that encode the column are permuted together. ``score`` says what it is: the drop of the ``accuracy``,
    or the growth of the mean ``log_loss`` (nats) or ``squared_error``, which is the default for a single output. It is
    about 0 for columns that are not used, by chance also below 0. ``labels`` says what is right: the true ``label``, or
    the class that the model itself has ``predicted``. A repeat costs R (C + 1) evaluations for R training rows. Facts:
    the table ``repeats`` (unit, repeat, value). Not applicable without training inputs, without their labels unless
    ``labels`` is predicted, to a single output by another score than ``squared_error``, where the log loss is infinite,
    and where no permutation changes anything.

    Example: classes(x) is class 1 where x1 > 0, in half of the training rows. Permuting x1 gives about half of the rows
    the wrong class, permuting x2 none.

    >>> rows = {"train": train, "labels": "predicted"}
    >>> harness.explain("permutation_importance", classes, x, target, **rows).round(decimals=1)
    tensor([[0.5000, 0.0000]])
    """
    return broadcast(prepared, inputs, targets)
