"""DeepLift's rules for operations: where each rule is exact, and the operations' arguments at the baseline."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import NotApplicable
from harness.explainers import _multipliers as multipliers
from harness.explainers._graph import SCALED_OR_MOVED, node_before, on_graph
from harness.explainers._multipliers import Approximation
from harness.explainers._operations import OperationRule, exact

_PRODUCTS = tuple(
    """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul einsum mul outer inner
    tensordot
    """.split()
)

# Operations whose rule applies unless they are linear as they are called, in which case they need no rule.
LINEAR_OPERATIONS = frozenset({*_PRODUCTS, "batch_norm", "embedding", "grid_sample"})


class References:
    """The arguments of all operations in a pass over the baselines, for a pass over the inputs after it.

    These are two passes rather than one over both, because the batch axis of an operation is not known and the
    baselines need no gradient.
    """

    def __init__(self) -> None:
        self._arguments: list[tuple[str, tuple]] = []
        self._at: int | None = None  # None during the pass over the baselines
        self._reciprocals: set[Any] = set()  # the nodes of the graph that computed them

    def begin(self) -> None:
        """The pass over the inputs begins."""
        self._at = 0

    def meet(self, name: str, args: tuple, keep: Callable[[Any], bool] = on_graph) -> tuple | None:
        """The arguments of this operation at the baselines; None in the pass over the baselines, which stores them."""
        if self._at is None:
            # Clones, as the model may change them in place.
            self._arguments.append((name, tuple(each.detach().clone() if keep(each) else each for each in args)))
            return None
        known, stored = self._arguments[self._at] if self._at < len(self._arguments) else ("", ())
        if known != name or _shapes(stored) != _shapes(args):
            raise NotApplicable(f"at {name} the model computes differently for the input than for the baseline")
        self._arguments[self._at] = ("", ())  # no longer needed
        self._at += 1
        return stored

    def note_reciprocal(self, answer: Tensor) -> None:
        """The tensor consists of reciprocals, like 1 / s or rsqrt(v)."""
        self._reciprocals.add(answer.grad_fn)

    def is_reciprocal(self, value: Any) -> bool:
        """Whether a tensor consists of reciprocals, which were moved or scaled since."""
        return isinstance(value, Tensor) and node_before(value, SCALED_OR_MOVED)[0] in self._reciprocals

    def end(self) -> None:
        """The pass over the inputs ends; NotApplicable where it had fewer operations than that over the baselines."""
        if self._at != len(self._arguments):
            raise NotApplicable(
                f"{len(self._arguments) - (self._at or 0)} operations on the baseline are missing on the input"
            )


def _shapes(args: tuple) -> list[torch.Size | None]:
    return [each.shape if isinstance(each, Tensor) else None for each in args]


def rescale_rules(references: References) -> dict[str, OperationRule]:
    """The rules by the names of operations. An operation for which no rule is exact counts as unruled."""
    exact_rules = {name: _rescale_rule(references, name, *rule) for name, rule in _RULES.items()}
    choices = {name: _same_choice(references, name) for name in ("where", "masked_fill")}
    products = {name: _product_rule(references, name) for name in _PRODUCTS}
    return exact_rules | products | choices | {"batch_norm": _of_the_batch, "grid_sample": _at_constant_places}


def _rescale_rule(
    references: References, name: str, approximate: Approximation, serves: Callable[..., bool]
) -> OperationRule:
    def rule(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        if on_graph(*kwargs.values()) or not serves(*args, **kwargs):
            return NotImplemented
        met, y = references.meet(name, args), function(*args, **kwargs)
        if met is None:
            return y
        if isinstance(y, tuple):  # values and indices
            return type(y)((exact(approximate(y[0].detach(), function, args, met, kwargs), y[0]), *y[1:]))
        answer = exact(approximate(y.detach(), function, args, met, kwargs), y)
        if _is_reciprocal(name, function, args):
            references.note_reciprocal(answer)
        return answer

    return rule


def _is_reciprocal(name: str, function: Callable[..., Any], args: tuple) -> bool:
    """Whether an operation computes a constant over something, as also a power below zero and rsqrt do."""
    if name == "pow":
        exponent = args[1] if len(args) > 1 else -1 if function.__name__.startswith("rsqrt") else 1
        return isinstance(exponent, int | float) and exponent < 0
    return name == "reciprocal" or (name == "div" and len(list(filter(on_graph, args))) == 1)


def _times_reciprocal(references: References, args: tuple) -> Approximation | None:
    """The approximation of a product with one reciprocal; None for other products."""
    places = [place for place, each in enumerate(args) if references.is_reciprocal(each)]
    return partial(multipliers.times_reciprocal, place=places[0]) if len(places) == 1 else None


def _product_rule(references: References, name: str) -> OperationRule:
    def rule(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if name == "einsum" and isinstance(args[1], list | tuple):
            args = (args[0], *args[1])
        factors = sum(map(on_graph, (*args, *kwargs.values())))
        if factors == 1:
            return NotImplemented  # linear
        if (factors > 2 and name == "einsum") or on_graph(*kwargs.values()):
            raise NotApplicable(f"DeepLift has no rule for {name} of {factors} factors that depend on the input")
        of_quotient = _times_reciprocal(references, args) if name == "mul" else None
        of_two = _rescale_rule(references, name, of_quotient or multipliers.quadratic, _always)
        return of_two(function, *args, **kwargs)

    return rule


def _always(*args: Any, **kwargs: Any) -> bool:
    return True


def _first_alone(*args: Any, **kwargs: Any) -> bool:
    return not on_graph(*args[1:])


def _euclidean(*args: Any, **kwargs: Any) -> bool:
    order = args[1] if len(args) > 1 else kwargs.get("p", kwargs.get("ord", 2))
    return _first_alone(*args) and order in (2, "fro", None)


def _along_one_axis(*args: Any, **kwargs: Any) -> bool:
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    return isinstance(dim, int) and not isinstance(dim, bool)


def _along_axes_or_of_two(*args: Any, **kwargs: Any) -> bool:
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    return isinstance(dim, int | Tensor) or (isinstance(dim, list | tuple) and len(dim) > 0)


def _true_quotient(*args: Any, rounding_mode: str | None = None, **kwargs: Any) -> bool:
    return rounding_mode is None


def _same_choice(references: References, name: str) -> OperationRule:
    """For operations that choose values by a mask: linear if it is the same at the baseline, else NotApplicable."""

    def rule(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        mask = next(each for each in (*args, *kwargs.values()) if getattr(each, "dtype", None) == torch.bool)
        met = references.meet(name, (mask,), keep=lambda each: True)
        if met and not torch.equal(met[0], mask):
            raise NotApplicable(f"the mask of {name} for the input differs from that for the baseline")
        return function(*args, **kwargs)

    return rule


def _at_constant_places(function: Callable[..., Tensor], input: Tensor, grid: Tensor, *args: Any, **kwargs: Any) -> Any:
    if on_graph(grid):
        raise NotApplicable("DeepLift has no rule for grid_sample at places that depend on the input")
    return NotImplemented  # linear


def _of_the_batch(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    if kwargs.get("training", args[5] if len(args) > 5 else False):
        raise NotApplicable("a batch_norm takes its statistics from the batch, which mixes the samples")
    return NotImplemented  # affine


_PIECES = ("relu", "relu6", "clamp", "abs")
_SMOOTH = tuple(
    """
    leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish hardsigmoid sigmoid logsigmoid tanh softplus
    softsign softshrink hardshrink tanhshrink exp expm1 exp2 log log1p log2 log10 pow __rpow__ reciprocal erf
    sin cos tan atan sinh cosh asinh
    """.split()
)
_POOLS = {
    f"{kind}max_pool{axes}d{indices}": multipliers.max_pool(axes, getattr(F, f"{kind}max_pool{axes}d_with_indices"))
    for kind in ("", "adaptive_")
    for axes in (1, 2, 3)
    for indices in ("", "_with_indices")
}

# The multipliers of each operation, and a function of its arguments: whether they are exact for these.
_RULES: dict[str, tuple[Approximation, Callable[..., bool]]] = {
    **dict.fromkeys(_PIECES, (multipliers.pieces, _first_alone)),
    **dict.fromkeys(_SMOOTH, (multipliers.smooth, _first_alone)),
    **{name: (rule, _first_alone) for name, rule in _POOLS.items()},
    **dict.fromkeys(("amax", "max"), (multipliers.largest, _along_axes_or_of_two)),
    **dict.fromkeys(("amin", "min"), (multipliers.smallest, _along_axes_or_of_two)),
    **dict.fromkeys(("maximum", "fmax"), (multipliers.largest, _always)),
    **dict.fromkeys(("minimum", "fmin"), (multipliers.smallest, _always)),
    **dict.fromkeys(("norm", "linalg_vector_norm"), (multipliers.norm_root, _euclidean)),
    "var": (multipliers.quadratic, _first_alone),
    "std": (multipliers.standard_deviation, _first_alone),
    "div": (multipliers.quotient, _true_quotient),
    "softmax": (multipliers.softmax, _along_one_axis),
    "log_softmax": (multipliers.log_softmax, _along_one_axis),
    "layer_norm": (multipliers.layer_norm, _first_alone),
    "rms_norm": (multipliers.rms_norm, _first_alone),
    "group_norm": (multipliers.group_norm, _first_alone),
    "instance_norm": (multipliers.instance_norm, _first_alone),
    "normalize": (multipliers.normalize, _euclidean),
}
