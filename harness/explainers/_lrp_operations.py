"""Relevance through the operations of a model: linear layers, and the operations that are merged into them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import NotApplicable
from harness.explainers._graph import on_graph
from harness.explainers._lrp_first_layers import FirstLayerInput, FirstRule, first_layer_input
from harness.explainers._lrp_passing import elementwise, over_channels, passing_rules, plainly, shared, shifted
from harness.explainers._lrp_rules import LayerRule, LinearLayer, Relayed, carry
from harness.explainers._operations import OperationRule, note_on, put_note

CONVOLUTIONS = tuple(f"{kind}{axes}d" for kind in ("conv", "conv_transpose") for axes in (1, 2, 3))
PRODUCTS = ("matmul", "einsum", "tensordot", "inner")


@dataclass
class Propagation:
    """The rules of one explanation for ``traced``, and records of the operations to which they applied.

    rule          of dense layers, and of everything else that a rule applies to
    convolution   the rule of convolutions
    first         the rule of first convolutions; None: that of other convolutions
    softmax       ``plain`` for its own derivative, ``constant`` for none at all, None for no rule
    entries       the inputs of first layers; where a BatchNorm is merged into one, only its own entry gets relevance
    layers        the number of linear layers, ``specials`` that of those with the rule ``first``, ``merged`` that of
                  BatchNorms merged into them
    products      the number of matrix products of two tensors that depend on the input
    softmaxes     the number of softmaxes
    """

    rule: LayerRule
    convolution: LayerRule
    first: FirstRule | None = None
    softmax: str | None = None
    entries: list[FirstLayerInput] = field(default_factory=list)
    layers: int = 0
    specials: int = 0
    merged: int = 0
    products: int = 0
    softmaxes: int = 0

    def rules(self) -> dict[str, OperationRule]:
        """The rules by the names of operations."""
        return {
            **passing_rules(self.rule),
            **dict.fromkeys(CONVOLUTIONS, self._convolution),
            **dict.fromkeys(PRODUCTS, self._product),
            "linear": self._linear,
            "batch_norm": self._batch_norm,
            "scale": self._scale,
            "neg": self._scale,
            "add": self._add,
            "sub": self._sub,
            "subtract": self._sub,
            **({} if self.softmax is None else {"softmax": self._softmax}),
        }

    def relevance(self, logits: Tensor, leaf: Tensor) -> Tensor:
        """Relevance of the inputs, in their shape, from the logits (N,) that are explained."""
        gradient = torch.autograd.grad(logits.sum(), leaf, retain_graph=True, allow_unused=True)[0]
        passed = torch.zeros_like(leaf) if gradient is None else leaf.detach() * gradient
        return passed + sum(entry.at_input() for entry in self.entries if entry.relevance is not None)

    def _convolution(
        self, function: Callable, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
    ) -> Tensor:
        if on_graph(weight, bias):
            return NotImplemented
        values, axis = plainly(function, input, weight, bias, *rest, **named), None
        if (
            input.dim() == weight.dim()
        ):  # a batch; with groups, the kernels of a transposed convolution have a part of the channels each
            axis = 1 if function.__name__.startswith("conv_transpose") else 0
            axis = axis if weight.shape[axis] == values.shape[1] else None
        bias = values.new_zeros(1) if bias is None else bias.detach()
        shift = over_channels(bias, values.dim() - weight.dim() + 1, values.dim())
        layer = LinearLayer(lambda x, w: function(x, w, None, *rest, **named), weight.detach(), shift, axis, True)
        return self._layer(layer, input, values)

    def _linear(self, function: Callable, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if on_graph(weight, bias):
            return NotImplemented
        values = plainly(function, input, weight, bias)
        shift = values.new_zeros(()) if bias is None else bias.detach()
        return self._layer(
            LinearLayer(function, weight.detach(), shift, 0 if values.dim() == 2 else None), input, values
        )

    def _product(self, function: Callable, *args: Any, **named: Any) -> Tensor:
        if len(args) == 2 and isinstance(args[1], list | tuple):
            args = (args[0], *args[1])  # einsum takes a list, too
        places = [place for place, each in enumerate(args) if isinstance(each, Tensor)]
        if len(places) != 2 or on_graph(*named.values()):
            return NotImplemented
        if all(on_graph(args[place]) for place in places):
            self.products += 1
            return shared(self.rule, function, *args, **named)
        own, other = places if on_graph(args[places[0]]) else reversed(places)

        def operation(x: Tensor, weight: Tensor) -> Tensor:
            placed = {own: x, other: weight}
            return function(*(placed.get(place, each) for place, each in enumerate(args)), **named)

        values, weight = plainly(function, *args, **named), args[other].detach()
        by_columns = function.__name__ in ("matmul", "mm") and other == 1 and weight.dim() == values.dim() == 2
        return self._layer(
            LinearLayer(operation, weight, values.new_zeros(()), 1 if by_columns else None), args[own], values
        )

    def _layer(self, layer: LinearLayer, inputs: Tensor, values: Tensor) -> Tensor:
        """A linear layer's outputs, with the layer noted on them so that a scale or shift can be merged into it."""
        entry, first, rule = first_layer_input(inputs), None, self.convolution if layer.convolution else self.rule
        if entry is not None:
            self.entries.append(entry)
            first = self.first if layer.convolution else None
        self.layers, self.specials = self.layers + 1, self.specials + (first is not None)

        def send(inputs: Tensor, values: Tensor, gradient: Tensor) -> Tensor | None:
            if first is not None:
                entry.relevance = first(layer, entry, values, values * gradient)
                return None
            carried = carry(rule, layer, inputs, values, gradient)
            if entry is None:
                return carried
            entry.relevance = inputs.detach() * carried
            return None

        answer = Relayed.apply(inputs, values, send)
        put_note(answer, (layer, inputs))
        return answer

    def _merged(self, input: Tensor, values: Tensor, change: Callable[[LinearLayer], LinearLayer]) -> Tensor:
        """The layer whose output ``input`` is, and the operation after it, as one layer."""
        layer, inputs = note_on(input)
        special = self.first is not None and layer.convolution and first_layer_input(inputs) is not None
        self.layers, self.specials = self.layers - 1, self.specials - special
        return self._layer(change(layer), inputs, values)

    def _batch_norm(self, function: Callable, input: Tensor, *args: Any, **named: Any) -> Tensor:
        if function is not F.batch_norm:  # torch.batch_norm, which exported programs call, takes the weight first
            if named or len(args) != 8:
                return NotImplemented
            function, args = F.batch_norm, (*args[2:4], *args[:2], *args[4:7])
        scale, shift = _scale_and_shift(*args, **named)
        if not note_on(input) or note_on(input)[0].axis is None:
            if self.rule.absorbs:
                return function(input, *args, **named)
            return elementwise(function, input, *args, **named)
        self.merged += 1
        scale, shift = (over_channels(each, 1, input.dim()) for each in (scale, shift))
        values = plainly(function, input, *args, **named)
        return self._merged(input, values, lambda layer: layer.then(scale, shift))

    def _add(self, function: Callable, *args: Any, **named: Any) -> Tensor:
        own = [place for place, each in enumerate(args) if on_graph(each)]
        scaled = own == [1] and "alpha" in named  # a merged operation may only change the shift
        if len(own) != 1 or on_graph(*named.values()) or scaled or not note_on(args[own[0]]):
            return shifted(self.rule, function, *args, **named)
        input, values = args[own[0]], plainly(function, *args, **named)
        if values.shape != input.shape:
            return shifted(self.rule, function, *args, **named)
        added = plainly(function, *(input.new_zeros(()) if each is input else each for each in args), **named)
        return self._merged(input, values, lambda layer: replace(layer, shift=layer.shift + added))

    def _scale(self, function: Callable, *args: Any, **named: Any) -> Tensor:
        """A constant scale of each channel is part of the layer before it, as in a BatchNorm that is written out."""
        input = next(each for each in args if on_graph(each))
        if named or not note_on(input) or note_on(input)[0].axis is None:
            return NotImplemented
        ones = input.new_ones(1, input.shape[1], *[1] * (input.dim() - 2))
        factor = plainly(function, *(ones if each is input else each for each in args))
        if factor.shape != ones.shape:
            return NotImplemented
        values = plainly(function, *args)
        return self._merged(input, values, lambda layer: layer.then(factor, torch.zeros_like(factor)))

    def _sub(self, function: Callable, *args: Any, **named: Any) -> Tensor:
        return (
            self._add(function, *args, **named) if on_graph(args[0]) else shifted(self.rule, function, *args, **named)
        )

    def _softmax(self, function: Callable, *args: Any, **named: Any) -> Tensor:
        self.softmaxes += 1
        answer = function(*args, **named)
        return answer.detach() if self.softmax == "constant" else answer


def _scale_and_shift(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """The scale and the shift of each channel in a BatchNorm."""
    if training:
        raise NotApplicable("a BatchNorm that works on the batch's own statistics mixes samples; call model.eval()")
    scale = torch.rsqrt(running_var + eps) * (1 if weight is None else weight.detach())
    return scale, (0 if bias is None else bias.detach()) - running_mean * scale
