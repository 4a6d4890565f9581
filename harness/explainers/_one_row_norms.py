"""Right gradients of norms for one image on a CPU.

torch's CPU kernel for the backward pass of ``batch_norm`` reads numbers in the wrong order if the batch has one row, at
least two axes of places, and either its input or the gradient at its output lies transposed in memory, as after
``flatten(2).transpose(1, 2)`` (seen with torch 2.14, not on GPUs). ``instance_norm`` of one row uses the same
kernel. In LeViT the gradient of an image alone is unlike that of the same image in a batch.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# As functions, which also compiled programs can compare.
NORMS = (
    F.batch_norm,
    F.instance_norm,
    torch.batch_norm,
    torch.instance_norm,
    torch.ops.aten.batch_norm.default,
    torch.ops.aten.instance_norm.default,
)


def right_norm_gradients(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, norms have right gradients for batches of one row on a CPU too, whichever code calls the model.

    It does not matter which explainer computes the gradient, or which chunk has one row only.
    """
    return _RowMajorNorms() if device.type == "cpu" else nullcontext()


class _RowMajorNorms(TorchFunctionMode):
    """Gives norms of one row an input and a gradient that lie in the order of their axes, which the kernel reads."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in NORMS:
            return function(*args, **kwargs)
        if args:
            args = (_row_major(args[0]), *args[1:])
        else:
            kwargs = {**kwargs, "input": _row_major(kwargs["input"])}
        answer = function(*args, **kwargs)
        if answer.requires_grad and len(answer) == 1:
            answer.register_hook(_row_major)
        return answer


def _row_major(values: Tensor) -> Tensor:
    return values.contiguous() if len(values) == 1 else values
