"""Guards around every call of foreign code: the model must come back as it went in."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# Every dict a bare module keeps of itself: its parameters, buffers, submodules and hooks of all kinds.
HELD = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
IN_WORDS = {"_parameters": "which parameters it has", "_buffers": "which buffers it has", "_modules": "its modules"}
SAME_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes per element


class ModelChanged(Exception):
    """An explainer left the model other than it found it; the model has been put back."""


class ModelGuard:
    """Remembers a model's modules, weights, hooks, mode and gradients; says what changed, and puts it back.

    Gradients that the user's own training left are remembered like weights: they are the user's.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [_Module(module) for module in model.modules()]
        self.tensors = [_Tensor(name, tensor) for name, tensor in _tensors(model)]

    def changes(self) -> list[str]:
        """What is no longer as it was, in words; empty if nothing."""
        found = list(dict.fromkeys(words for module in self.modules for words in module.changes()))
        changed = [tensor.name for tensor in self.tensors if not tensor.has_its_value()]
        if changed:
            found.append(f"the values of {changed[0]}" + (f" and {len(changed) - 1} more" if len(changed) > 1 else ""))
        if not all(tensor.has_its_gradient() for tensor in self.tensors):
            found.append("gradients left on its parameters, or taken from them")
        if any(tensor.tensor.requires_grad != tensor.wants_gradient for tensor in self.tensors):
            found.append("which parameters require gradients")
        return found

    def restore(self) -> None:
        """Put everything back, values bit for bit; ModelChanged if that did not succeed."""
        for module in self.modules:
            module.restore()
        with torch.no_grad():
            for tensor in self.tensors:
                tensor.restore()
        left = self.changes()
        if left:
            raise ModelChanged(f"the explainer changed the model beyond repair: {', '.join(left)}")


class _Module:
    """What one module was: its class (a parametrization changes it), its mode, and what it held."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind, self.training = module, type(module), module.training
        # A parametrized module has a class of its own, and removing the parametrization takes the property off it.
        parametrized = vars(self.kind) if parametrize.is_parametrized(module) else {}
        self.properties = {name: value for name, value in parametrized.items() if isinstance(value, property)}
        own = vars(module)
        self.held = {name: own[name] for name in HELD if isinstance(own.get(name), dict)}
        self.contents = {name: dict(held) for name, held in self.held.items()}

    def changes(self) -> Iterator[str]:
        own = vars(self.module)
        if type(self.module) is not self.kind or not self.properties.keys() <= vars(self.kind).keys():
            yield "the class of a module"
        for name, before in self.contents.items():
            if not _same_contents(own.get(name), before):
                yield IN_WORDS.get(name, "its hooks")
        if self.module.training != self.training:
            yield "its train or eval mode"

    def restore(self) -> None:
        if type(self.module) is not self.kind:
            self.module.__class__ = self.kind
        for name, value in self.properties.items():
            setattr(self.kind, name, value)
        for name, held in self.held.items():
            held.clear()
            held.update(self.contents[name])
            vars(self.module)[name] = held  # the very dict: the handles of hooks refer to it
        if self.module.training != self.training:
            self.module.training = self.training


class _Tensor:
    """What one parameter or buffer was: its value, its gradient, and whether it wants one."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name, self.tensor, self.value = name, tensor, tensor.detach().clone()
        self.wants_gradient = tensor.requires_grad
        self.gradient = tensor.grad if tensor.is_leaf else None
        self.gradient_value = None if self.gradient is None else self.gradient.detach().clone()

    def has_its_value(self) -> bool:
        return _same_bits(self.tensor, self.value)

    def has_its_gradient(self) -> bool:
        now = self.tensor.grad if self.tensor.is_leaf else None
        return now is self.gradient and (now is None or _same_bits(now, self.gradient_value))

    def restore(self) -> None:
        _put_back(self.tensor, self.value)
        if self.tensor.requires_grad != self.wants_gradient:
            self.tensor.requires_grad_(self.wants_gradient)
        if not self.has_its_gradient():
            if self.gradient is not None:
                _put_back(self.gradient, self.gradient_value)
            self.tensor.grad = self.gradient


@contextmanager
def guarded(model: nn.Module) -> Iterator[None]:
    """Raise ModelChanged, after putting the model back, if the code inside leaves it changed; isolate global
    randomness."""
    guard = ModelGuard(model)
    device = next((tensor.value.device for tensor in guard.tensors), torch.device("cpu"))
    try:
        with isolated_randomness(device):
            yield
    finally:
        changes = guard.changes()
        if changes:
            guard.restore()
    if changes:
        raise ModelChanged(f"the explainer changed the model: {', '.join(changes)}")


def frozen(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, no parameter requires a gradient; afterwards those do that did before."""
    return requiring(model, False)


@contextmanager
def requiring(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Inside, every parameter requires a gradient, or none does; afterwards those do that did before."""
    changed = [each for each in model.parameters() if each.requires_grad != wanted and each.is_floating_point()]
    try:
        for parameter in changed:
            parameter.requires_grad_(wanted)
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(not wanted)


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


def _same_contents(now: Any, before: dict[str, Any]) -> bool:
    """Whether a dict holds the very same objects under the same names in the same order."""
    return isinstance(now, dict) and list(now) == list(before) and all(now[key] is before[key] for key in before)


def _same_bits(now: Tensor, copy: Tensor) -> bool:
    if (now.dtype, now.shape, now.device) != (copy.dtype, copy.shape, copy.device):
        return False
    return torch.equal(_bits(now), _bits(copy))


def _bits(tensor: Tensor) -> Tensor:
    """A view as whole numbers, in which NaN equals itself; nothing is copied."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(SAME_BITS[tensor.element_size()]) if tensor.is_floating_point() else tensor


def _put_back(tensor: Tensor, copy: Tensor) -> None:
    """In place, so that whoever shares the memory sees it too, unless the tensor was given memory of another form."""
    if (tensor.dtype, tensor.shape, tensor.device) == (copy.dtype, copy.shape, copy.device):
        if not _same_bits(tensor, copy):
            tensor.copy_(copy)
    else:
        tensor.data = copy.clone()
