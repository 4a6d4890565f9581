"""Models with several inputs: which one is explained, which are carried along, and how the model is called."""

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.sources import Data, several_tensors


@dataclass(frozen=True)
class Call:
    """How the explained input is passed to the model.

    explained  its keyword, its position among the arguments, or None for the first argument
    as_dict    whether the model takes all its inputs as one dict, with ``explained`` as the key
    """

    explained: str | int | None = None
    as_dict: bool = False


def split_inputs(data: Data, module: nn.Module, of_task: Collection[str] = ()) -> tuple[Data, Call]:
    """The data with one explained input, the others in ``carried``; and how the model is called with them.

    ``of_task`` are carried inputs that are for the task and do not go to the model, such as the box to explain.
    UserError where it is not certain which input is explained, or how the model is called.
    """
    data, precise = _with_tensors(data), _is_double(module)
    if isinstance(data.inputs, Mapping):
        parts = {str(name): _tensor(values, name, precise) for name, values in data.inputs.items()}
    elif several_tensors(data.inputs):
        parts = {place: _tensor(values, place, precise) for place, values in enumerate(data.inputs)}
        if data.explained is None and len(parts) > 1:
            raise UserError(
                f"inputs are a tuple of {len(parts)} tensors; say which of them is explained: "
                "harness.Data(inputs, targets, explained=0); a sequence of samples is a list"
            )
    else:
        carried = {name: _tensor(values, name, precise) for name, values in data.carried.items()}
        inputs = _array(data.inputs, precise)
        if not isinstance(data.inputs, Tensor) and not _embeds(module):  # whole numbers of an array are no token ids
            inputs = inputs.float() if isinstance(inputs, Tensor) and not inputs.is_floating_point() else inputs
        data = replace(data, inputs=inputs, carried=_checked_carried(carried, len(data)))
        return data, _call_with(module, data.explained, [name for name in carried if name not in of_task])
    explained = _explained_one(parts, data.explained)
    twice = next((name for name in data.carried if name in parts), None)
    if twice is not None:
        raise UserError(f"input {twice!r} came twice, in the inputs and in carried; keep one")
    carried = {name: each for name, each in parts.items() if name != explained}
    carried |= {name: _tensor(values, name, precise) for name, values in data.carried.items()}
    split = replace(data, inputs=parts[explained], carried=_checked_carried(carried, len(parts[explained])))
    return split, _call_with(module, explained, [name for name in carried if name not in of_task])


def _embeds(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.modules())


def _with_tensors(data: Data) -> Data:
    """The data with every NumPy array that goes with the inputs as a tensor."""
    beside = ("train", "train_labels", "masks", "truth", "segments", "present")
    arrays = {name: getattr(data, name) for name in beside if isinstance(getattr(data, name), np.ndarray)}
    return replace(data, **{name: _array(values) for name, values in arrays.items()})


def _is_double(module: nn.Module) -> bool:
    return any(each.dtype == torch.float64 for each in module.parameters())


def _array(inputs: Any, precise: bool = False) -> Any:
    """Inputs with NumPy arrays and lists of numbers as tensors, others unchanged.

    Float64 becomes torch's default precision, unless the model is ``precise``.
    """
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], list | int | float):
        try:
            inputs = np.asarray(inputs)
        except ValueError:
            raise UserError(
                "inputs are lists of different lengths, expected one length, or a list of tensors"
            ) from None
    if not isinstance(inputs, np.ndarray):
        return inputs
    if inputs.dtype.kind not in "fiub":
        raise UserError(f"inputs are an array of {inputs.dtype}, expected numbers")
    tensor = torch.from_numpy(np.ascontiguousarray(inputs))
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 and not precise else tensor


def _tensor(values: Any, name: str | int, precise: bool) -> Tensor:
    tensor = _array(values, precise)
    if not isinstance(tensor, Tensor):
        raise UserError(f"input {name!r} is a {type(values).__name__}, expected a tensor or an array (N, ...)")
    return tensor.detach()


def _explained_one(parts: Mapping[str | int, Tensor], wanted: str | int | None) -> str | int:
    """The input that is explained: the one that is asked for, or the only one of floats."""
    names = ", ".join(f"{name!r} {tuple(each.shape)} {each.dtype}" for name, each in parts.items())
    if wanted is not None:
        if isinstance(wanted, list | tuple):
            raise UserError(
                f"explained is {wanted!r}, expected one of the inputs: {names}; the others are carried along, so "
                "explain one after another"
            )
        if wanted not in parts:
            raise UserError(f"explained is {wanted!r}, expected one of the inputs: {names}")
        return wanted
    floats = [name for name, each in parts.items() if each.is_floating_point()]
    if "input_ids" in parts:  # floats beside token ids may be their mask, or what is meant
        certain = [] if floats else ["input_ids"]
    else:
        certain = floats or list(parts)
    if len(certain) == 1:
        return certain[0]
    example = f"explained={next(iter(parts))!r}"
    raise UserError(f"inputs are {names}; say which one is explained: harness.Data(inputs, targets, {example})")


def _checked_carried(carried: Mapping[str | int, Tensor], count: int) -> Mapping[str | int, Tensor]:
    for name, values in carried.items():
        if values.dim() == 0 or len(values) != count:
            raise UserError(
                f"input {name!r} has shape {tuple(values.shape)}, expected one entry for each of {count} samples"
            )
    return carried


def _check_places(inputs: Sequence[str | int]) -> None:
    """UserError unless the inputs that are passed by their places, the explained one first, have the places 0, 1, ...

    A place that is taken twice would hide an input, and one that is left out would move those after it.
    """
    places = [each for each in inputs if isinstance(each, int)]
    if sorted(places) != list(range(len(places))):
        raise UserError(
            f"inputs go to the places {', '.join(map(str, places))} among the model's arguments, the explained one "
            f"first; expected each of {', '.join(map(str, range(len(places))))} once: number them in the order of "
            "forward's arguments, or give their names"
        )
    if places and isinstance(inputs[0], str):
        raise UserError(f"the explained input {inputs[0]!r} has a name, and input {places[0]} has none; name them all")


def _call_with(module: nn.Module, explained: str | int | None, carried: Iterable[str | int]) -> Call:
    """How the module is called with these inputs; UserError where its ``forward`` does not take them."""
    carried = list(carried)
    _check_places([explained or 0, *carried])
    named = [name for name in [explained, *carried] if isinstance(name, str)]
    if not named:
        return Call(explained)
    parameters = inspect.signature(module.forward).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters) or {each.name for each in parameters} >= set(named):
        return Call(explained)
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    needed = [each for each in positional if each.default is each.empty]
    if isinstance(explained, str) and len(needed) == 1:
        return Call(explained, as_dict=True)
    missing = [name for name in named if name not in {each.name for each in parameters}]
    takes = ", ".join(each.name for each in parameters)
    raise UserError(f"the model's forward({takes}) does not take {missing[0]!r}; name the inputs as its arguments are")
