"""A device that is not there: tensors that claim to be elsewhere and refuse what a GPU refuses, on any machine.

Their values are held and computed on the CPU, so they can be compared. The device is called ``meta``, the only name
besides ``cpu`` that every build of torch knows. Inside ``pretended()`` an operation on tensors of both places raises as
it would on a GPU, ``.numpy()`` raises, what is made without a device lies on the CPU, and so on. What is not pretended:
a GPU's own rounding, its generator, its memory, and code that asks whether the device is called ``cuda``.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

AWAY = torch.device("meta")
waited_for: list[str] = []  # the operations in which a GPU's process would have waited
aten = torch.ops.aten
COPIES = {aten.copy_, aten._to_copy, aten._copy_from}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}
# A GPU multiplies matrices of floating-point numbers only, and convolves nothing else.
FLOATS_ONLY = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot, aten.convolution}
# What a GPU cannot do before all that it has been given is done: numbers, or how many there are, go to the CPU.
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.bincount}
WAITS |= {aten._unique2, aten.unique_dim}
MADE_OF_VALUES = ("tensor", "as_tensor", "asarray")


class Away(Tensor):
    """A tensor that says that it is on ``AWAY``; its values are ``held`` by a tensor on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __new__(cls, held: Tensor) -> "Away":
        tensor = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=AWAY
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(operation, args, kwargs or {})

    def tolist(self) -> Any:
        """The values as Python's numbers; torch itself refuses it to subclasses."""
        return self.detach().cpu().tolist()

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_tensors_for_lists(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_tensors_for_lists(index), value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copy = self.detach().clone().requires_grad_(self.requires_grad)
            copy.__dict__.update({name: value for name, value in vars(self).items() if name != "held"})
            memo[id(self)] = copy
        return memo[id(self)]


class _EveryOperation(TorchDispatchMode):
    """Sees also the operations that are given no tensor, like ``zeros``."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(operation, args, kwargs or {})


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Inside, tensors that ``away`` has moved can be worked with; gives their device."""
    with ExitStack() as stack:
        for name in MADE_OF_VALUES:
            stack.enter_context(patch.object(torch, name, _with_values(getattr(torch, name))))
        stack.enter_context(patch.object(Tensor, "new_tensor", _new_tensor))
        stack.enter_context(patch.object(torch.optim, "Adam", _adam_for_any_device(torch.optim.Adam)))
        stack.enter_context(_EveryOperation())
        yield AWAY


@contextmanager
def counted_waits() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the number of waits for the GPU since entry."""
    before = len(waited_for)
    ends: list[int] = []
    yield lambda: (ends[0] if ends else len(waited_for)) - before
    ends.append(len(waited_for))


def away(given: Any) -> Any:
    """A copy of a tensor on the pretended device, or a module with its tensors moved there; None stays None."""
    if isinstance(given, nn.Module):
        for module in given.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({name: away(value) for name, value in tensors.items()})
        return given
    if given is None:
        return None
    moved = Away(given.detach().clone())
    return nn.Parameter(moved, given.requires_grad) if isinstance(given, nn.Parameter) else moved


def _run(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run an operation of torch on what the tensors hold; its results are where a GPU would have them."""
    tensors = [each for each in _leaves((args, kwargs)) if isinstance(each, Tensor)]
    there = [each for each in tensors if isinstance(each, Away)]
    if any(each.device == AWAY and not isinstance(each, Away) for each in tensors):
        raise NotImplementedError(f"{operation} was given a tensor without values, which torch made unseen")
    if there:
        _refuse_what_a_gpu_refuses(operation, args, tensors)
        waited_for.extend(_waits(operation, args, kwargs, there))
    wanted = kwargs.get("device")
    stays = bool(there) if wanted is None else torch.device(wanted) == AWAY
    if stays and wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = operation(*_mapped(_held, args), **_mapped(_held, kwargs))
    for each in there:
        if (each.held.shape, each.held.stride()) != (each.shape, each.stride()):
            raise NotImplementedError(f"{operation} gives a tensor another shape in place, which is not pretended")
    return _placed(operation, result, args, there, stays)


def _placed(operation: Any, result: Any, args: tuple, there: list["Away"], stays: bool) -> Any:
    """The results on their device; what was changed in place is the very tensor that was given."""
    given = {id(each.held): each for each in there}

    def place(each: Any) -> Any:
        if not isinstance(each, Tensor):
            return each
        if operation.overloadpacket is aten.copy_:
            return args[0]
        if stays:
            return given[id(each)] if id(each) in given else Away(each)
        return each.clone() if id(each) in given else each  # what came from the device shares no memory with it

    return _mapped(place, result)


def _refuse_what_a_gpu_refuses(operation: Any, args: tuple, tensors: list[Tensor]) -> None:
    """Raise where a GPU does. A number (a tensor without axes) may lie on the CPU, and so may what is indexed with."""
    packet = operation.overloadpacket
    if packet in COPIES:
        return
    if packet in INDEXING and isinstance(args[0], Away):
        tensors = [each for each in (args[0], *args[2:3]) if isinstance(each, Tensor)]
    here = [tuple(each.shape) for each in tensors if not isinstance(each, Away) and each.dim() > 0]
    if here:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {operation} got {AWAY} and, on cpu, shapes {here}"
        )
    if packet in FLOATS_ONLY and not all(each.is_floating_point() or each.is_complex() for each in tensors):
        raise RuntimeError(f"{operation} is not implemented on GPUs for {[each.dtype for each in tensors]}")
    if torch.backends.cuda.is_built() and not _runs_on(operation, "CUDA"):
        raise NotImplementedError(f"{operation} has no kernel for GPUs")


