"""Training of small classifiers within a metric: from a seed, on the inputs' device, without side effects."""

import copy
import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.guards import isolated_randomness, requiring
from harness.identity import digest
from harness.metrics._outputs import output_count
from harness.metrics._weights import redrawn
from harness.models.training import reproducible
from harness.option_types import Count, Epochs, Range
from harness.predictor import Predictor
from harness.samples import Samples
from harness.task import Task

# Former names of the options of ``Training``.
RENAMED = {"largest": "most_work"}


@dataclass(frozen=True)
class Training:
    """Options of metrics that train models, with Adam and a learning rate that rises and falls once (one cycle).

    epochs       passes over the training inputs, at least 0
    rate         the highest learning rate; it falls to 0 at the end
    batch_size   the most inputs per step, at least 1
    most_work    the largest product of the number of parameters and the number of training inputs; beyond it the metric
                 is not applicable
    """

    epochs: Annotated[int, Range(0, 10_000)] = 20
    rate: Annotated[float, Range(1e-9, 10)] = 0.003
    batch_size: Count = 64
    most_work: Annotated[int, Range(1, 10**15)] = 10**8


@dataclass(frozen=True)
class TwinTraining(Training):
    """The same for models that have to be trained.

    epochs   passes over the training inputs, at least 1
    """

    epochs: Epochs = 20


def training_samples(samples: Samples, most_work: int) -> Samples:
    """The training inputs as samples with their labels for targets.

    NotApplicable without them, for a model without classes, and where the model's number of parameters times the number
    of training inputs is beyond ``most_work``.
    """
    if samples.train is None or samples.train_labels is None:
        raise NotApplicable("needs training inputs and their labels (give train= and train_labels=)")
    if samples.train_labels.is_floating_point() or not samples.task.exclusive or output_count(samples) == 1:
        raise NotApplicable("trains classifiers, but this model or its training labels have no classes")
    parameters = sum(each.numel() for each in samples.predictor.module.parameters())
    if parameters == 0:
        raise NotApplicable("the model has no parameters to train")
    if parameters * len(samples.train) > most_work:
        raise NotApplicable(
            f"trains models of {parameters:,} parameters on {len(samples.train):,} inputs, whose product is beyond "
            f"most_work={most_work:,}"
        )
    labels = samples.train_labels.to(samples.targets)
    return samples.other_inputs(samples.train.to(samples.inputs), labels, labels=labels)


def copied(model: nn.Module) -> nn.Module:
    """A copy of the model that can be trained, whatever mode the caller is in."""
    with torch.inference_mode(False):
        return copy.deepcopy(model)


def with_fresh_weights(model: nn.Module, seed: int) -> nn.Module:
    """A copy of the model with new initial weights and running statistics (``harness.metrics._weights``)."""
    twin = copied(model)
    names = [name for name, part in twin.named_modules() if _has_weights(part)]
    with torch.inference_mode(False), torch.no_grad():
        for old, new in redrawn(twin, names, seed, "reset"):
            old.copy_(new)
    return twin


def train_model(
    model: nn.Module,
    task: Task,
    build: Callable[[Tensor, torch.Generator], Tensor],
    labels: Tensor,
    training: Training,
    seed: int,
) -> nn.Module:
    """Train a classifier in place on the inputs that ``build(rows, generator)`` makes, and return it in eval mode.

    The order of the inputs and the draws of dropout depend only on the seed. NotApplicable where the training diverged.
    """
    generator, steps = torch.Generator().manual_seed(seed), -(-len(labels) // training.batch_size)
    with _reproducible(model, seed, labels.device):
        optimiser = torch.optim.Adam(model.train().parameters(), training.rate)
        total = max(1, training.epochs * steps)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=total)
        losses: list[Tensor] = []
        for _ in range(training.epochs):
            order = torch.randperm(len(labels), generator=generator).to(labels.device)
            for rows in order.tensor_split(steps):  # even parts: batch normalisation needs more than one input
                optimiser.zero_grad()
                loss = task.loss(model(build(rows, generator)), labels[rows])
                loss.backward()
                losses.append(loss.detach())
                optimiser.step()
                cycle.step()
        model.zero_grad()
    if losses:
        _check_converged(torch.stack(losses), steps, int(labels.max()) + 1, training.rate)
    return model.eval()


def _check_converged(losses: Tensor, steps: int, classes: int, rate: float) -> None:
    """NotApplicable where the losses (steps of all epochs,) end beyond those of the start and of an even guess.

    Such a model has learnt nothing, so that a score of it says nothing of an explanation. Twice either loss is left to
    chance: inputs without their informative units end near an even guess.
    """
    first, last = losses[0].item(), losses[-steps:].mean().item()
    if not last <= 2 * max(first, math.log(max(2, classes))):
        raise NotApplicable(
            f"the training diverged: its loss went from {first:.3g} to {last:.3g} (give less than rate={rate:g})"
        )


def on_model(samples: Samples, model: nn.Module, key: Hashable) -> Samples:
    """The same samples on another model with this key, whose outputs go into a memo of their own, kept as theirs is."""
    memo = samples.shared(key, getattr(samples.memo, "another", dict))
    return replace(samples.live(), predictor=predictor_of(samples, model), memo=memo, scratch={}, block={})


def predictor_of(samples: Samples, model: nn.Module) -> Predictor:
    """A predictor like that of the samples, of another model."""
    return replace(samples.predictor.live(), module=model)


def seed_of(seed: int, use: str) -> int:
    """A seed derived from another one for one use."""
    return int(digest(f"{seed}/{use}"), 16)


def _has_weights(part: nn.Module) -> bool:
    return hasattr(part, "reset_parameters") or any(True for _ in part.parameters(recurse=False))


@contextmanager
def _reproducible(model: nn.Module, seed: int, device: torch.device) -> Iterator[None]:
    """Inside, generators, threads and kernels are fixed, and every parameter has a gradient; restored afterwards."""
    kernels = torch.backends.cudnn
    before = kernels.deterministic, kernels.benchmark
    kernels.deterministic, kernels.benchmark = True, False
    try:
        with isolated_randomness(device), reproducible(seed), torch.inference_mode(False), requiring(model, True):
            yield
    finally:
        kernels.deterministic, kernels.benchmark = before
