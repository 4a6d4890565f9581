"""Calling captum: what it needs of a model, and its errors as NotApplicable."""

import copy
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.checks import class_count, first_line
from harness.errors import NotApplicable
from harness.samples import Samples


def number_of_outputs(model: nn.Module, context: Samples, /, **options: object) -> int:
    """The number of the model's outputs."""
    return class_count(context.predictor.logits(context.inputs[:1]))


def number_of_differentiable_outputs(model: nn.Module, context: Samples, /, **options: object) -> int:
    """The number of the model's outputs; NotApplicable where no gradient of them reaches the input."""
    one = context.inputs[:1].clone().requires_grad_()
    with torch.enable_grad():
        outputs = model(one.clone())
        reached = outputs.requires_grad and torch.autograd.grad(outputs.sum(), one, allow_unused=True)[0] is not None
    if not reached:
        raise NotApplicable("no gradient of the model's output reaches its input")
    return class_count(outputs)


def captum_target(targets: Tensor, outputs: int) -> Tensor | None:
    """The target as captum expects it: the class of each sample, or None where the model has a single output."""
    return None if outputs == 1 else targets


def copy_for_captum(model: nn.Module) -> nn.Module:
    """A copy of the model, on which captum may leave what it likes.

    Python refuses to copy tensors that belong to a graph: weights that a hook computes before every call
    (``weight_norm``, ``spectral_norm`` and pruning in their first form), and activations that a model keeps. The copy
    has their values, and computes them anew when it is called.
    """
    computed = [each for part in model.modules() for each in _tensors_kept_in(vars(part)) if not each.is_leaf]
    return copy.deepcopy(model, {id(each): each.detach().clone() for each in computed})


def _tensors_kept_in(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, also in lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors_kept_in(each)


def captum_answer(attribute: Callable[[], Tensor]) -> Tensor:
    """Captum's result; NotApplicable with captum's message where it cannot serve the model."""
    with _captum_refusals(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warning that it sets hooks
        return attribute()


# How torch calls ``register_hook``: also through a mode, such as that of ``right_norm_gradients``.
HOOKING = ("register_hook", "handle_torch_function", "__torch_function__")


@contextmanager
def _captum_refusals() -> Iterator[None]:
    """Turn errors that captum itself raises into NotApplicable; errors of torch or of the model pass unchanged."""
    try:
        yield
    except (TypeError, RuntimeError, AssertionError) as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if frames[-1].f_code.co_name == "register_hook":  # of torch, on a layer that the input does not pass through
            while frames[-1].f_code.co_name in HOOKING:
                del frames[-1]
        if not frames[-1].f_globals.get("__name__", "").startswith("captum."):
            raise
        raise NotApplicable(f"captum: {first_line(error)}") from error
