"""Rules that replace the derivatives of a model's operations, whichever modules or functions call them.

A torch function mode sees every torch function that the model calls. A rule may compute it instead, with the true value
and a derivative of its own. Nothing is registered on the model: operations in functions, in modules that are used more
than once and in place are seen like any other, and nothing remains afterwards.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.as_written import as_written
from harness.errors import NotApplicable
from harness.explainers._graph import on_graph
from harness.explainers._operation_names import WITH_CONSEQUENCE, canonical_name
from harness.explainers._operations_apart import TAKEN_APART
from harness.explainers._written_softmax import WrittenSoftmaxes
from harness.guards import frozen

# rule(function, *args, **kwargs) returns the operation's result; ``function`` computes the operation itself, not in
# place. A rule that does not cover these arguments returns NotImplemented, and the operation counts as unruled.
OperationRule = Callable[..., Any]

# The names of arguments in the order of their places, where models may give them by name.
ONE_OR_TWO = {
    **dict.fromkeys("mul div add sub subtract maximum minimum fmax fmin inner".split(), ("input", "other")),
    "matmul": ("input", "mat2", "vec", "tensor", "other"),
    "pow": ("input", "exponent"),
}
DRIFT = 1e-4  # of the largest output: rules keep all values, up to the rounding of sums in another order
ROUNDINGS = 8  # in half precision that is more: fused attention does not round between its parts
# Where the modules are whose operations have no gradient.
QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")


class Operations(TorchFunctionMode):
    """Sees the operations of a model, and lets rules compute some of them.

    Operations that consist of others, like fused attention and gates, are first taken apart (``_operations_apart``), so
    that rules apply to their parts; a softmax that the model writes out is one softmax. Rules apply only to operations
    that depend on the input. Products with constants only scale: their rule is ``scale``, if any.

    ruled      how often each operation was computed by a rule
    unruled    how often each operation of WITH_CONSEQUENCE was not
    """

    def __init__(self, rules: Mapping[str, OperationRule]) -> None:
        super().__init__()
        self.rules = rules
        self.ruled: Counter[str] = Counter()
        self.unruled: Counter[str] = Counter()
        self._softmaxes = WrittenSoftmaxes()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, in_place = canonical_name(function)
        args, kwargs = _by_position(name, _held_constant(args), _held_constant(kwargs or {}))
        if not torch.is_grad_enabled() or not on_graph(*args, *kwargs.values()):
            return function(*args, **kwargs)
        answer = self._computed(function, name, in_place, args, kwargs)
        self._softmaxes.note(name, args, kwargs, answer)
        return answer

    def _computed(
        self, function: Callable[..., Any], name: str, in_place: bool, args: tuple, kwargs: dict[str, Any]
    ) -> Any:
        """The result of an operation that depends on the input, by its parts, as a whole softmax or by its rule."""
        softmax = self._softmaxes.completed(name, args)
        instead = (lambda *args, **kwargs: torch.softmax(*softmax)) if softmax else TAKEN_APART.get(name)
        if instead is not None:
            answer = _answer_of(partial(self._seen, instead), function, in_place, args, kwargs)
            if answer is not NotImplemented:
                return answer
        scales = _scales(function, name, args, kwargs)
        rule = self.rules.get("scale" if scales else name)
        answer = NotImplemented if rule is None else _answer_of(rule, function, in_place, args, kwargs)
        if answer is NotImplemented:
            self.unruled[name] += name in WITH_CONSEQUENCE and not scales
            return function(*args, **kwargs)
        self.ruled[name] += 1
        return answer

    def _seen(self, instead: Callable[..., Any], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What is computed instead of an operation, with rules."""
        with self:  # inside its own method a mode is off
            return instead(*args, **kwargs)

    def report(self) -> dict[str, dict[str, int]]:
        """The counts, for ``Samples.tell(operations=...)``."""
        return {"ruled": dict(self.ruled), "unruled": {name: count for name, count in self.unruled.items() if count}}


def _held_constant(value: Any) -> Any:
    """The value with every leaf detached: weights that the model has not registered as parameters are not frozen."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad and value.is_leaf else value
    if type(value) in (list, tuple):
        return type(value)(map(_held_constant, value))
    return {name: _held_constant(each) for name, each in value.items()} if type(value) is dict else value


def _by_position(name: str, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments, those that operations of one or two tensors have by name put into their places."""
    if name in ONE_OR_TWO and len(args) < 2 and kwargs:
        placed = [kwargs[each] for each in ONE_OR_TWO[name] if each in kwargs]
        left = {each: value for each, value in kwargs.items() if each not in ONE_OR_TWO[name]}
        return (*args, *placed), left
    return args, kwargs


