"""The autograd graph of a model's outputs: which numbers a tensor was computed from, and how."""

from typing import Any

from torch import Tensor

Place = tuple[Any, int]  # where numbers were computed: a node of the graph, and which of its outputs

# Operations that only move numbers, by the names of their nodes in the autograd graph; that move or scale them, if one
# of their inputs depends on the model's input; and that work on each number by itself.
MOVES = frozenset("Clone Expand Permute ReshapeAlias Squeeze ToCopy Transpose UnsafeView Unsqueeze View".split())
SCALED_OR_MOVED = MOVES | {"Mul", "Div", "Neg", "Slice", "Select", "Index"}
NUMBER_BY_NUMBER = frozenset("Clone Expand ToCopy Mul Div Neg Add Sub Rsub Pow".split())


def on_graph(*values: Any) -> bool:
    """Whether any of the values is a tensor that depends on the input; all others require no gradient."""
    return any(
        on_graph(*value) if isinstance(value, list | tuple) else isinstance(value, Tensor) and value.requires_grad
        for value in values
    )


def node_before(tensor: Tensor, passed: frozenset[str] = MOVES) -> Place:
    """Where a tensor's numbers were computed, before operations ``passed`` with one dependent input.

    It is a node of the graph, and which of its outputs.
    """
    place = (tensor.grad_fn, tensor.output_nr)
    while place[0] is not None:
        before = _dependent(place[0])
        if place[0].name().endswith("CopyBackwards"):  # written over in place; the last input is what was written
            before = before[-1:]
        elif _operation(place[0]) not in passed:
            break
        if len(before) != 1:
            break
        place = before[0]
    return place


def is_function_of(tensor: Tensor, origin: Place) -> bool:
    """Whether each number of a tensor is a function of one number of what was computed at ``origin``.

    The operations between them work number by number: those of NUMBER_BY_NUMBER, and nodes with the attribute
    ``number_by_number``.
    """
    pending = {(tensor.grad_fn, tensor.output_nr)}
    while pending != {origin}:
        latest = max(pending - {origin}, key=lambda place: place[0]._sequence_nr())
        if not (getattr(latest[0], "number_by_number", False) or _operation(latest[0]) in NUMBER_BY_NUMBER):
            return False
        pending = (pending - {latest}) | set(_dependent(latest[0]))
        if not pending:
            return False
    return True


def _dependent(node: Any) -> list[Place]:
    """The inputs of an operation that depend on the model's input: a node, and which of its outputs."""
    return [before for before in node.next_functions if before[0] is not None]


def _operation(node: Any) -> str:
    """The name of a node's operation, as in MOVES."""
    return node.name().rstrip("0123456789").removesuffix("Backward")
