"""What counts as a ReLU among a model's operations, and rules that put something in its place.

These operations are ReLUs: ``relu``; ``relu6``, ``hardtanh`` and ``clamp`` with the lower bound 0; and ``threshold`` at
0 to 0. It does not matter whether they are modules or functions, work in place or are used more than once.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from harness.explainers._operations import OperationRule

# instead(x, y, cap): what stands in place of y, the ReLU of x with this cap, which is infinite without one
Instead = Callable[[Tensor, Tensor, float], Tensor]


def relu_rules(instead: Instead) -> dict[str, OperationRule]:
    """Rules by operation name. A rule returns NotImplemented for a call that is not a ReLU."""

    def rule_if(cap_of: Callable[..., float | None]) -> OperationRule:
        def rule(function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            cap = cap_of(*args, **kwargs)
            return NotImplemented if cap is None else instead(input, function(input, *args, **kwargs), cap)

        return rule

    return {"relu": rule_if(_cap_of_threshold), "relu6": rule_if(_cap_of_hardtanh), "clamp": rule_if(_cap_of_clamp)}


def _cap_of_threshold(threshold: float = 0, value: float = 0, **kwargs: Any) -> float | None:
    return math.inf if threshold == value == 0 else None


def _cap_of_hardtanh(min_val: float = 0, max_val: float = 6, **kwargs: Any) -> float | None:
    """``relu6`` is called without bounds, ``hardtanh`` with both."""
    return max_val if min_val == 0 and max_val > 0 else None


def _cap_of_clamp(min: Any = None, max: Any = None, **kwargs: Any) -> float | None:
    bounds_are_numbers = isinstance(min, int | float) and isinstance(max, int | float | None)
    if not bounds_are_numbers or min != 0 or (max is not None and max <= 0):
        return None
    return math.inf if max is None else max
