"""Checks of what a user gives: each returns the checked value or raises UserError with one line."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, encodable
from harness.modalities import written_shape
from harness.units import Units


def check_model(model: Any) -> nn.Module:
    """The model, if it is a module in eval mode."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model is a {type(model).__name__}, expected a torch.nn.Module that maps inputs to logits")
    if model.training:
        raise UserError("model is in training mode, where its outputs depend on the batch; call model.eval() first")
    for name, part in model.named_modules():
        batch_norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if part.training and (batch_norm or isinstance(part, nn.modules.dropout._DropoutNd)):
            raise UserError(f"model's {name} is in training mode, where outputs depend on the batch; call model.eval()")
        if batch_norm and part.running_mean is None:
            raise UserError(
                f"model's {name} is a BatchNorm without running statistics: its outputs depend on the batch"
            )
    return model


def check_inputs(inputs: Any) -> Tensor:
    """The inputs, if they are a finite float tensor with at least one sample."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        came = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise UserError(f"inputs are {came}, expected a float tensor (N, C, H, W), (N, D), (N, T, D), ...")
    if inputs.dim() < 2 or len(inputs) == 0:
        raise UserError(f"inputs have shape {tuple(inputs.shape)}, expected at least one sample and a batch axis first")
    if not inputs.isfinite().all():
        bad = int((~inputs.isfinite().flatten(1).all(1)).sum())
        raise UserError(f"{bad} of {len(inputs)} inputs hold NaN or infinite values, expected finite numbers")
    return inputs


def check_dtype(model: nn.Module, inputs: Tensor) -> None:
    """Raise UserError if the inputs are of a precision that none of the model's weights has.

    It is called when the model has failed on the inputs: many models convert their inputs themselves.
    """
    dtypes = dict.fromkeys(each.dtype for each in model.parameters() if each.is_floating_point())
    if dtypes and inputs.dtype not in dtypes:
        own, *more = (str(dtype).removeprefix("torch.") for dtype in dtypes)
        came = str(inputs.dtype).removeprefix("torch.")
        raise UserError(
            f"inputs are {came}, the model's weights are {' and '.join([own, *more])}, and the model does not convert "
            f"its inputs: give inputs.to(torch.{own}) or model.to(torch.{came})"
        )


def check_targets(targets: Any, count: int, classes: int | None = None, what: str = "targets") -> Tensor:
    """The targets (N,) int64, if there is one per sample; if ``classes`` is given, each must be below it."""
    try:
        targets = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{what} are {type(targets).__name__}, expected class indices ({count},)") from None
    if targets.shape != (count,) or targets.is_floating_point() or targets.dtype == torch.bool:
        raise UserError(f"{what} are {targets.dtype} {tuple(targets.shape)}, expected class indices ({count},)")
    if classes is not None and not ((targets >= 0) & (targets < classes)).all():
        worst = int(targets.max()) if targets.max() >= classes else int(targets.min())
        raise UserError(f"{what} hold class {worst}, expected 0 to {classes - 1}: the model has {classes} outputs")
    return targets.long()


def check_ids(ids: Any, count: int) -> list[str]:
    """The names of the samples as texts, if there is one for each and none is there twice; numbers for None."""
    if ids is None:
        return [str(number) for number in range(count)]
    if isinstance(ids, str) or not hasattr(ids, "__len__") or len(ids) != count:
        came = repr(ids) if isinstance(ids, str) or not hasattr(ids, "__len__") else len(ids)
        raise UserError(f"ids are {came}, expected one for each of {count} inputs")
    names = [encodable(each.item() if isinstance(each, Tensor) else each) for each in ids]
    if len(set(names)) < count:
        twice = Counter(names).most_common(1)[0][0]
        raise UserError(f"two samples have the id {twice!r}, expected a name of its own for each sample")
    return names


def check_value_range(bounds: Any) -> tuple[Any, Any] | None:
    """The lowest and the highest value of inputs, if they are two numbers or tensors; None stays None."""
    if bounds is None:
        return None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise UserError(f"value_range is {bounds!r}, expected the lowest and the highest value of inputs, like (0, 1)")
    return tuple(bounds)


def check_like_inputs(values: Any, inputs: Tensor, what: str) -> Tensor | None:
    """The values called ``what``, if they are a float tensor with the shape of one input each; None stays None."""
    if values is None:
        return None
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.shape[1:] != inputs.shape[1:]:
        came = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise UserError(f"{what} is {came}, expected a float tensor {written_shape(tuple(inputs.shape[1:]))}")
    if len(values) == 0:
        raise UserError(f"{what} holds no input, expected at least one, or None")
    return values


def check_train_labels(labels: Any, train: Tensor | None) -> Tensor | None:
    """Labels of the training inputs, if there is one for each: class indices, or float numbers; None stays None."""
    if labels is None:
        return None
    if train is None:
        raise UserError("train_labels came without train, expected the training inputs they belong to")
    if not isinstance(labels, Tensor) or labels.shape != (len(train),) or labels.dtype == torch.bool:
        came = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f"train_labels are {came}, expected class indices or numbers ({len(train)},)")
    return labels


def check_masks(masks: Any, count: int, shape: tuple[int, ...]) -> Tensor | None:
    """Masks (N, *units) as bool, if they have that shape; None stays None."""
    if masks is None:
        return None
    if not isinstance(masks, Tensor) or tuple(masks.shape) != (count, *shape):
        came = tuple(masks.shape) if isinstance(masks, Tensor) else type(masks).__name__
        raise UserError(f"masks are {came}, expected a tensor {(count, *shape)}")
    return masks.bool()


def check_present(present: Any, count: int, shape: tuple[int, ...]) -> Tensor | None:
    """Which positions (N, T) are units, as bool, if they have that shape and each sample has one; None stays None."""
    if present is None:
        return None
    if not isinstance(present, Tensor) or tuple(present.shape) != (count, *shape) or len(shape) != 1:
        came = tuple(present.shape) if isinstance(present, Tensor) else type(present).__name__
        raise UserError(
            f"present is {came}, expected a tensor {(count, *shape)}, True where a token or a time step is a unit"
        )
    empty = (~present.bool().any(1)).nonzero()[:, 0]
    if len(empty):
        raise UserError(f"present has no unit for {len(empty)} of {count} samples (the first is {int(empty[0])})")
    return present.bool()


def check_truth(truth: Any, count: int, shape: tuple[int, ...]) -> Tensor | None:
    """The true attributions (N, *units) as floats, if they have that shape and are finite; None stays None."""
    if truth is None:
        return None
    if not isinstance(truth, Tensor) or tuple(truth.shape) != (count, *shape):
        came = tuple(truth.shape) if isinstance(truth, Tensor) else type(truth).__name__
        raise UserError(f"truth is {came}, expected one number per unit, a tensor {(count, *shape)}")
    if not truth.isfinite().all():
        raise UserError("truth holds NaN or infinite values, expected finite numbers")
    return truth if truth.is_floating_point() else truth.float()


def check_segments(segments: Any, count: int, shape: tuple[int, ...]) -> Tensor | None:
    """Segments (N, *units) from one map for all samples, (*units), or one per sample; None stays None."""
    if segments is None:
        return None
    if not isinstance(segments, Tensor) or tuple(segments.shape) not in (shape, (count, *shape)):
        came = tuple(segments.shape) if isinstance(segments, Tensor) else type(segments).__name__
        raise UserError(f"segments have shape {came}, expected {shape} or {(count, *shape)}")
    return segments.expand(count, *shape)


def check_fillers(fillers: Any, inputs: Tensor) -> Mapping[str, Tensor] | None:
    """Embeddings (D,) that can replace a removed token of texts (N, T, D), by name; None stays None."""
    if fillers is None:
        return None
    if not isinstance(fillers, Mapping):
        raise UserError(f"fillers are a {type(fillers).__name__}, expected a mapping: pad or mask -> a tensor (D,)")
    for name, filler in fillers.items():
        good = isinstance(filler, Tensor) and filler.is_floating_point() and inputs.dim() == 3
        if not good or filler.shape != inputs.shape[2:]:
            came = tuple(filler.shape) if isinstance(filler, Tensor) else type(filler).__name__
            raise UserError(
                f"fillers' {name} is {came} for inputs {written_shape(tuple(inputs.shape[1:]))}, expected a float "
                "tensor (D,), as a token of inputs (N, T, D)"
            )
    return fillers


def check_unit_names(names: Any, units: Units) -> tuple[str, ...] | None:
    """The names of the units, if there is one for each; None stays None."""
    if names is None:
        return None
    if isinstance(names, str) or len(names) != units.count:
        came = repr(names) if isinstance(names, str) else len(names)
        raise UserError(f"unit_names are {came}, expected one for each of {units.count} units")
    return tuple(str(name) for name in names)


def check_seed(seed: Any) -> int:
    """The seed, if it is a whole number from 0 to 2^63 - 1."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed!r}, expected a whole number from 0")
    return seed


