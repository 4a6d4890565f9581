"""Small models trained on the spot: from a seed, on one thread of the CPU, and kept in the cache."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from harness.assets import cached_state
from harness.code_version import normal_form
from harness.errors import UserError
from harness.messages import now_and_then, say

LIBRARIES = ("numpy", "pillow", "scikit-image", "scikit-learn", "scipy", "torch")  # that weights may depend on


@dataclass(frozen=True)
class Recipe:
    """How a small model is made, from which variants of it follow.

    name         of the model, and of the file of its weights
    build        makes the network, its first weights drawn from torch's generator
    load_split   gives part -> (inputs, labels, ...); it is trained on ``train``. Labels are class indices, or float
                 numbers for a network with a single output
    epochs, rate, decay, batch_size   of Adam; the learning rate rises to ``rate`` and falls to nought
    shallow      makes a smaller network for the same inputs and outputs, or None
    l1           weight of the sum of all weights' magnitudes in the loss
    adversarial  largest change of an input's numbers by the gradient's sign, for training on such inputs (1412.6572)
    shuffled     whether labels are permuted among the inputs (1611.03530)
    reads        what ``load_split`` calls in other files that decide the weights, if anything
    """

    name: str
    build: Callable[[], nn.Module]
    load_split: Callable[[], Mapping[str, Any]]
    epochs: int = 20
    rate: float = 0.01
    decay: float = 0.0
    batch_size: int = 64
    shallow: Callable[[], nn.Module] | None = None
    l1: float = 0.0
    adversarial: float = 0.0
    shuffled: bool = False
    reads: tuple[Callable, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the weights besides code, data and seed."""
        names = ("epochs", "rate", "decay", "batch_size", "l1", "adversarial", "shuffled")
        return {name: getattr(self, name) for name in names}


RECIPES: dict[str, Recipe] = {}


def offered(recipe: Recipe) -> Recipe:
    """Make a recipe known by its name, for variants of the model."""
    RECIPES[recipe.name] = recipe
    return recipe


def trained(recipe: Recipe, *, seed: int, epochs: int | None = None) -> nn.Module:
    """The model that a recipe makes, in eval mode and frozen; ``epochs`` None are the recipe's own.

    Weights trained before are taken from the cache if nothing they depend on has changed: settings, the source files
    of ``build``, ``load_split``, what it ``reads`` and this module, and libraries.
    """
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    if recipe.epochs < 1:
        raise UserError(f"epochs is {recipe.epochs}, expected a whole number from 1")
    libraries = {library: version(library) for library in LIBRARIES}
    code = _code(recipe.build, recipe.load_split, *recipe.reads, fit)
    identity = {
        "options": {"seed": seed, **recipe.settings},
        "code": code,
        "libraries": libraries,
        "build": recipe.build.__qualname__,
    }
    state = cached_state(recipe.name, identity, lambda: fit(recipe, seed=seed).state_dict())
    with reproducible(seed):  # building draws first weights, which nobody else's random numbers should notice
        module = recipe.build()
    module.load_state_dict(state)
    return module.requires_grad_(False).eval()


def fit(recipe: Recipe, *, seed: int) -> nn.Module:
    """Train a recipe's network with Adam, on cross-entropy, or on squared errors where the labels are numbers."""
    inputs, labels = recipe.load_split()["train"][:2]
    say(f"training {recipe.name}, once: {recipe.epochs} epochs on {len(inputs):,} samples")
    tell = now_and_then()
    with reproducible(seed):
        module = recipe.build().train()
        labels = labels[torch.randperm(len(labels))] if recipe.shuffled else labels
        optimiser = torch.optim.Adam(
            [weight for weight in module.parameters() if weight.requires_grad], weight_decay=recipe.decay
        )
        steps = recipe.epochs * -(-len(inputs) // recipe.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
        for epoch in range(recipe.epochs):
            for rows in torch.randperm(len(inputs)).split(recipe.batch_size):
                loss = _loss(recipe, module, inputs[rows], labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            tell(f"training {recipe.name}: {epoch + 1} of {recipe.epochs} epochs, loss {loss.item():.3g}")
    return module


def _loss(recipe: Recipe, module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    if recipe.adversarial:
        inputs = _attacked(module, inputs, labels, recipe.adversarial)
    loss = _error(module(inputs), labels)
    if recipe.l1:
        loss = loss + recipe.l1 * sum(weight.abs().sum() for weight in module.parameters())
    return loss


def _error(outputs: Tensor, labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        return mse_loss(outputs.view(-1), labels)
    return cross_entropy(outputs, labels)


def _attacked(module: nn.Module, inputs: Tensor, labels: Tensor, size: float) -> Tensor:
    """Inputs moved by ``size`` along the sign of the loss's gradient (Goodfellow et al. 2015, 1412.6572)."""
    inputs = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_error(module(inputs), labels), inputs)
    return (inputs + size * gradient.sign()).detach()


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """One seed, one thread (the order of sums depends on their number) and the CPU; all put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.enable_grad():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _code(*functions: Callable) -> str:
    """A hash of what the source files that define these functions do; their docstrings and comments do not count."""
    files = sorted({inspect.getsourcefile(inspect.unwrap(function)) for function in functions})
    forms = (normal_form(Path(file).read_text(encoding="utf-8")) for file in files)
    return hashlib.sha256("".join(forms).encode()).hexdigest()
