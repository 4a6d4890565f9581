"""First layers: those whose input is computed from the model's input without any rule, and the rules for them alone.

Values of pixels are no contributions in themselves: black is as good an input as white. So these rules share relevance
by what a pixel could be, and give a share to pixels of 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.explainers._lrp_rules import LEAST_DIVISOR, LinearLayer, Relayed, Weighted, over_contributions

_RULED = tuple(f"{function.__name__}Backward" for function in (Relayed, Weighted))  # as autograd calls them


@dataclass
class FirstLayerInput:
    """The input of a first layer, which is computed from the model's input without any rule.

    prepared    the layer's input
    leaf        the model's input
    reach       by how much each prepared number changes when every input grows by one: 0 at padding
    relevance   of the layer's input, once it is known
    """

    prepared: Tensor
    leaf: Tensor
    reach: Tensor
    relevance: Tensor | None = None

    def at_input(self) -> Tensor:
        """The relevance of the model's inputs: that of a prepared number goes to the inputs it is computed from."""
        moved = self.reach.abs() > LEAST_DIVISOR
        share = torch.where(moved, self.relevance / torch.where(moved, self.reach, 1.0), 0.0)
        return torch.autograd.grad(self.prepared, self.leaf, share, retain_graph=True)[0]

    def at(self, inputs: Tensor) -> Tensor:
        """The layer's input for other inputs of the model, which broadcast to its own; exact for affine operations."""
        with torch.enable_grad():
            ones = torch.ones_like(self.prepared).requires_grad_()
            pulled = torch.autograd.grad(self.prepared, self.leaf, ones, create_graph=True)[0]
            moved = torch.autograd.grad((pulled * (inputs - self.leaf.detach())).sum(), ones)[0]
        return self.prepared.detach() + moved


def first_layer_input(inputs: Tensor) -> FirstLayerInput | None:
    """The record of a first layer's inputs, or None where a rule applied before them.

    Also None where the model computes differences of its inputs, like those from their mean. Such numbers do not change
    when every input grows by one, so that this change cannot divide their relevance: plain differentiation does.
    """
    leaf = _unruled_input(inputs)
    if leaf is None:
        return None
    ones = torch.ones_like(inputs).requires_grad_()
    pulled = torch.autograd.grad(inputs, leaf, ones, create_graph=True)[0]
    uneven = torch.autograd.grad((pulled * _uneven(leaf)).sum(), ones, retain_graph=True)[0]
    reach = torch.autograd.grad(pulled.sum(), ones)[0]
    return None if (uneven.abs() > 2.01 * reach.abs() + LEAST_DIVISOR).any() else FirstLayerInput(inputs, leaf, reach)


def _uneven(leaf: Tensor) -> Tensor:
    """Numbers from 1 to 2, different for neighbours of a sample, the same for every sample."""
    steps = torch.arange(leaf[0].numel(), dtype=torch.float64, device=leaf.device)
    return 1 + (steps * 0.6180339887).frac().to(leaf.dtype).view(leaf.shape[1:])


def _unruled_input(values: Tensor) -> Tensor | None:
    """The model's input, if values are computed from it without any rule; otherwise None."""
    pending, known, leaf = [values.grad_fn], set(), None
    while pending:
        node = pending.pop()
        if node is None or node in known:
            continue
        if type(node).__name__ in _RULED:
            return None
        known.add(node)
        leaf = getattr(node, "variable", leaf)
        pending += [following for following, _ in node.next_functions]
    return leaf


# rule(layer, entry, outputs, relevance): the relevance of the layer's inputs, from that of its outputs.
FirstRule = Callable[[LinearLayer, FirstLayerInput, Tensor, Tensor], Tensor]


def in_equal_shares(layer: LinearLayer, entry: FirstLayerInput, outputs: Tensor, relevance: Tensor) -> Tensor:
    """Each output's relevance in equal shares for those of its inputs that are no padding (Lapuschkin et al. 2019,
    1902.10178)."""
    counted = (entry.reach != 0).to(outputs)
    with torch.enable_grad():
        leaf = counted.detach().requires_grad_()
        number = layer.operation(leaf, torch.ones_like(layer.weight))
    share = torch.where(number > 0.5, relevance / number.detach().clamp(min=0.5), 0.0)
    return counted * torch.autograd.grad(number, leaf, share)[0]


@dataclass(frozen=True)
class Box:
    """In proportion to x w - low w+ - high w-, where w+ and w- are the parts of w above and below 0: how much more an
    input x contributes than the worst that it could be (the z^B rule of Montavon et al. 2017, 1512.02479).

    low, high   the model's lowest and highest inputs, in a shape that broadcasts to them
    """

    low: Tensor
    high: Tensor

    def __call__(self, layer: LinearLayer, entry: FirstLayerInput, outputs: Tensor, relevance: Tensor) -> Tensor:
        ends = entry.at(self.low), entry.at(self.high)
        places = entry.prepared.detach(), torch.minimum(*ends), torch.maximum(*ends)
        weights = layer.weight, -layer.weight.clamp(min=0), -layer.weight.clamp(max=0)
        with torch.enable_grad():
            leaves = [each.detach().requires_grad_() for each in places]
            sums = sum(map(layer.operation, leaves, weights))
        share = over_contributions(relevance, sums.detach(), outputs)
        return sum(x.detach() * g for x, g in zip(leaves, torch.autograd.grad(sums, leaves, share), strict=True))
