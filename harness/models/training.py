"""Small classifiers trained on the spot: from a seed, on one thread of the CPU, and kept in the cache."""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.assets import cached_state

BATCH_SIZE = 64


def trained(
    name: str, build: Callable[[], nn.Module], load_split: Callable[[], dict[str, Any]], *, seed: int, epochs: int,
    rate: float, decay: float = 0.0,
) -> nn.Module:  # fmt: skip
    """The classifier that ``build()`` makes, trained on the part ``train`` of a split, in eval mode and frozen.

    ``load_split()`` gives part -> (inputs, labels, ...). Weights trained before are taken from the cache if nothing
    they depend on has changed: options, the source files of ``build``, ``load_split`` and this module, and libraries.
    """
    options = {"seed": seed, "epochs": epochs, "rate": rate, "decay": decay}
    libraries = {library: version(library) for library in ("torch", "scikit-learn")}
    identity = {"options": options, "code": _code(build, load_split, fit), "libraries": libraries}
    state = cached_state(name, identity, lambda: fit(build, *load_split()["train"][:2], **options).state_dict())
    with reproducible(seed):  # building draws first weights, which nobody else's random numbers should notice
        module = build()
    module.load_state_dict(state)
    return module.requires_grad_(False).eval()


def fit(
    build: Callable[[], nn.Module], inputs: Tensor, labels: Tensor, *, seed: int, epochs: int, rate: float, decay: float
) -> nn.Module:
    """Train ``build()`` with Adam and cross-entropy; the learning rate rises to ``rate`` and falls to nought."""
    with reproducible(seed):
        module = build().train()
        optimiser = torch.optim.Adam(module.parameters(), weight_decay=decay)
        steps = epochs * -(-len(inputs) // BATCH_SIZE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        for _ in range(epochs):
            for rows in torch.randperm(len(inputs)).split(BATCH_SIZE):
                optimiser.zero_grad()
                cross_entropy(module(inputs[rows]), labels[rows]).backward()
                optimiser.step()
                schedule.step()
    return module


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
    """A hash of the source files that define these functions."""
    files = sorted({inspect.getsourcefile(function) for function in functions})
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
