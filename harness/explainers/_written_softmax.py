"""Softmaxes that a model writes out, as exp(x) / sum(exp(x)) or exp(log_softmax(x)), recognised from its operations."""

from typing import Any

from torch import Tensor

from harness.explainers._graph import Place, node_before


class WrittenSoftmaxes:
    """Remembers the operations of which softmaxes are written, and knows the operation that completes one."""

    def __init__(self) -> None:
        self._raised: dict[Place, Tensor] = {}  # where exp was computed -> of what
        self._sums: dict[Place, tuple[Tensor, int]] = {}  # where a sum was computed of such -> of exp of what, the axis
        self._logs: dict[Place, tuple[Tensor, int]] = {}  # where a log_softmax was computed -> of what, the axis

    def note(self, name: str, args: tuple, kwargs: dict[str, Any], answer: Any) -> None:
        """An operation was computed."""
        if name == "exp":
            self._raised[node_before(answer)] = args[0]
        elif name in ("sum", "log_softmax"):
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
            if not isinstance(axis, int) or isinstance(axis, bool):
                return
            if name == "log_softmax":
                self._logs[node_before(answer)] = (args[0], axis % args[0].dim())
            elif node_before(args[0]) in self._raised:
                self._sums[node_before(answer)] = (self._raised[node_before(args[0])], axis % args[0].dim())

    def completed(self, name: str, args: tuple) -> tuple[Tensor, int] | None:
        """The scores and the axis of the softmax that this operation completes; None for other operations."""
        if name == "exp":
            return self._logs.get(node_before(args[0]))
        if name != "div" or not all(isinstance(each, Tensor) and each.requires_grad for each in args[:2]):
            return None
        scores, (summed, axis) = self._raised.get(node_before(args[0])), self._sums.get(node_before(args[1]), (None, 0))
        shape = [1 if place == axis else size for place, size in enumerate(args[0].shape)]
        same = scores is not None and scores is summed and scores.shape == args[0].shape
        return (scores, axis) if same and list(args[1].shape) == shape else None
