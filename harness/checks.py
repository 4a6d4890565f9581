"""What a user hands in, checked before it is used: each mistake is one line."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, unknown


def check_model(model: Any) -> nn.Module:
    """The model, if it is a module in eval mode."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model is a {type(model).__name__}, expected a torch.nn.Module that maps inputs to logits")
    if model.training:
        raise UserError("model is in training mode, where its outputs depend on the batch; call model.eval() first")
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


def check_targets(targets: Any, count: int, classes: int | None = None, what: str = "targets") -> Tensor:
    """The targets (N,) int64, if there is one per sample and, where the number of classes is known, each is one."""
    targets = torch.as_tensor(targets)
    if targets.shape != (count,) or targets.is_floating_point() or targets.dtype == torch.bool:
        raise UserError(f"{what} are {targets.dtype} {tuple(targets.shape)}, expected class indices ({count},)")
    if classes is not None and not ((targets >= 0) & (targets < classes)).all():
        worst = int(targets.max()) if targets.max() >= classes else int(targets.min())
        raise UserError(f"{what} hold class {worst}, expected 0 to {classes - 1}: the model has {classes} outputs")
    return targets.long()


def check_finite(attributions: Tensor) -> Tensor:
    """The attributions, if none is NaN or infinite."""
    good = attributions.isfinite().flatten(1).all(1)
    if not good.all():
        raise UserError(f"attributions of {int((~good).sum())} of {len(good)} samples hold NaN or infinite values")
    return attributions


def settings(cls: type, kind: str, given: Any) -> Any:
    """A dataclass of settings from a mapping; an unknown name is an error that lists what there is."""
    for name in given:
        if name not in cls.__dataclass_fields__:
            raise unknown(f"{kind} setting", name, cls.__dataclass_fields__)
    return cls(**given)


def class_count(outputs: Tensor) -> int:
    """How many classes outputs (N, classes), (N, 1) or (N,) speak of; a single output is class 0."""
    return outputs.shape[1] if outputs.dim() == 2 else 1


def first_line(error: BaseException, limit: int = 200) -> str:
    """The first line of a library's error message, cut to size."""
    return (str(error).splitlines() or [type(error).__name__])[0][:limit]


def device_of(model: nn.Module, fallback: torch.device) -> torch.device:
    """Where the model's weights are; a model without weights runs anywhere."""
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), fallback)