def _scales(function: Callable[..., Any], name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a product or quotient is by a constant."""
    if name == "div":  # of 1 / x the first argument is x
        return "__r" not in function.__name__ and not on_graph(args[1])
    return name == "mul" and not all(map(on_graph, (*args, *kwargs.values())))


@contextmanager
def operations_visible(model: nn.Module) -> Iterator[None]:
    """Freeze parameters and run a compiled model eagerly, so that modes see its operations; not for scripted parts."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise NotApplicable(f"the model's {name or 'own code'} is scripted, which hides its operations")
        if type(part).__module__.startswith(QUANTISED):
            raise NotApplicable(f"the model's {name} computes with quantised weights, through which no gradient passes")
    with frozen(model), as_written():
        yield


def traced(model: nn.Module, inputs: Tensor, rules: Mapping[str, OperationRule]) -> tuple[Tensor, Tensor, Operations]:
    """The model's outputs computed with rules, the leaf of their graph with the inputs' values, and the operations.

    RuntimeError where the first sample's outputs differ from those of the model without rules: the explanation would be
    of another function. Outputs that are not finite may be so with rules too. NotApplicable where the model's own
    outputs differ from call to call.
    """
    leaf, operations = inputs.detach().clone().requires_grad_(), Operations(rules)
    with operations_visible(model), torch.enable_grad():
        passed = leaf.clone()  # a model may change its input in place, which a leaf forbids
        with operations:
            outputs = model(passed)
        with torch.no_grad():
            expected = model(inputs[:1].clone())
    difference = lambda got: float((got.detach() - expected).masked_fill(_equal_or_nan(got, expected), 0).abs().max())
    drift = max(DRIFT, ROUNDINGS * torch.finfo(expected.dtype).eps)
    allowed, off = drift * float(expected.nan_to_num(0, 0, 0).abs().max()) + 1e-6, difference(outputs[:1])
    if not off <= allowed:
        with torch.no_grad():
            own = difference(model(inputs[:1].clone()))
        if own > allowed:
            raise NotApplicable(f"the model's outputs differ by {own:.1e} between two calls with the same input")
        raise RuntimeError(f"with the rules the model's output is off by {off:.1e}: they would explain another model")
    return outputs, leaf, operations


def _equal_or_nan(first: Tensor, second: Tensor) -> Tensor:
    """Where two tensors have the same value, bool: NaN is the same as NaN, and infinity as itself."""
    return (first == second) | (first.isnan() & second.isnan())


def put_note(tensor: Tensor, about: Any) -> None:
    """Note on a tensor what a rule knows of its numbers."""
    tensor.note = (about, tensor._version)


def note_on(tensor: Tensor) -> Any:
    """What was noted on a tensor; None if nothing was, or if its numbers were changed in place since."""
    about, version = getattr(tensor, "note", (None, None))
    return about if version == tensor._version else None


def exact(approximate: Tensor, value: Tensor) -> Tensor:
    """A tensor with exactly this value, and with the derivative of ``approximate``."""
    return value.detach() + (approximate - approximate.detach())


def _answer_of(
    rule: OperationRule, function: Callable[..., Any], in_place: bool, args: tuple, kwargs: dict[str, Any]
) -> Any:
    """The rule's result; of an operation in place, written into the first argument as the model's own does."""
    if not in_place and not kwargs.get("inplace"):
        return rule(function, *args, **kwargs)
    kwargs = {**kwargs, **({"inplace": False} if "inplace" in kwargs else {})}
    target, copy = args[0], args[0].clone()
    put_note(copy, note_on(target))
    answer = rule(_not_in_place(function) if in_place else function, copy, *args[1:], **kwargs)
    if answer is NotImplemented or answer.shape != target.shape:  # a turn in place gives the tensor other axes
        return NotImplemented
    if not answer.requires_grad and not target._is_view():
        target.detach_()  # what the rule held constant depends on nothing
    target.copy_(answer)
    put_note(target, note_on(answer))
    return target


def _not_in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """The tensor's method that does the same in new memory; the function on a copy where there is none."""
    name = function.__name__
    plain = f"__{name[3:]}" if name.startswith("__i") else name.removesuffix("_")
    return getattr(Tensor, plain, lambda first, *rest, **named: function(first.clone(), *rest, **named))
