"""Small models that are trained when they are first used: from a seed, on one thread of the CPU, and then cached."""

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
from harness.messages import now_and_then, say
from harness.option_types import Epochs, Seed

WEIGHTS_DEPEND_ON = ("numpy", "pillow", "scikit-image", "scikit-learn", "scipy", "torch")  # libraries


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the models that are trained here. The weights are cached, so that a model is trained once per setting.

    seed    of the first weights and of the order of the training samples
    epochs  number of passes over the training part; None is the model's own number
    """

    seed: Seed = 0
    epochs: Epochs | None = None


@dataclass(frozen=True)
class PeopleTrainingOptions(TrainingOptions):
    """Options of the models for the data sets about people.

    seed, epochs    those of ``TrainingOptions``
    with_sensitive  whether the sensitive columns are inputs; it must have the same value as in the data set
    """

    with_sensitive: bool = True


@dataclass(frozen=True)
class TrainingRecipe:
    """How a small model is built and trained; variants of the model change one of these settings.

    name         of the model, and of the file of its weights
    build        makes the network, with first weights from torch's generator
    load_split   gives part -> (inputs, labels, ...); the model is trained on ``train``. Labels are class indices, or
                 float numbers for a network with a single output
    epochs, rate, decay, batch_size   of Adam; the learning rate rises to ``rate`` and then falls to 0
    shallow      makes a smaller network for the same inputs and outputs, or None
    l1           weight of the sum of all weights' magnitudes in the loss
    adversarial  size of the step along the sign of the gradient by which training inputs are moved (1412.6572)
    shuffled     whether labels are permuted among the inputs (1611.03530)
    reads        functions and classes of other files on which the weights depend through ``load_split``
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
        """The settings on which the weights depend, besides code, data and seed."""
        names = ("epochs", "rate", "decay", "batch_size", "l1", "adversarial", "shuffled")
        return {name: getattr(self, name) for name in names}


RECIPES: dict[str, TrainingRecipe] = {}


def offered(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe, which from now on is known by its name, so that the model has variants."""
    RECIPES[recipe.name] = recipe
    return recipe


def trained(recipe: TrainingRecipe, options: TrainingOptions) -> nn.Module:
    """The model that a recipe makes, in eval mode and frozen.

    The weights come from the cache if nothing has changed on which they depend: the options and settings, the source
    files of ``build``, ``load_split``, ``reads`` and this module, and the versions of libraries.
    """
    seed, epochs = options.seed, options.epochs
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    identity = {
        "options": {"seed": seed, **recipe.settings},
        "code": source_digest(recipe.build, recipe.load_split, *recipe.reads, train_network),
        "libraries": {library: version(library) for library in WEIGHTS_DEPEND_ON},
        "build": recipe.build.__qualname__,
    }
    state = cached_state(recipe.name, identity, lambda: train_network(recipe, seed=seed).state_dict())
    module = untrained(recipe, seed=seed)
    module.load_state_dict(state)
    return module.requires_grad_(False).eval()


def untrained(recipe: TrainingRecipe, *, seed: int) -> nn.Module:
    """The network of a recipe with its first weights; the caller's random state is left as it was."""
    with reproducible(seed):
        return recipe.build()


def train_network(recipe: TrainingRecipe, *, seed: int) -> nn.Module:
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
                loss = _training_loss(recipe, module, inputs[rows], labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            tell(f"training {recipe.name}: {epoch + 1} of {recipe.epochs} epochs, loss {loss.item():.3g}")
    return module


def _training_loss(recipe: TrainingRecipe, module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    if recipe.adversarial:
        inputs = _moved_along_gradient(module, inputs, labels, recipe.adversarial)
    loss = _prediction_error(module(inputs), labels)
    if recipe.l1:
        loss = loss + recipe.l1 * sum(weight.abs().sum() for weight in module.parameters())
    return loss


def _prediction_error(outputs: Tensor, labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        return mse_loss(outputs.view(-1), labels)
    return cross_entropy(outputs, labels)


def _moved_along_gradient(module: nn.Module, inputs: Tensor, labels: Tensor, size: float) -> Tensor:
    """Inputs moved by ``size`` along the sign of the loss's gradient (Goodfellow et al. 2015, 1412.6572)."""
    inputs = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_prediction_error(module(inputs), labels), inputs)
    return (inputs + size * gradient.sign()).detach()


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Within it random numbers start at ``seed``, on the CPU and on one thread, on whose number the order of sums
    depends; afterwards all is as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.enable_grad():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def source_digest(*functions: Callable) -> str:
    """A hash of the source files that define these functions, without docstrings and comments."""
    files = sorted({inspect.getsourcefile(inspect.unwrap(function)) for function in functions})
    forms = (normal_form(Path(file).read_text(encoding="utf-8")) for file in files)
    return hashlib.sha256("".join(forms).encode()).hexdigest()
