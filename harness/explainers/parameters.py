"""Explainers from the importance of parameters: how much the logit depends on each weight that multiplies the input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._gradients import in_chunks, zeros_to_sum
from harness.explainers._graph import on_graph
from harness.explainers._operation_names import WITH_CONSEQUENCE
from harness.explainers._operations import OperationRule, traced
from harness.guards import requiring
from harness.predictor import check_outputs, target_logits
from harness.randomness import normal, stream
from harness.registry import explainer
from harness.samples import Samples

# Operations that are linear in the argument that depends on the input, if the others are constant.
FIRST_LAYER_OPERATIONS = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul einsum inner "
    "tensordot".split()
)


def tell_parameters(model: nn.Module, context: Samples, /, **options: object) -> None:
    """Tell the table ``parameters``: the importance |w * dL/dw| of every parameter (Lee et al. 2018, 1810.02340).

    L is the mean logit of the targets over the first samples of a block. ``importance`` is the sum over a parameter's
    elements, ``share`` its part of the sum over all parameters, ``layer`` and ``kind`` the name and class of the module
    that has it, ``size`` its number of elements.
    """
    if context.facts is not None:
        context.tell(parameters=parameter_importance(model, context))


@explainer(signed=False, cost="1 F 1 B", prepare=tell_parameters)
def gradient_x_weight(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """Gradient x weight: the sum of |weight * input * gradient| over the weights of the first layers by which a number
    of the input is multiplied (SNIP's |w * dL/dw| by sample and place; Lee et al. 2018, 1810.02340).

    Inputs' shape; at least 0; logit. A convolution's weights count at each place separately, as if each place had its
    own. Every single product is taken as absolute value: the signed products sum to input x gradient, which
    ``input_x_gradient`` gives. A first layer is a linear or convolution operation that the input reaches without
    passing another one; operations before it may move, pool, pad, shift and scale the numbers. Facts: the table
    ``parameters`` with the importance of every parameter. Not applicable where the input first meets another
    operation, like an activation, or is added up with factors of both signs, and as ``gradient``.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3), where the third ReLU is closed. x2 = 3 has the
    weight 1 in both open ReLUs: |3| + |-3| = 6, where input x gradient cancels to 0.

    >>> harness.explain("gradient_x_weight", relu_net, x, target)
    tensor([[1., 6.]])
    """
    with torch.enable_grad():
        return torch.cat([*in_chunks(context, lambda rows: _by_weight(model, inputs[rows], targets[rows]))])


def parameter_importance(model: nn.Module, context: Samples) -> pd.DataFrame:
    """The table of ``tell_parameters``: layer, kind, parameter, size, importance, share."""
    rows = []
    for name, slope in _slopes(model, context).items():
        layer, _, parameter = name.rpartition(".")
        weight, kind = model.get_parameter(name).detach(), type(model.get_submodule(layer)).__name__
        rows.append((layer, kind, parameter, weight.numel(), float((weight * slope).double().abs().sum())))
    table = pd.DataFrame(rows, columns=["layer", "kind", "parameter", "size", "importance"])
    return table.assign(share=table.importance / (table.importance.sum() or 1.0))


def _slopes(model: nn.Module, context: Samples) -> dict[str, Tensor]:
    """The gradients of the targets' mean logit with respect to the parameters, by name."""
    sums = {name: zeros_to_sum(each) for name, each in model.named_parameters() if each.is_floating_point()}
    with requiring(model, True), torch.enable_grad():
        wanted = [model.get_parameter(name) for name in sums]

        def work(rows: Tensor) -> tuple[Tensor | None, ...]:
            outputs = check_outputs(model(context.inputs[rows].clone()), len(rows))
            logits = target_logits(outputs, context.targets[rows])
            return torch.autograd.grad(logits.sum(), wanted, allow_unused=True) if logits.requires_grad else ()

        for slopes in in_chunks(context, work):
            for total, slope in zip(sums.values(), slopes, strict=False):
                if slope is not None:
                    total += slope / len(context)
    return sums


