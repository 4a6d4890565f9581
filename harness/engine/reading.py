"""Reads samples in the form that the model takes, and checks everything that comes with them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.checks import (
    check_fillers,
    check_groups,
    check_ids,
    check_inputs,
    check_like_inputs,
    check_masks,
    check_present,
    check_segments,
    check_train_labels,
    check_truth,
    check_unit_names,
    check_value_range,
)
from harness.errors import NotApplicable, UserError, encodable, one_line
from harness.sources import Data, LoadedModel
from harness.units import UndecidedUnits, Units


def read_inputs(model: LoadedModel, data: Data, where: slice) -> Tensor:
    """Inputs of some samples in the form that the model takes, on the device of the data (usually the CPU)."""
    if isinstance(data.inputs, Tensor) and model.preprocess is None:
        return _detached(data.inputs[where])
    tensors = [_read_one(model, data, index) for index in range(where.start, where.stop)]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise UserError(
            f"inputs have different shapes, {' and '.join(map(str, sorted(shapes)[:2]))}, expected one shape"
        )
    return check_inputs(torch.stack(tensors))


def _detached(inputs: Tensor) -> Tensor:
    """A user's inputs without their autograd graph and outside inference mode, so that gradients can be computed."""
    with torch.inference_mode(False):
        return inputs.clone() if inputs.is_inference() else inputs.detach()


def read_item(data: Data, index: int, read: Callable[[Any], Any]) -> Any:
    """The result of ``read`` for one item of the data; UserError that names the sample where that fails."""
    try:
        return read(data.inputs[index])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        name = index if data.ids is None else data.ids[index]
        raise UserError(f"sample {name!r} cannot be read or preprocessed: {one_line(error)}") from error


def _read_one(model: LoadedModel, data: Data, index: int) -> Tensor:
    tensor = read_item(data, index, model.preprocess or (lambda item: item))
    if isinstance(tensor, tuple) and len(tensor) == 2:
        raise UserError(
            "the data holds pairs, such as (input, label) of a torch data set; give inputs and targets apart: "
            "torch.stack([x for x, _ in dataset]) and [y for _, y in dataset]"
        )
    if not isinstance(tensor, Tensor):
        raise NotApplicable(
            f"the data holds {type(tensor).__name__} and the model has no preprocessing for it; give a function that "
            "makes a tensor of each: harness.LoadedModel(module, preprocess), model.preprocess=package.module:function"
        )
    return tensor


def check_data(data: Data, first: Tensor, units: Units) -> Data:
    """The data with every field checked against the inputs; UserError if a field does not fit.

    ``first`` is one input (1, ...) in the form that the model takes, ``units`` are those that are scored. A field that
    is read lazily from a file is checked where it is read.
    """
    if isinstance(data.inputs, Tensor):
        check_inputs(data.inputs)
    count = len(data)
    joint = units if isinstance(units, UndecidedUnits) else Units.of(first, units.modality, columns=data.columns)
    train = check_like_inputs(data.train, first, "train")
    if data.present is not None and units.position_axis is None:
        raise UserError(
            "present says which positions of tokens (N, T, D) or series (N, C, T) are units, and the modality is "
            f"{units.modality}; give a mask that the model takes as a carried input: carried={{'mask': mask}}"
        )
    return replace(
        data,
        ids=check_ids(data.ids, count),
        value_range=check_value_range(data.value_range),
        modality=None if isinstance(units, UndecidedUnits) else units.modality,
        train=train,
        train_labels=check_train_labels(data.train_labels, train),
        masks=check_part(data.masks, check_masks, count, units, joint),
        truth=check_part(data.truth, check_truth, count, units, joint),
        segments=check_part(data.segments, check_segments, count, units, joint),
        present=check_part(data.present, check_present, count, joint, joint),
        unit_names=check_unit_names(data.unit_names, joint),
        fillers=check_fillers(data.fillers, first),
        groups=check_groups(data.groups, count),
        classes=None if data.classes is None else tuple(map(encodable, data.classes)),
    )


def check_part(values: Any, check: Callable[..., Tensor | None], count: int, units: Units, joint: Units) -> Any:
    """Values of ``count`` samples, checked: one number per scored unit, or per unit with its channels together.

    None, and an object whose slices are tensors, stay as they are: its slices are checked when they are read.
    """
    if _is_lazy(values) and hasattr(values, "__len__") and len(values) != count:
        what = check.__name__.removeprefix("check_")
        raise UserError(f"{what} are {len(values)}, expected one for each of {count} samples")
    if values is None or (_is_lazy(values) and isinstance(values[0:1], Tensor)):
        return values
    shape, one_for_all = tuple(getattr(values, "shape", ())), check is check_segments
    own = shape == (count, *units.shape) or (one_for_all and shape == units.shape)
    return check(values, count, units.shape if own else joint.shape)


def _is_lazy(values: Any) -> bool:
    plain = isinstance(values, Tensor | list | tuple | str)
    return not plain and hasattr(values, "__getitem__")