def _waits(operation: Any, args: tuple, kwargs: dict[str, Any], there: list["Away"]) -> list[str]:
    """The operation's name if a GPU's process waits in it until the GPU is idle."""
    packet = operation.overloadpacket
    fetches = packet is aten._to_copy and torch.device(kwargs.get("device") or AWAY) != AWAY
    fetches = fetches or (packet is aten.copy_ and not isinstance(args[0], Away))
    masks = args[1] if packet in INDEXING else ()
    counts = any(isinstance(mask, Away) and mask.dtype == torch.bool for mask in masks)
    lengths = packet is aten.repeat_interleave and isinstance(args[0], Away) and kwargs.get("output_size") is None
    return [str(operation)] if packet in WAITS or fetches or counts or lengths else []


@cache
def _runs_on(operation: Any, key: str) -> bool:
    return torch._C._dispatch_has_computed_kernel_for_dispatch_key(operation.name(), key)


# In place of ``torch.utils._pytree``, which knows more kinds of containers and takes half of the time of these tests.
def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with each leaf of its tuples, lists and dictionaries replaced by what the function makes of it."""
    if isinstance(value, tuple | list):
        return type(value)([_mapped(function, each) for each in value])
    if isinstance(value, dict):
        return {name: _mapped(function, each) for name, each in value.items()}
    return function(value)


def _leaves(value: Any) -> Iterator[Any]:
    """What tuples, lists and dictionaries hold, at any depth."""
    if isinstance(value, tuple | list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Away) else value


def _tensors_for_lists(index: Any) -> Any:
    """An index with tensors on the CPU for lists and arrays, of which torch would make tensors without values."""
    if isinstance(index, tuple):
        return tuple(map(_tensors_for_lists, index))
    return torch.as_tensor(index) if isinstance(index, list | np.ndarray) else index


def _with_values(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.tensor`` or its like by way of the CPU: on ``meta`` torch makes tensors without values."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None or torch.device(device) != AWAY or isinstance(args[0], Away):
            return make(*args, device=device, **kwargs)
        return make(*args, **kwargs).to(AWAY)

    return made


def _new_tensor(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
    return torch.tensor(*args, dtype=dtype or self.dtype, device=device or self.device, **kwargs)


def _adam_for_any_device(adam: type) -> Callable[..., torch.optim.Optimizer]:
    """Adam without its fused kernel, which torch offers to devices by name."""
    return lambda *args, fused=None, **kwargs: adam(*args, **kwargs)
