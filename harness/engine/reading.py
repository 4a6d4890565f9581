"""Reads samples in the form that the model takes, and checks everything that comes with them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.checks import (
    check_fillers,
    check_groups,
    check_inputs,
    check_labels,
    check_like_inputs,
    check_masks,
    check_segments,
    check_train_labels,
    check_truth,
    check_unit_names,
)
from harness.errors import NotApplicable, UserError, one_line
from harness.sources import Data, LoadedModel
from harness.units import Units


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


def _read_one(model: LoadedModel, data: Data, index: int) -> Tensor:
    try:
        item = data.inputs[index]
        tensor = model.preprocess(item) if model.preprocess else item
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"sample {data.ids[index]!r} cannot be read or preprocessed: {one_line(error)}") from error
    if not isinstance(tensor, Tensor):
        raise NotApplicable(f"the data holds {type(item).__name__} and the model has no preprocessing for it")
    return tensor


def check_data(data: Data, first: Tensor, units: Units) -> Data:
    """The data with every field checked against the inputs; UserError if a field does not fit.

    ``first`` is one input (1, ...) in the form that the model takes, ``units`` are those that are scored. A field that
    is read lazily from a file is checked where it is read.
    """
    count, joint = len(data), Units.of(first, units.modality, columns=data.columns)
    ids = [str(number) for number in range(count)] if data.ids is None else data.ids
    if len(ids) != count:
        raise UserError(f"ids are {len(ids)}, expected one for each of {count} inputs")
    train = check_like_inputs(data.train, first, "train")
    return replace(
        data,
        ids=ids,
        modality=units.modality,
        labels=check_labels(data.labels, count),
        train=train,
        train_labels=check_train_labels(data.train_labels, train),
        masks=_if_tensor(data.masks, lambda masks: check_masks(masks, count, _shape_of(masks, count, units, joint))),
        truth=_if_tensor(data.truth, lambda truth: check_truth(truth, count, _shape_of(truth, count, units, joint))),
        segments=_if_tensor(
            data.segments, lambda each: check_segments(each, count, _shape_of(each, count, units, joint))
        ),
        unit_names=check_unit_names(data.unit_names, joint),
        fillers=check_fillers(data.fillers, first),
        groups=check_groups(data.groups, count),
    )


def _shape_of(values: Any, count: int, units: Units, joint: Units) -> tuple[int, ...]:
    """The expected shape per sample: that of the scored units if the values have it, else that of the joint units."""
    shape = tuple(getattr(values, "shape", ()))
    if shape != (count, *joint.shape) and units.shape in (shape, shape[1:]):
        return units.shape
    return joint.shape


def _if_tensor(values: Any, check: Callable[[Any], Tensor]) -> Any:
    """The checked values; None and objects whose slices are tensors are returned unchecked."""
    if values is None or (_is_lazy(values) and isinstance(values[0:1], Tensor)):
        return values
    return check(values)


def _is_lazy(values: Any) -> bool:
    return not isinstance(values, Tensor) and hasattr(values, "__getitem__")
