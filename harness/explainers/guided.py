"""Explainers that send the target's logit back through ReLUs by a rule of their own: guided backpropagation, deconvnet.

A ReLU is ``relu``; ``relu6``, ``hardtanh`` and ``clamp`` from 0; and ``threshold`` at 0 to 0: as module or function, in
place or reused. Neither paper has a rule for other activations (leaky ones, GELU, SiLU, ...): they keep their plain
derivative and are told as ``unruled``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._gradients import gradient_of, in_chunks
from harness.explainers._operations import OperationRule, exact, traced
from harness.predictor import target_logits
from harness.registry import explainer
from harness.samples import Samples

# way_back(x, y): a tensor of the value of y, the ReLU of x, through which the gradient then goes back to x
WayBack = Callable[[Tensor, Tensor], Tensor]


@explainer(convention="local", cost="1 F 1 B")
def guided_backprop(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The gradient of the target's logit, of which every ReLU passes back what is positive, where it was open
    (Springenberg et al. 2014, 1412.6806).

    Inputs' shape, signed; logit per unit of input. A capped ReLU is open between 0 and its cap. Tells the operations
    seen: with other activations among the ``unruled`` ones, the map is guided in part only. Not applicable to models
    without a ReLU on the way from the input, and as ``gradient``.
    """
    return guided_gradient(model, inputs, targets, context)


@explainer(convention="local", cost="1 F 1 B")
def deconvnet(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The gradient of the target's logit, of which every ReLU passes back what is positive, wherever it was open or
    not (Zeiler and Fergus 2013, 1311.2901).

    Inputs' shape, signed; logit per unit of input. Max pooling sends back to the place of its maximum. Tells the
    operations seen, and is not applicable, as ``guided_backprop``.
    """
    return _through_relus(model, inputs, targets, context, exact)


def guided_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, context: Samples) -> Tensor:
    """The maps of ``guided_backprop``, of the inputs' shape.

    Tells the operations seen; NotApplicable where there is no ReLU among them.
    """
    return _through_relus(model, inputs, targets, context, lambda x, y: y)


def _through_relus(model: nn.Module, inputs: Tensor, targets: Tensor, context: Samples, way_back: WayBack) -> Tensor:
    """The gradient where ReLUs go back by ``way_back``, of which only what is positive arrives."""
    rules = _rules(way_back)

    def of_rows(rows: Tensor) -> Tensor:
        outputs, leaf, operations = traced(model, inputs[rows], rules)
        seen = operations.report()
        if not seen["ruled"]:
            others = ", ".join(sorted(seen["unruled"])) or "none of consequence"
            raise NotApplicable(f"no ReLU on the way from the input, nothing to guide (operations seen: {others})")
        context.tell(operations=seen)
        return gradient_of(target_logits(outputs, targets[rows]), leaf)

    return torch.cat(list(in_chunks(context, of_rows)))


def _rules(way_back: WayBack) -> dict[str, OperationRule]:
    def rule_if(is_relu: Callable[..., bool]) -> OperationRule:
        def rule(function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if not is_relu(*args, **kwargs):
                return NotImplemented
            return _only_positive(way_back(input, function(input, *args, **kwargs)))

        return rule

    return {"relu": rule_if(_threshold_at_0), "relu6": rule_if(_hardtanh_from_0), "clamp": rule_if(_clamp_from_0)}


def _threshold_at_0(threshold: float = 0, value: float = 0, **kwargs: Any) -> bool:
    return threshold == value == 0


def _hardtanh_from_0(min_val: float = 0, max_val: float = 6, **kwargs: Any) -> bool:
    """``relu6`` comes without bounds, ``hardtanh`` with both."""
    return min_val == 0 and max_val > 0


def _clamp_from_0(min: Any = None, max: Any = None, **kwargs: Any) -> bool:
    bounds_are_numbers = isinstance(min, int | float) and isinstance(max, int | float | None)
    return bounds_are_numbers and min == 0 and (max is None or max > 0)


def _only_positive(y: Tensor) -> Tensor:
    if y.requires_grad:  # not where the model works under no_grad
        y.register_hook(lambda gradient: gradient.clamp(min=0))
    return y
