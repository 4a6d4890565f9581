"""How operations other than linear layers pass relevance on: functions of single numbers, norms, products, maxima."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import NotApplicable
from harness.explainers._graph import is_function_of, node_before, on_graph
from harness.explainers._lrp_first_layers import first_layer_input
from harness.explainers._lrp_rules import LayerRule, Weighted, ratio
from harness.explainers._operations import OperationRule

# Functions of single numbers, and quotients whose norm is held constant: the input gets all relevance of the output.
ELEMENTWISE = tuple(
    """
    relu relu6 leaky_relu prelu elu selu celu gelu silu mish hardswish hardsigmoid sigmoid logsigmoid tanh
    softplus softsign hardshrink rrelu erf clamp abs rms_norm normalize local_response_norm
    """.split()
)

# The winner gets all relevance, as by plain differentiation.
SELECTING = (
    *(
        f"{adaptive}max_pool{axes}d{indices}"
        for adaptive in ("", "adaptive_")
        for axes in (1, 2, 3)
        for indices in ("", "_with_indices")
    ),
    *"amax amin max min maximum minimum where sort topk".split(),
)

RECURRENT = tuple(f"{kind}{cell}" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for cell in ("", "_cell"))

LARGEST_MASK = -9e3  # masks add -10,000, -65,504, -1e9, the least number of a type, or minus infinity
SCALED = frozenset("Clone ToCopy Mul Div Neg".split())  # nodes of the graph that keep all relevance
EXPONENTS = {"rsqrt": -0.5, "sqrt": 0.5, "square": 2}


def passing_rules(rule: LayerRule) -> dict[str, OperationRule]:
    """Rules for ``traced`` by the names of operations, which do not depend on earlier operations."""
    return {
        **dict.fromkeys(ELEMENTWISE, elementwise),
        **dict.fromkeys(SELECTING, _itself),
        **{name: partial(_refused, name) for name in RECURRENT},
        "mul": partial(_mul, rule),
        "div": _div,
        "pow": _pow,
        "reciprocal": _reciprocal,
        "var": partial(shared, rule),
        "layer_norm": partial(_layer_norm, rule),
        "group_norm": partial(_group_norm, rule),
        "instance_norm": partial(_instance_norm, rule),
        "rsub": partial(shifted, rule),
        "__rsub__": partial(shifted, rule),
    }


def plainly(function: Callable, *args: Any, **named: Any) -> Tensor:
    """The values of an operation, without a graph."""
    with torch.no_grad():
        return function(*args, **named)


def over_channels(vector: Tensor, axis: int, axes: int) -> Tensor:
    """A vector (C,) reshaped to lie along one of so many axes."""
    return vector.reshape([-1 if place == axis else 1 for place in range(axes)])


def elementwise(function: Callable, input: Tensor, *rest: Any, **named: Any) -> Tensor:
    """All relevance of an output goes to its input; before the first layer the operation is differentiated plainly."""
    if not on_graph(input) or on_graph(*rest, *named.values()):
        return NotImplemented
    if first_layer_input(input) is not None:
        return function(input, *rest, **named)
    return _all_to(input, plainly(function, input, *rest, **named))


def _all_to(input: Tensor, values: Tensor) -> Tensor:
    """Values that pass all relevance on to an input of their shape, or one that is broadcast to it."""
    answer = Weighted.apply(input.expand_as(values), values, ratio(values, input.detach()))
    answer.grad_fn.number_by_number = True
    return answer


def shifted(rule: LayerRule, function: Callable, *args: Any, **named: Any) -> Tensor:
    """A sum or difference with constants: these are biases, whose relevance is passed on unless they absorb it.

    Numbers of a mask, which hide scores from a softmax, are no biases and have no relevance to pass on.
    """
    own = [place for place, each in enumerate(args) if on_graph(each)]
    if len(own) != 1 or on_graph(*named.values()) or rule.absorbs:
        return NotImplemented  # each of two tensors that depend on the input has relevance of its own
    before, input, after = args[: own[0]], args[own[0]], args[own[0] + 1 :]
    move = lambda x: function(*before, x, *after, **named)
    hidden = plainly(move, input) - input.detach() <= LARGEST_MASK
    answer = elementwise(move, input)
    return torch.where(hidden, move(input), answer) if hidden.any() else answer


def shared(rule: LayerRule, function: Callable, *args: Any, **named: Any) -> Tensor:
    """A product of two tensors that depend on the input: each gets half of the relevance (2402.05602, Prop. 3.3).

    So does a variance, a mean of products of a tensor with itself.
    """
    product = function(*args, **named)
    values = product.detach()
    return Weighted.apply(product, values, rule.quotient(values, 2 * values, values))


def _mul(rule: LayerRule, function: Callable, *args: Any, **named: Any) -> Tensor:
    """A product: its factors share the relevance, unless it is a function of single numbers written out.

    In x * sigmoid(x) or 0.5 x (1 + erf(x / 2)) both factors are functions of x, one only scales it, and x gets all.
    """
    for factor, other in (args[:2], args[1::-1]):
        if factor.shape == other.shape and is_function_of(other, node_before(factor, SCALED)):
            return _all_to(factor, plainly(function, *args, **named))
    return shared(rule, function, *args, **named)


def _reciprocal(function: Callable, *args: Any, **named: Any) -> Tensor:
    """A reciprocal counts as that of a norm, as in layer norms."""
    return plainly(function, *args, **named)


def _itself(function: Callable, *args: Any, **named: Any) -> Any:
    return function(*args, **named)


def _refused(name: str, function: Callable, *args: Any, **named: Any) -> Any:
    raise NotApplicable(f"the model's recurrent layer ({name}) hides its gates, so that no rule applies to them")


def _div(function: Callable, *args: Any, **named: Any) -> Tensor:
    """A quotient: the divisor counts as a norm and is held constant, as in layer norms."""
    if not on_graph(args[0]) or not on_graph(args[1]):  # a constant over something; of 1 / x the first argument is x
        return _reciprocal(function, *args, **named)
    return function(args[0], args[1].detach(), *args[2:], **named)


def _pow(function: Callable, input: Tensor, *rest: Any) -> Tensor:
    """A power: it passes relevance on; with an exponent below zero it counts as a norm and is held constant."""
    exponent = rest[0] if rest else EXPONENTS.get(getattr(function, "__name__", ""))
    if not isinstance(exponent, int | float) or not on_graph(input):
        return NotImplemented
    return function(input, *rest).detach() if exponent < 0 else elementwise(function, input, *rest)


def _layer_norm(
    rule: LayerRule,
    function: Callable,
    input: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> Tensor:
    normed = _standardised_by_constant(input, tuple(range(-len(normalized_shape), 0)), eps)
    normed = normed if weight is None else normed * weight
    return _after_norm(rule, normed, plainly(function, input, normalized_shape, weight, bias, eps))


def _group_norm(
    rule: LayerRule,
    function: Callable,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> Tensor:
    values = plainly(function, input, num_groups, weight, bias, eps)
    return _after_norm(rule, _in_groups(input, num_groups, weight, eps), values)


def _instance_norm(
    rule: LayerRule,
    function: Callable,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if function is not F.instance_norm or not use_input_stats:
        return NotImplemented
    values = plainly(function, input, None, None, weight, bias, True, momentum, eps)
    return _after_norm(rule, _in_groups(input, input.shape[1], weight, eps), values)


def _in_groups(input: Tensor, groups: int, weight: Tensor | None, eps: float) -> Tensor:
    grouped = input.unflatten(1, (groups, -1))
    normed = _standardised_by_constant(grouped, tuple(range(2, grouped.dim())), eps).flatten(1, 2)
    return normed if weight is None else normed * over_channels(weight, 1, input.dim())


def _standardised_by_constant(input: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """Centred and divided by a standard deviation that is held constant (2202.07304)."""
    variance = input.detach().var(axes, unbiased=False, keepdim=True)
    return (input - input.mean(axes, keepdim=True)) * torch.rsqrt(variance + eps)


def _after_norm(rule: LayerRule, normed: Tensor, values: Tensor) -> Tensor:
    factor = torch.ones_like(values) if rule.absorbs else ratio(values, normed.detach())
    return Weighted.apply(normed, values, factor)
