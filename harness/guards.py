"""Guards around every call of an explainer: they detect changes of the model and undo them.

Some models change buffers in every forward pass or make them in the first one: counters, observers, tables of places.
Such changes are not the explainer's. They are learned from plain forward calls (``own_changes_noted``) and left alone.
"""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

# The dicts of a bare module: its parameters, buffers, submodules and hooks of all kinds.
MODULE_DICTS = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
IN_WORDS = {"_parameters": "which parameters it has", "_buffers": "which buffers it has", "_modules": "its modules"}
# The names of the buffers that a module makes or changes by itself in a forward pass.
_own_changes: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
SAME_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes per element


class ModelChanged(Exception):
    """An explainer changed the model; the change has been undone."""


class ModelGuard:
    """Records a model's modules, weights, hooks, mode and gradients; reports changes and undoes them.

    Gradients that were there before, from the user's own training, are recorded and restored like weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [_ModuleState(module) for module in model.modules()]
        kinds = {kind for module in model.modules() for kind in type(module).__mro__ if kind is not object}
        self.functions = [(kind, _functions_of(kind)) for kind in kinds]
        own = {id(module._buffers.get(name)) for module, names in _own_buffers(model) for name in names}
        self.tensors = [_TensorState(name, tensor) for name, tensor in _tensors(model) if id(tensor) not in own]

    def changes(self) -> list[str]:
        """What has changed, in words; empty if nothing has."""
        descriptions = list(dict.fromkeys(words for module in self.modules for words in module.changes()))
        if any(_functions_of(kind) != functions for kind, functions in self.functions):
            descriptions.append("the functions of a module's class")
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
        for kind, functions in self.functions:
            for name in _functions_of(kind).keys() - functions.keys():
                delattr(kind, name)
            for name, function in functions.items():
                if vars(kind).get(name) is not function:
                    setattr(kind, name, function)
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
        self.own_buffers = frozenset(_own_changes.get(module, ()))
        self.functions = _own_functions(module)

    def changes(self) -> Iterator[str]:
        own = vars(self.module)
        if type(self.module) is not self.kind or not self.properties.keys() <= vars(self.kind).keys():
            yield "the class of a module"
        for name, before in self.contents.items():
            if not _same_contents(own.get(name), before, self.own_buffers if name == "_buffers" else frozenset()):
                yield IN_WORDS.get(name, "its hooks")
        if _own_functions(self.module) != self.functions:
            yield "its forward or another function of it"
        if self.module.training != self.training:
            yield "its train or eval mode"

    def restore(self) -> None:
        if type(self.module) is not self.kind:
            self.module.__class__ = self.kind
        for name, value in self.properties.items():
            setattr(self.kind, name, value)
        for name, held in self.held.items():
            before, present = self.contents[name], dict(held)
            held.clear()
            held.update(before)
            if name == "_buffers":
                held.update({each: present[each] for each in self.own_buffers & present.keys()})
            vars(self.module)[name] = held  # the same dict object, because the handles of hooks refer to it
        for name in _own_functions(self.module).keys() - self.functions.keys():
            del vars(self.module)[name]
        vars(self.module).update(self.functions)
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


@contextmanager
def own_changes_noted(model: nn.Module) -> Iterator[None]:
    """Inside, the model is called as its user would call it; buffers that it changes are its own from then on.

    So are the other buffers of the same module: of an observer, the lowest value may change at one input and the
    largest at another. Guards of this model neither report nor undo a change of these buffers. Nothing else is learned:
    a parameter that changes in a forward pass is reported as before.
    """
    before = [(module, dict(module._buffers), _copies(module._buffers)) for module in model.modules()]
    yield
    for module, buffers, copies in before:
        now = module._buffers
        changed = {
            name
            for name, buffer in now.items()
            if buffer is not buffers.get(name) or (name in copies and not _same_bits(buffer, copies[name]))
        } | (buffers.keys() - now.keys())
        if changed:
            _own_changes.setdefault(module, set()).update(changed, now)


def keeps_buffers_of_its_own(model: nn.Module) -> bool:
    """Whether a module that is not one of torch's own has buffers, which it may change with the size of the batch."""
    return any(module._buffers and not type(module).__module__.startswith("torch.nn.") for module in model.modules())


def _own_buffers(model: nn.Module) -> Iterator[tuple[nn.Module, set[str]]]:
    return ((module, _own_changes[module]) for module in model.modules() if module in _own_changes)


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in buffers.items() if each is not None and not is_lazy(each)}


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
    """Restore the random generators of torch, numpy and Python after the code inside, which may seed them or draw."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _own_functions(module: nn.Module) -> dict[str, Any]:
    """The functions that a module holds itself, such as a ``forward`` put in place of its class's."""
    return {name: value for name, value in vars(module).items() if callable(value)}


def _functions_of(kind: type) -> dict[str, FunctionType]:
    return {name: value for name, value in vars(kind).items() if isinstance(value, FunctionType)}


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _same_contents(now: Any, before: dict[str, Any], aside: frozenset[str]) -> bool:
    """Whether a dict holds the same objects under the same names in the same order, those set ``aside`` left out."""
    if not isinstance(now, dict):
        return False
    if not now and not before:  # so it is with most dicts of a module, and every module has a dozen
        return True
    names, expected = ([name for name in each if name not in aside] for each in (now, before))
    return names == expected and all(now[name] is before[name] for name in expected)


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
