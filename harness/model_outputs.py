"""Finds the output to explain in what a model returns: a tensor, tuple, list, dict, dataclass or other object."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from harness.errors import UserError

# Names under which libraries return the output of a classifier: Hugging Face and torchvision's Inception, and
# torchvision's models of segmentation.
USUAL_NAMES = ("logits", "out")


def output_tensor(returned: Any, wanted: str | int | None, count: int) -> Tensor:
    """The output (N, K) or (N,) for ``count`` inputs in what a model returned.

    ``wanted`` is a key, an attribute or an index; without it, the output is the tensor itself, the one called
    ``logits`` or ``out``, or the only tensor. Last axes of size 1 are dropped: (N, K, 1, 1) becomes (N, K). UserError,
    with the names of the tensors, where that leaves several or none, and for another shape.
    """
    tensor = returned if isinstance(returned, Tensor) and wanted is None else _chosen(returned, wanted)
    while tensor.dim() > 2 and tensor.shape[-1] == 1:
        tensor = tensor.squeeze(-1)
    if tensor.dim() not in (1, 2) or len(tensor) != count:
        raise UserError(
            f"the model returned {_shape(tensor)} for {count} inputs, expected ({count}, outputs) or ({count},)"
            f"{_hint(tensor, count)}"
        )
    return tensor


def _chosen(returned: Any, wanted: str | int | None) -> Tensor:
    tensors = _tensors_in(returned)
    if wanted is not None:
        key = int(wanted) if str(wanted).isdecimal() and wanted not in tensors else wanted
        if key not in tensors:
            raise UserError(f"output is {wanted!r}, but the model returned {_tensors_in_words(returned, tensors)}")
        return tensors[key]
    usual = next((name for name in USUAL_NAMES if name in tensors), None)
    if usual is not None:
        return tensors[usual]
    if not tensors and isinstance(returned, Sequence) and returned and "boxes" in _named_parts(returned[0]):
        raise UserError("the model returned detections, which have boxes: say task=detection (model.task=detection)")
    different = {id(tensor) for tensor in tensors.values()}
    if len(different) != 1:
        example = next((f"={name}" for name in tensors), "=NAME")
        raise UserError(
            f"the model returned {_tensors_in_words(returned, tensors)}; say which tensor is explained: "
            f"model.output{example}, or harness.LoadedModel(module, output{_as_literal(example)})"
        )
    return next(iter(tensors.values()))


def _tensors_in(returned: Any) -> dict[str | int, Tensor]:
    """The tensors that a model returned, by name or index."""
    if isinstance(returned, Tensor):
        return {0: returned}
    return {name: part for name, part in _named_parts(returned).items() if isinstance(part, Tensor)}


def _named_parts(returned: Any) -> dict[str | int, Any]:
    """What a container or an object holds, by name or index."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if hasattr(returned, "_asdict"):
        return returned._asdict()
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        return dict(enumerate(returned))
    if is_dataclass(returned):
        return {each.name: getattr(returned, each.name) for each in fields(returned)}
    return dict(getattr(returned, "__dict__", {}))


def _tensors_in_words(returned: Any, tensors: Mapping[str | int, Tensor]) -> str:
    if isinstance(returned, Tensor):
        return f"one tensor {_shape(returned)}"
    held = ", ".join(f"{name} {_shape(tensor)}" for name, tensor in tensors.items())
    return f"a {type(returned).__name__} of {held or 'no tensors'}"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _as_literal(example: str) -> str:
    name = example.removeprefix("=")
    return f"={name}" if name.isdecimal() else f"={name!r}"


def _hint(tensor: Tensor, count: int) -> str:
    if tensor.dim() == 4 and len(tensor) == count:
        return "; for class maps (N, classes, H, W) say task=segmentation (model.task=segmentation)"
    return ""
