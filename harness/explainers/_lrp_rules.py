"""The rules of layer-wise relevance propagation for one linear layer, and how autograd carries relevance.

The relevance of every tensor t is R = t * g, where g takes the place of the gradient. Operations that add up, move or
scale values then share relevance in proportion without any rule. A layer whose outputs y are sums of contributions
passes on g = d z / d x * (R / z), where z are the contributions as the rule counts them. No value changes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Rule = Literal["zplus", "epsilon", "gamma", "alpha_beta"]
RULES = get_args(Rule)

# Where the inputs' contributions are at most this share of an output, the output is its bias, and the quotient would
# consist of rounding errors.
DEAD = 1e-6
LEAST_DIVISOR = 1e-20  # of a divisor: with a smaller one, quotients leave the range of float32

Modifier = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RulePart:
    """A share of the relevance, and the contributions in proportion to which it is passed on.

    positive, negative   functions of the weights, for inputs above and below zero
    sign                 1: only the relevance of outputs above zero; -1: of the others; 0: of all
    """

    share: float
    positive: Modifier
    negative: Modifier
    sign: int = 0


@dataclass(frozen=True)
class LayerRule:
    """How a linear layer passes relevance on.

    epsilon   added to denominators with their sign; None: contributions that sum to zero get no relevance
    absorbs   whether the bias counts as a contribution and keeps its relevance
    """

    parts: tuple[RulePart, ...]
    epsilon: float | None = None
    absorbs: bool = False

    def quotient(self, relevance: Tensor, contributions: Tensor, outputs: Tensor) -> Tensor:
        """Relevance per unit of contribution; ``outputs`` are the layer's outputs."""
        if self.epsilon is not None:
            return relevance / (contributions + self.epsilon * torch.where(contributions < 0, -1.0, 1.0))
        return over_contributions(relevance, contributions, outputs)


def over_contributions(relevance: Tensor, contributions: Tensor, outputs: Tensor) -> Tensor:
    """Relevance per unit of contribution; 0 where the output is a bias alone."""
    alive = contributions.abs() > (DEAD * outputs.abs()).clamp(min=LEAST_DIVISOR)
    return torch.where(alive, relevance / torch.where(alive, contributions, 1.0), 0.0)


def rule_of(name: str, epsilon: float, gamma: float, alpha: float, absorbs: bool) -> LayerRule:
    """One of RULES by name; ``absorbs`` says whether biases keep their share."""
    parts = {
        "epsilon": (RulePart(1, _unchanged, _unchanged),),
        "zplus": (RulePart(1, _positive_part, _negative_part),),
        "alpha_beta": (
            RulePart(alpha, _positive_part, _negative_part),
            RulePart(1 - alpha, _negative_part, _positive_part),
        ),
        "gamma": (
            RulePart(1, _more(_positive_part, gamma), _more(_negative_part, gamma), 1),
            RulePart(1, _more(_negative_part, gamma), _more(_positive_part, gamma), -1),
        ),
    }[name]
    return LayerRule(parts, epsilon if name == "epsilon" else None, absorbs)


def _unchanged(weight: Tensor) -> Tensor:
    return weight


def _positive_part(weight: Tensor) -> Tensor:
    return weight.clamp(min=0)


def _negative_part(weight: Tensor) -> Tensor:
    return weight.clamp(max=0)


def _more(side: Modifier, gamma: float) -> Modifier:
    return lambda weight: weight + gamma * side(weight)


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer: ``operation(inputs, weight) + shift``.

    shift   broadcasts onto the outputs
    axis    the axis of the weight that belongs to the outputs' channels (their axis 1); None where there is none
    """

    operation: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    shift: Tensor
    axis: int | None = None
    convolution: bool = False

    def then(self, scale: Tensor, shift: Tensor) -> "LinearLayer":
        """This layer and then a scale and a shift of each channel, both (1, C, 1, ...), as one layer."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.weight.dim())]
        return replace(self, weight=self.weight * scale.reshape(shape), shift=self.shift * scale + shift)

    def contributions(self, part: RulePart, inputs: Tensor) -> Tensor:
        """The sums of the inputs' contributions to the outputs, without the bias, as a part of a rule counts them."""
        if part.positive is part.negative:
            return self.operation(inputs, part.positive(self.weight))
        total = self.operation(inputs.clamp(min=0), part.positive(self.weight))
        if (inputs < 0).any():  # after a ReLU none are
            total = total + self.operation(inputs.clamp(max=0), part.negative(self.weight))
        return total


def carry(rule: LayerRule, layer: LinearLayer, inputs: Tensor, outputs: Tensor, gradient: Tensor) -> Tensor:
    """The number g that takes the place of the gradient at a layer's inputs, from that at its outputs."""
    relevance, carried = outputs * gradient, torch.zeros_like(inputs)
    for part in rule.parts:
        own = relevance if part.sign == 0 else relevance * ((outputs > 0) == (part.sign > 0))
        if part.share == 0 or (part.sign and not own.any()):
            continue
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            sums = layer.contributions(part, leaf)
        counted = sums.detach() + part.positive(layer.shift) if rule.absorbs else sums.detach()
        carried += part.share * torch.autograd.grad(sums, leaf, rule.quotient(own, counted, outputs))[0]
    return carried


class Relayed(torch.autograd.Function):
    """Forward, it returns ``values``; backward, ``carry(inputs, values, gradient)``."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, values: Tensor, carry: Callable[..., Tensor | None]) -> Tensor:
        ctx.carry = carry
        ctx.save_for_backward(inputs, values)
        return values.clone()  # the model may change it in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        return ctx.carry(*ctx.saved_tensors, gradient), None, None


class Weighted(torch.autograd.Function):
    """Forward, it returns ``values``; backward, the gradient times a factor of the same shape."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, values: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.saved_tensors[0], None, None


def ratio(values: Tensor, inputs: Tensor) -> Tensor:
    """The factor with which an elementwise function passes on all relevance: values / inputs, 0 where inputs are 0.

    It is 0, too, where a mask made values so large that the factor is infinite.
    """
    alive = inputs.abs() > LEAST_DIVISOR
    factor = values / torch.where(alive, inputs, 1.0)
    return torch.where(alive & factor.isfinite(), factor, 0.0)
