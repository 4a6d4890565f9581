"""Guards around every call of an explainer: they detect changes of the model and undo them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# The dicts of a bare module: its parameters, buffers, submodules and hooks of all kinds.
MODULE_DICTS = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
IN_WORDS = {"_parameters": "which parameters it has", "_buffers": "which buffers it has", "_modules": "its modules"}
SAME_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes per element


class ModelChanged(Exception):
    """An explainer changed the model; the change has been undone."""


class ModelGuard:
    """Records a model's modules, weights, hooks, mode and gradients; reports changes and undoes them.

    Gradients that were there before, from the user's own training, are recorded and restored like weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [_ModuleState(module) for module in model.modules()]
        self.tensors = [_TensorState(name, tensor) for name, tensor in _tensors(model)]

    def changes(self) -> list[str]:
        """What has changed, in words; empty if nothing has."""
        descriptions = list(dict.fromkeys(words for module in self.modules for words in module.changes()))
        changed = [tensor.name for tensor in self.tensors if not tensor.has_its_value()]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            descriptions.append(f"the values of {changed[0]}{more}")
        if not all(tensor.has_its_gradient() for tensor in self.tensors):
            descriptions.append("gradients left on its parameters, or taken from them")
        if any(tensor.tensor.requires_grad != tensor.wants_gradient for tensor in self.tensors):
            descriptions.append("which parameters require gradients")
        return descriptions

    def restore(self) -> None:
        """Undo every change, values bit for bit; ModelChanged if that is not possible."""
        for module in self.modules:
            module.restore()
        with torch.no_grad():
            for tensor in self.tensors:
                tensor.restore()
        left = self.changes()
        if left:
            raise ModelChanged(f"the explainer changed the model beyond repair: {', '.join(left)}")


class _ModuleState:
    """The recorded state of one module: its class (which a parametrization changes), its mode and its dicts."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind, self.training = module, type(module), module.training
        # A parametrized module has a class of its own; removing the parametrization deletes a property of that class.
        parametrized = vars(self.kind) if parametrize.is_parametrized(module) else {}
        self.properties = {name: value for name, value in parametrized.items() if isinstance(value, property)}
        own = vars(module)
        self.held = {name: own[name] for name in MODULE_DICTS if isinstance(own.get(name), dict)}
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
            vars(self.module)[name] = held  # the same dict object, because the handles of hooks refer to it
        if self.module.training != self.training:
            self.module.training = self.training


class _TensorState:
    """The recorded state of one parameter or buffer: its value, its gradient, and whether it requires one."""

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
    """Raise ModelChanged, after restoring the model, if the code inside changes it.

    The global random generators are restored too.
    """
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
    """Inside, no parameter requires a gradient; afterwards each is as before."""
    return requiring(model, False)


@contextmanager
def requiring(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Inside, every parameter requires a gradient, or none does; afterwards each is as before."""
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
    """Restore torch's and numpy's global random generators after the code inside, which may seed them or draw."""
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
    """Whether a dict holds the same objects under the same names in the same order."""
    return isinstance(now, dict) and list(now) == list(before) and all(now[key] is before[key] for key in before)


def _same_bits(now: Tensor, copy: Tensor) -> bool:
    if (now.dtype, now.shape, now.device) != (copy.dtype, copy.shape, copy.device):
        return False
    return torch.equal(_bits(now), _bits(copy))


def _bits(tensor: Tensor) -> Tensor:
    """The tensor's bits as integers, in which NaN equals NaN; a view, not a copy."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(SAME_BITS[tensor.element_size()]) if tensor.is_floating_point() else tensor


def _put_back(tensor: Tensor, copy: Tensor) -> None:
    """Restore the value in place, so that tensors that share the memory are restored too.

    That is not possible if dtype, shape or device of the tensor have changed: then it gets new memory.
    """
    if (tensor.dtype, tensor.shape, tensor.device) == (copy.dtype, copy.shape, copy.device):
        if not _same_bits(tensor, copy):
            tensor.copy_(copy)
    else:
        tensor.data = copy.clone()
