"""Operations that consist of others, taken apart: rules for products, sums and functions of single numbers then apply.

A model may call ``F.glu`` or write ``a * sigmoid(b)``: the rules of every explainer see the same operations.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.explainers._attention_parts import ATTENTION


def _scaled(values: Tensor, factor: float) -> Tensor:
    return values if factor == 1 else factor * values


def _addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + _scaled(tensor1 * tensor2, value)


def _addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + _scaled(tensor1 / tensor2, value)


def _lerp(input: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    return input + weight * (end - input)


def _glu(input: Tensor, dim: int = -1) -> Tensor:
    value, gate = input.chunk(2, dim)
    return value * torch.sigmoid(gate)


def _tanhshrink(input: Tensor) -> Tensor:
    return input - torch.tanh(input)


def _softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    return input - torch.clamp(input, -lambd, lambd)


def _add_product(input: Tensor, product: Tensor, beta: float) -> Tensor:
    return product if beta == 0 else product + _scaled(input, beta)  # with 0 torch does not read the input


def _addmm(input: Tensor, *factors: Tensor, beta: float = 1, alpha: float = 1, **named: Tensor) -> Tensor:
    """``addmm``, ``addmv`` and ``baddbmm``; ``alpha`` is part of the weights, as in a linear layer."""
    return _add_product(input, _product(*factors, alpha=alpha, **named), beta)


def _addbmm(input: Tensor, *factors: Tensor, beta: float = 1, alpha: float = 1, **named: Tensor) -> Tensor:
    return _add_product(input, _product(*factors, alpha=alpha, **named).sum(0), beta)


def _product(*factors: Tensor, alpha: float, **named: Tensor) -> Tensor:
    first, second = (*factors, *(named[name] for name in sorted(named)))  # mat1, mat2; mat, vec; batch1, batch2
    return torch.matmul(first, _scaled(second, alpha))


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.bilinear``: a linear layer of the first input, (..., out, in2), times the second input, summed."""
    rows = F.linear(input1, weight.transpose(1, 2).flatten(0, 1)).unflatten(-1, (weight.shape[0], -1))
    product = (rows * input2.unsqueeze(-2)).sum(-1)
    return product if bias is None else product + bias


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    first, second = (torch.linalg.vector_norm(each, dim=dim).clamp_min(eps) for each in (x1, x2))
    return (x1 * x2).sum(dim) / (first * second)


def _softmin(input: Tensor, dim: int | None = None, *rest: Any, **named: Any) -> Tensor:
    return torch.softmax(-input, dim)


def _spread_and_mean(spread: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """``var_mean`` or ``std_mean``, whose axes are the first argument that is no flag."""

    def apart(input: Tensor, *args: Any, **named: Any) -> tuple[Tensor, Tensor]:
        axes = named.get("dim", args[0] if args and not isinstance(args[0], bool) else None)
        keepdim = named.get("keepdim", args[2] if len(args) > 2 else False)
        mean = input.mean() if axes is None else input.mean(axes, keepdim)
        return spread(input, *args, **named), mean

    return apart


def _clamped(bound: str) -> Callable[..., Tensor]:
    """``maximum`` or ``minimum`` with a constant, which bounds the values; that of two dependent tensors is left."""

    def apart(input: Tensor, other: Any = None, *rest: Any, **named: Any) -> Tensor:
        if not isinstance(other, Tensor) or input.requires_grad == other.requires_grad:
            return NotImplemented
        values, limit = (input, other) if input.requires_grad else (other, input)
        if limit.numel() == 1 and limit.dim() <= values.dim():
            limit = limit.item()  # rules look at the number: a bound of 0 makes a ReLU
        return torch.clamp(values, **{bound: limit})

    return apart


# By name. A function may return NotImplemented for arguments with which the operation stays whole.
TAKEN_APART: dict[str, Callable[..., Any]] = {
    **ATTENTION,
    **dict.fromkeys(("addmm", "addmv", "baddbmm"), _addmm),
    **dict.fromkeys(("maximum", "max", "fmax"), _clamped("min")),
    **dict.fromkeys(("minimum", "min", "fmin"), _clamped("max")),
    "addbmm": _addbmm,
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
    "bilinear": _bilinear,
    "cosine_similarity": _cosine_similarity,
    "glu": _glu,
    "lerp": _lerp,
    "softmin": _softmin,
    "softshrink": _softshrink,
    "std_mean": _spread_and_mean(torch.std),
    "tanhshrink": _tanhshrink,
    "var_mean": _spread_and_mean(torch.var),
}
