"""The relevance of attention weights by layer-wise relevance propagation, as Chefer et al. 2021 (2012.09838) pass it.

Linear layers share relevance by the positive contributions; norms, softmaxes and functions of single numbers pass it
on; a matrix product gives half to each factor. A residual sum shares it by the magnitudes of the two sides' sums.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.explainers._attention_maps import AttentionWatch
from harness.explainers._lrp_operations import Propagation
from harness.explainers._lrp_passing import elementwise
from harness.explainers._lrp_rules import rule_of
from harness.explainers._operations import OperationRule, Operations, on_graph, traced
from harness.predictor import check_outputs, target_logits

PASSED_ON = ("layer_norm", "group_norm", "instance_norm", "softmax")


@torch.inference_mode(mode=False)
@torch.enable_grad()
def relevance_of_weights(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Operations]:
    """The relevance (n, heads, T, T) of all attention weights, first layer first, of a target's logit of relevance 1.

    Samples must be on the first axis of all residual sums, unless there is only one.
    """
    watch = AttentionWatch()
    outputs, _, operations = traced(model, inputs, _rules(watch, alone=len(inputs) == 1))
    logits = target_logits(check_outputs(outputs, len(inputs)), targets.clone())
    maps = list(watch.maps.values())
    start = torch.where(logits == 0, 0.0, 1 / logits).detach()
    gradients = torch.autograd.grad(logits, [each.weights for each in maps], start)
    found = [each.heads(each.weights * gradient, len(inputs)) for each, gradient in zip(maps, gradients, strict=True)]
    return found, operations


def _rules(watch: AttentionWatch, alone: bool) -> dict[str, OperationRule]:
    """Rules that pass relevance on, while the watch records softmaxes and the products with their results.

    ``alone``: there is a single sample, on whichever axis.
    """
    zplus = rule_of("zplus", 1e-6, 0.0, 1.0, absorbs=False)
    passing = Propagation(zplus, zplus).rules()
    plain_sum = passing["add"]

    def add(function: Callable[..., Tensor], *args: Any, **named: Any) -> Tensor:
        two = len(args) == 2 and not named and all(map(on_graph, args)) and args[0].shape == args[1].shape
        return _ResidualSum.apply(*args, alone) if two else plain_sum(function, *args, **named)

    passing |= dict.fromkeys(PASSED_ON, elementwise) | {"add": add}
    watching = watch.rules()
    return {name: _watched(watching.get(name), rule) for name, rule in passing.items()}


def _watched(watching: OperationRule | None, passing: OperationRule) -> OperationRule:
    """A rule that computes an operation as ``passing`` does and shows operands and result to ``watching``."""
    if watching is None:
        return passing

    def rule(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        def passed(*args: Any, **named: Any) -> Any:
            answer = passing(function, *args, **named)
            return function(*args, **named) if answer is NotImplemented else answer

        return watching(passed, *args, **named)

    return rule


class _ResidualSum(torch.autograd.Function):
    """Forward, a + b; backward, relevance in proportion to |sum of a's relevance| and |sum of b's|, for each sample.

    The relevance of each is first that of the values, a g and b g, and is then scaled to its share of the whole
    (equations 9 and 10 of 2012.09838).
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, alone: bool) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.alone = alone
        return a + b

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        over = list(range(0 if ctx.alone else 1, gradient.dim()))
        sums = [(each * gradient).sum(over, keepdim=True) for each in ctx.saved_tensors]
        whole, magnitude = sums[0] + sums[1], sums[0].abs() + sums[1].abs()
        scales = [torch.where(each == 0, 0.0, whole * each.abs() / (magnitude * each)) for each in sums]
        return gradient * scales[0], gradient * scales[1], None
