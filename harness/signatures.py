"""What a function of each kind is called with, and the check of a function's arguments before anything runs."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from harness.errors import UserError

# For each kind of item: the arguments by position, and what the function can read from them and has to return.
CALLED_WITH = {"explainer": ("model", "inputs", "targets"), "metric": ("batch",), "model": (), "dataset": ()}
CONTRACTS = {
    "explainer": "it returns attributions, a tensor of the inputs' shape or (N, 1, H, W)",
    "metric": (
        "it has batch.model, batch.inputs, batch.targets and batch.attributions (N, *units); it returns a tensor (N,)"
    ),
    "model": "it returns a torch.nn.Module or a harness.LoadedModel",
    "dataset": "it returns harness.Data",
}


def check_signature(kind: str, name: str, function: Callable[..., Any], handed_in: tuple[str, ...] = ()) -> None:
    """UserError if a function cannot be called with the arguments of its kind, and its options by keyword.

    ``handed_in`` are the arguments that the harness passes by name to a function that has them.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return
    first = CALLED_WITH[kind]
    keywords = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY or p.name in handed_in]
    try:
        signature.bind(*first, **dict.fromkeys(keywords))
    except TypeError:
        called = getattr(function, "__name__", type(function).__name__)
        expected = ", ".join([*first, "*", "option=default"])
        raise UserError(
            f"{kind} {name} takes {_arguments(signature)}, expected {called}({expected}): {CONTRACTS[kind]}; "
            "docs/extending.md has an example"
        ) from None


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function by name; none for a builtin without a signature."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def positional_option(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of this name with a default that is not keyword-only, and so is no option."""
    parameter = parameters_of(function).get(name)
    if parameter is None or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
        return False
    return parameter.default is not parameter.empty


def _arguments(signature: inspect.Signature) -> str:
    """The arguments without annotations and return value, as they are written."""
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(plain))
