"""Training of small classifiers within a metric: from a seed, on the inputs' device, without a trace elsewhere."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.errors import NotApplicable, UserError
from harness.guards import isolated_randomness, requiring
from harness.identity import digest
from harness.metrics._weights import redrawn
from harness.models.training import reproducible
from harness.predictor import LOG_ODDS
from harness.samples import Samples


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: Adam, rate rising to ``rate`` and falling to nought, by up to ``batch_size`` inputs."""

    epochs: int
    rate: float
    batch_size: int

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}, expected at least {least}")


def training_samples(samples: Samples, largest: int) -> Samples:
    """The training inputs as samples with their labels for targets.

    NotApplicable without them, for a model without classes, and where the model's number of parameters times the number
    of training inputs is beyond ``largest``.
    """
    if samples.train is None or samples.train_labels is None:
        raise NotApplicable("needs training inputs and their labels (give train= and train_labels=)")
    if samples.train_labels.is_floating_point() or samples.intact()[:, LOG_ODDS].isnan().all():
        raise NotApplicable("trains classifiers, and this model or its training labels have no classes")
    parameters = sum(each.numel() for each in samples.predictor.module.parameters())
    if parameters == 0:
        raise NotApplicable("the model has no parameters to train")
    if parameters * len(samples.train) > largest:
        raise NotApplicable(
            f"trains models of {parameters:,} parameters on {len(samples.train):,} inputs, whose product is beyond "
            f"largest={largest:,}"
        )
    labels = samples.train_labels.to(samples.targets)
    return replace(
        samples,
        inputs=samples.train.to(samples.inputs),
        targets=labels,
        labels=labels,
        keys=None,
        masks=None,
        truth=None,
        given_segments=None,
        places=None,
        memo={},
        scratch={},
        facts=None,
        output_cache=None,
    )


def copied(model: nn.Module) -> nn.Module:
    """A copy of the model that can be trained, whatever mode the caller is in."""
    with torch.inference_mode(False):
        return copy.deepcopy(model)


def fresh(model: nn.Module, seed: int) -> nn.Module:
    """A copy of the model with new first weights, running statistics included (``harness.metrics._weights``)."""
    twin = copied(model)
    names = [name for name, part in twin.named_modules() if _has_weights(part)]
    with torch.inference_mode(False), torch.no_grad():
        for old, new in redrawn(twin, names, seed, "reset"):
            old.copy_(new)
    return twin


def fit(
    model: nn.Module, build: Callable[[Tensor, torch.Generator], Tensor], labels: Tensor, recipe: Recipe, seed: int
) -> nn.Module:
    """Train a model in place on the inputs that ``build(rows, generator)`` makes; in eval mode and without gradients.

    The order of the inputs and the draws of dropout depend on the seed alone.
    """
    generator, steps = torch.Generator().manual_seed(seed), -(-len(labels) // recipe.batch_size)
    with _reproducible(model, seed, labels.device):
        optimiser = torch.optim.Adam(model.train().parameters(), recipe.rate)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=max(1, recipe.epochs * steps))
        for _ in range(recipe.epochs):
            order = torch.randperm(len(labels), generator=generator).to(labels.device)
            for rows in order.tensor_split(steps):  # even parts: batch normalisation cannot do with one input
                optimiser.zero_grad()
                cross_entropy(model(build(rows, generator)), labels[rows]).backward()
                optimiser.step()
                cycle.step()
        model.zero_grad()
    return model.eval()


def seed_of(seed: int, use: str) -> int:
    """The seed of one use."""
    return int(digest(f"{seed}/{use}"), 16)


def _has_weights(part: nn.Module) -> bool:
    return hasattr(part, "reset_parameters") or any(True for _ in part.parameters(recurse=False))


@contextmanager
def _reproducible(model: nn.Module, seed: int, device: torch.device) -> Iterator[None]:
    """Generators, threads and kernels fixed, and gradients for every parameter; all put back afterwards."""
    kernels = torch.backends.cudnn
    before = kernels.deterministic, kernels.benchmark
    kernels.deterministic, kernels.benchmark = True, False
    try:
        with isolated_randomness(device), reproducible(seed), torch.inference_mode(False), requiring(model, True):
            yield
    finally:
        kernels.deterministic, kernels.benchmark = before