def check_finite(attributions: Tensor) -> Tensor:
    """The attributions, if none is NaN or infinite."""
    good = attributions.isfinite().flatten(1).all(1)
    if not good.all():
        raise UserError(f"attributions of {int((~good).sum())} of {len(good)} samples hold NaN or infinite values")
    return attributions


def class_count(outputs: Tensor) -> int:
    """The number of classes in outputs (N, classes), (N, 1) or (N,); a single output counts as one class."""
    return outputs.shape[1] if outputs.dim() == 2 else 1


def first_line(error: BaseException, limit: int = 200) -> str:
    """The first line of a library's error message, at most ``limit`` characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:limit]


def device_of(model: nn.Module, fallback: torch.device) -> torch.device:
    """The device of the model's weights; ``fallback`` for a model without weights."""
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), fallback)


def check_groups(groups: Mapping[str, Any] | None, count: int) -> dict[str, list[Any]]:
    """Groupings of the samples, name -> one group per sample, as plain lists."""
    if not isinstance(groups, Mapping | None):
        raise UserError(f"groups are a {type(groups).__name__}, expected a mapping: name -> one group per sample")
    lists = {encodable(name): [_plain_group(value) for value in values] for name, values in (groups or {}).items()}
    for name, values in lists.items():
        if len(values) != count:
            raise UserError(f"groups {name!r} have {len(values)} entries, expected one for each of {count} samples")
        odd = next((value for value in values if not isinstance(value, str | int | float | None)), None)
        if odd is not None:
            raise UserError(f"groups {name!r} hold a {type(odd).__name__}, expected texts, numbers or None")
    return lists


def _plain_group(value: Any) -> Any:
    """A number of numpy or torch as a Python number, and a text as one that can be written: what JSON can represent."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    return encodable(value) if isinstance(value, str) else value
