"""Guards around every call of foreign code: the model must come back as it went in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ModelChanged(Exception):
    """An explainer left the model other than it found it; the model has been put back."""


class ModelGuard:
    """Remembers a model's weights, hooks, mode and gradients; says what changed, and puts it back."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.tensors = {name: tensor for name, tensor in _tensors(model)}
        self.copies = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.modes = {module: module.training for module in model.modules()}
        self.hooks = {(module, kind): dict(getattr(module, kind)) for module in model.modules() for kind in HOOKS}
        self.wants_gradient = {name: parameter.requires_grad for name, parameter in model.named_parameters()}

    def changes(self) -> list[str]:
        """What is no longer as it was, in words; empty if nothing."""
        found = []
        now = dict(_tensors(self.model))
        if now.keys() != self.tensors.keys():
            found.append("the names of its parameters and buffers")
        changed = [n for n, t in self.tensors.items() if n in now and not _same(now[n], t, self.copies[n])]
        if changed:
            found.append(f"the values of {changed[0]}" + (f" and {len(changed) - 1} more" if len(changed) > 1 else ""))
        if any(module.training != mode for module, mode in self.modes.items()):
            found.append("its train or eval mode")
        if any(dict(getattr(module, kind)) != before for (module, kind), before in self.hooks.items()):
            found.append("its hooks")
        if any(parameter.grad is not None for parameter in self.model.parameters()):
            found.append("gradients left on its parameters")
        if any(p.requires_grad != self.wants_gradient.get(n) for n, p in self.model.named_parameters()):
            found.append("which parameters require gradients")
        return found

    def restore(self) -> None:
        """Put back weights (bit for bit), modes and hooks, and drop gradients."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(self.copies[name])
        for module, mode in self.modes.items():
            module.training = mode
        for (module, kind), before in self.hooks.items():
            getattr(module, kind).clear()
            getattr(module, kind).update(before)
        for name, parameter in self.model.named_parameters():
            parameter.grad = None
            if name in self.wants_gradient:
                parameter.requires_grad_(self.wants_gradient[name])


@contextmanager
def guarded(model: nn.Module) -> Iterator[None]:
    """Raise ModelChanged, after putting the model back, if the code inside leaves it changed; isolate global
    randomness."""
    guard = ModelGuard(model)
    device = next((tensor.device for tensor in guard.tensors.values()), torch.device("cpu"))
    try:
        with isolated_randomness(device):
            yield
    finally:
        changes = guard.changes()
        if changes:
            guard.restore()
    if changes:
        raise ModelChanged(f"the explainer changed the model: {', '.join(changes)}")


@contextmanager
def isolated_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's and numpy's global generators as they were, whatever the code inside seeds or draws."""
    numpy_state = np.random.get_state()
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _same(now: Any, before: Tensor, copy: Tensor) -> bool:
    return now is before and torch.equal(torch.nan_to_num(now), torch.nan_to_num(copy))