def _by_weight(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    first = _FirstLayers()
    outputs, leaf, _ = traced(model, inputs, first.rules())
    if not first.met:
        raise NotApplicable("the input meets no linear or convolution operation")
    if not outputs.requires_grad:
        raise NotApplicable("no gradient of the model's output reaches its input")
    logits = target_logits(outputs, targets).sum()
    slopes = torch.autograd.grad(logits, [met[1] for met in first.met], allow_unused=True, retain_graph=True)
    if all(slope is None for slope in slopes):
        raise NotApplicable("no gradient of the model's output reaches its input")
    answer, first.gates.closed = torch.zeros_like(inputs), True
    for (entering, _, absolute), slope in zip(first.met, slopes, strict=True):
        if slope is not None:
            answer += _through(leaf, entering, absolute, slope.abs())
    return inputs.abs() * answer


def _through(leaf: Tensor, entering: Tensor, absolute: Callable[[Tensor], Tensor], slope: Tensor) -> Tensor:
    """Absolute slopes at a layer's outputs, passed back through its absolute weights and the operations before it."""
    own = entering.detach().requires_grad_()
    back = torch.autograd.grad(absolute(own), own, slope)[0]
    return torch.autograd.grad(entering, leaf, back * _signs(leaf, entering), retain_graph=True)[0]


def _signs(leaf: Tensor, entering: Tensor) -> Tensor:
    """The sign of the factors by which the input's numbers are multiplied in each number that enters a layer.

    The operations before a first layer are linear in the input, so that the derivative along any positive direction has
    this sign if all factors have it. Two directions are compared: NotApplicable where factors have both signs.
    """
    key = stream(torch.zeros(1, dtype=torch.int64), 0, "gradient_x_weight signs")
    uneven = (
        normal(key, *leaf.shape[1:]).mul(3).exp().to(leaf).expand_as(leaf)
    )  # uneven, so that opposite signs do not cancel
    probe = torch.ones_like(entering).requires_grad_()
    forth = torch.autograd.grad(entering, leaf, probe, create_graph=True)[0]
    signs, others = (
        torch.autograd.grad(forth, probe, along, retain_graph=True)[0].sign()
        for along in (torch.ones_like(forth), uneven)
    )
    if (signs != others).any():
        raise NotApplicable("before the first layer numbers of the input are added up with factors of both signs")
    return signs


@dataclass
class _Gates:
    """Whether gradients stop at the gates: they then reach the input only on paths without a first layer."""

    closed: bool = False


class _Gate(torch.autograd.Function):
    """Passes values on, and gradients back unless the gates are closed."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gates: _Gates) -> Tensor:
        ctx.gates = gates
        return value.clone()  # what follows may work in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        return None if ctx.gates.closed else gradient, None


class _FirstLayers:
    """Rules that record each linear operation that the input reaches first, and put a gate behind it.

    met     for each of them: its input, its output, and the operation itself with absolute weights
    gates   open until they are closed
    """

    def __init__(self) -> None:
        self.met: list[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]] = []
        self.gates = _Gates()  # an object of its own: a graph that refers to this one would refer to itself
        self._beyond: set[Any] = set()  # nodes from which every path to the input passes a gate

    def rules(self) -> dict[str, OperationRule]:
        names = WITH_CONSEQUENCE | {"sub", "rsub", "__sub__", "__rsub__", "subtract"}
        return {name: self._meet if name in FIRST_LAYER_OPERATIONS else self._pass_by(name) for name in names}

    def _meet(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        entering = [value for value in (*args, *kwargs.values()) if on_graph(value)]
        if not any(map(self._reaches, entering)):
            return function(*args, **kwargs)
        if len(entering) > 1 or not isinstance(entering[0], Tensor):
            raise NotApplicable("the weights of the first layer depend on the input")

        def absolute(own: Tensor) -> Tensor:
            put = lambda value: own if value is entering[0] else _absolute(value)
            return function(*map(put, args), **{name: put(value) for name, value in kwargs.items()})

        leaving = function(*args, **kwargs)
        self.met.append((entering[0], leaving, absolute))
        gated = _Gate.apply(leaving, self.gates)
        self._beyond.add(gated.grad_fn)
        return gated

    def _pass_by(self, name: str) -> OperationRule:
        def rule(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            reaching = sum(map(self._reaches, (*args, *kwargs.values())))
            if reaching > (1 if "sub" in name else 0):
                raise NotApplicable(f"the input first meets the operation {name}, not a linear one or a convolution")
            return function(*args, **kwargs)

        return rule

    def _reaches(self, value: Any) -> bool:
        """Whether a tensor depends on the input on a path without a gate."""
        if isinstance(value, list | tuple):
            return any(map(self._reaches, value))
        if not on_graph(value):
            return False
        if value.grad_fn is None:
            return True
        seen, ahead = set(), [value.grad_fn]
        while ahead:
            node = ahead.pop()
            if node in seen or node in self._beyond:
                continue
            if not node.next_functions:  # a leaf: parameters are frozen, so it is the input
                return True
            seen.add(node)
            ahead += [before for before, _ in node.next_functions if before is not None]
        self._beyond |= seen
        return False


def _absolute(value: Any) -> Any:
    return value.detach().abs() if isinstance(value, Tensor) else value
