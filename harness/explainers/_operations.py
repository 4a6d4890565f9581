"""Rules that replace the derivatives of a model's operations, whichever modules or functions call them.

A torch function mode sees every torch function that the model calls. A rule may compute it instead, with the true value
and a derivative of its own. Nothing is registered on the model: operations in functions, in modules that are used more
than once and in place are seen like any other, and nothing remains afterwards.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.errors import NotApplicable
from harness.explainers._attention_parts import TAKEN_APART
from harness.explainers._operation_names import WITH_CONSEQUENCE, canonical_name
from harness.guards import frozen

# rule(function, *args, **kwargs) returns the operation's result; ``function`` computes the operation itself, not in
# place. A rule that does not cover these arguments returns NotImplemented, and the operation counts as unruled.
OperationRule = Callable[..., Any]

DRIFT = 1e-4  # of the largest output: rules keep all values, up to the rounding of sums in another order
# Where the modules are whose operations have no gradient.
QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")


class Operations(TorchFunctionMode):
    """Sees the operations of a model, and lets rules compute some of them.

    Fused attention is first taken apart into linear layers, products and softmaxes (``_attention_parts``), to which
    rules then apply. Rules apply only to operations that depend on the input. Products with constants only scale, and
    no rule applies to them.

    ruled      how often each operation was computed by a rule
    unruled    how often each operation of WITH_CONSEQUENCE was not
    """

    def __init__(self, rules: Mapping[str, OperationRule]) -> None:
        super().__init__()
        self.rules = rules
        self.ruled: Counter[str] = Counter()
        self.unruled: Counter[str] = Counter()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = _held_constant(args), _held_constant(kwargs or {})
        name, in_place = canonical_name(function)
        if name in TAKEN_APART:
            with self:  # inside its own method a mode is off: on again, so that the parts are seen
                return TAKEN_APART[name](*args, **kwargs)
        constant = not torch.is_grad_enabled() or not on_graph(*args, *kwargs.values())
        if constant or _scales(function, name, args, kwargs):
            return function(*args, **kwargs)
        rule = self.rules.get(name)
        if rule is None:
            self.unruled[name] += name in WITH_CONSEQUENCE
            return function(*args, **kwargs)
        if in_place or kwargs.get("inplace"):
            plain = {**kwargs, **({"inplace": False} if "inplace" in kwargs else {})}
            answer = _in_place(rule, function, args, plain)
        else:
            answer = rule(function, *args, **kwargs)
        if answer is NotImplemented:
            self.unruled[name] += name in WITH_CONSEQUENCE
            return function(*args, **kwargs)
        self.ruled[name] += 1
        return answer

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


def _scales(function: Callable[..., Any], name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a product or quotient is by a constant."""
    if name == "div":  # of 1 / x the first argument is x
        return "__r" not in function.__name__ and not on_graph(kwargs.get("other", args[-1] if args else None))
    return name == "mul" and not all(map(on_graph, (*args, *kwargs.values())))


def on_graph(*values: Any) -> bool:
    """Whether any of the values is a tensor that depends on the input; all others require no gradient."""
    return any(
        on_graph(*value) if isinstance(value, list | tuple) else isinstance(value, Tensor) and value.requires_grad
        for value in values
    )


@contextmanager
def operations_visible(model: nn.Module) -> Iterator[None]:
    """Freeze parameters and run a compiled model eagerly, so that modes see its operations; not for scripted parts."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise NotApplicable(f"the model's {name or 'own code'} is scripted, which hides its operations")
        if type(part).__module__.startswith(QUANTISED):
            raise NotApplicable(f"the model's {name} computes with quantised weights, through which no gradient passes")
    with frozen(model), torch.compiler.set_stance("force_eager"):
        yield


def traced(model: nn.Module, inputs: Tensor, rules: Mapping[str, OperationRule]) -> tuple[Tensor, Tensor, Operations]:
    """The model's outputs computed with rules, the leaf of their graph with the inputs' values, and the operations.

    RuntimeError where the first sample's outputs differ from those of the model without rules: the explanation would be
    of another function. NotApplicable where the model's own outputs differ from call to call.
    """
    leaf, operations = inputs.detach().clone().requires_grad_(), Operations(rules)
    with operations_visible(model), torch.enable_grad():
        passed = leaf.clone()  # a model may change its input in place, which a leaf forbids
        with operations:
            outputs = model(passed)
        with torch.no_grad():
            expected = model(inputs[:1].clone())
    difference = lambda got: float((got.detach() - expected).abs().max())
    allowed, off = DRIFT * float(expected.abs().max()) + 1e-6, difference(outputs[:1])
    if not off <= allowed:
        with torch.no_grad():
            own = difference(model(inputs[:1].clone()))
        if own > allowed:
            raise NotApplicable(f"the model's outputs differ by {own:.1e} between two calls with the same input")
        raise RuntimeError(f"with the rules the model's output is off by {off:.1e}: they would explain another model")
    return outputs, leaf, operations


def exact(approximate: Tensor, value: Tensor) -> Tensor:
    """A tensor with exactly this value, and with the derivative of ``approximate``."""
    return value.detach() + (approximate - approximate.detach())


def _in_place(rule: OperationRule, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """The rule's result, written into the first argument as the model's own operation does."""
    target = args[0]
    answer = rule(
        lambda first, *rest, **named: function(first.clone(), *rest, **named), target.clone(), *args[1:], **kwargs
    )
    if answer is NotImplemented:
        return answer
    target.copy_(answer)
    vars(target).update(vars(answer))  # attributes that a rule set on its result
    return target
