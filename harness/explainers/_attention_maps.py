"""A model's attention maps: the softmaxes that weigh values, their gradients, and the tokens that the output reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._graph import node_before, on_graph
from harness.explainers._operations import OperationRule, Operations, traced
from harness.predictor import check_outputs, target_logits

# Operations that give the same tokens with their axes in another order.
_TURNS = ("transpose", "permute", "movedim", "swapaxes")


@dataclass(frozen=True)
class AttentionMap:
    """Attention weights on the graph, as they are multiplied with values.

    query, key   the axes of the queries and of the keys, counted from the end
    places       the number of places, of all samples, at which the last linear layer or convolution before it works
    entering     the input of the last linear layer before the softmax: the tokens that attend to one another
    """

    weights: Tensor
    query: int
    key: int
    places: int
    entering: Tensor | None = None

    def arranged(self, tensor: Tensor) -> Tensor:
        """The weights, or their gradient, as (..., queries, keys)."""
        return tensor.detach().movedim((self.query, self.key), (-2, -1))

    def heads(self, tensor: Tensor, count: int) -> Tensor:
        """The weights, or their gradient, of ``count`` samples as (count, heads, queries, keys)."""
        arranged = self.arranged(tensor)
        return arranged.reshape(count, -1, *arranged.shape[-2:])


class AttentionWatch:
    """Rules for ``traced`` that record each softmax whose result is multiplied with values.

    maps     the attention maps, by the softmax's node in the graph
    grids    the sizes (h, w) of the outputs of convolutions before the first attention
    sums     the lengths of the first axis of sums of two tensors that depend on the input, such as residual ones
    """

    def __init__(self) -> None:
        self.softmaxes: dict[Any, Tensor] = {}
        self.entering: dict[Any, Tensor | None] = {}
        self.sums: list[int] = []
        self.tokens: Tensor | None = None
        self.maps: dict[Any, AttentionMap] = {}
        self.grids: list[tuple[int, int]] = []
        self.places = 0

    def rules(self) -> dict[str, OperationRule]:
        """The rules by the names of operations; made on demand, as storing them would be a cycle of references."""
        return {
            "softmax": self._softmax,
            "matmul": self._matmul,
            "einsum": self._einsum,
            "linear": self._linear,
            "add": self._add,
            **dict.fromkeys(_TURNS, self._turn),
            "conv1d": self._convolution,
            "conv2d": self._convolution,
        }

    def changed(self) -> list[Tensor]:
        """Results of softmaxes that look like maps of T tokens, but were not multiplied with values unchanged."""
        unused = (answer for node, answer in self.softmaxes.items() if node not in self.maps)
        return [answer for answer in unused if answer.dim() > 2 and answer.shape[-1] == answer.shape[-2] > 1]

    def _softmax(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        answer = function(*args, **kwargs)
        self.softmaxes[answer.grad_fn], self.entering[answer.grad_fn] = answer, self.tokens
        return answer

    def _matmul(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        product, (left, right) = function(*args, **kwargs), (*args, *kwargs.values())[:2]
        self._note(left, -2, -1)
        self._note(right, -1, -2)  # values to the left, as in V A^T
        if on_graph(left) and not on_graph(right):  # a linear layer, such as GPT-2's
            return self._at_places(product, left)
        if not on_graph(left):
            self.places = product.numel() // product.shape[-1]
        return product

    def _einsum(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        equation, *operands = args
        operands = operands[0] if operands and isinstance(operands[0], list | tuple) else operands
        if isinstance(equation, str) and len(operands) == 2:
            for operand, axes in zip(operands, _einsum_axes(equation), strict=True):
                if axes is not None:
                    self._note(operand, *axes)
        return function(*args, **kwargs)

    def _linear(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return self._at_places(function(*args, **kwargs), next(iter((*args, *kwargs.values()))))

    def _at_places(self, answer: Tensor, entering: Tensor) -> Tensor:
        while hasattr(entering, "before_turn"):  # the tokens that residual connections take, too
            entering = entering.before_turn
        self.places, self.tokens = answer.numel() // answer.shape[-1], entering
        return answer

    def _turn(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        before, answer = next(iter((*args, *kwargs.values()))), function(*args, **kwargs)
        # Where a turn in place has changed the tensor itself, there is none before it.
        if answer is not before and answer.stride(-1) == before.stride(-1):  # a token's numbers stay on the last axis
            answer.before_turn = before
        return answer

    def _add(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        answer = function(*args, **kwargs)
        if all(map(on_graph, args)):
            self.sums.append(len(answer))
        return answer

    def _convolution(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        answer = function(*args, **kwargs)
        self.places = answer[:, 0].numel()
        if answer.dim() == 4 and not self.maps:
            self.grids.append(tuple(answer.shape[2:]))
        return answer

    def _note(self, operand: Any, query: int, key: int) -> None:
        """Record an operand of a product if it is the result of a softmax, even if its numbers were moved since."""
        node = node_before(operand)[0] if isinstance(operand, Tensor) and operand.dim() > 1 else None
        if node not in self.softmaxes:
            return
        if node in self.maps:
            raise NotApplicable("an attention map weighs two sets of values, so that it has no single gradient")
        self.maps[node] = AttentionMap(operand, query, key, self.places, self.entering[node])


def watched(model: nn.Module, inputs: Tensor) -> tuple[Tensor, list[AttentionMap], AttentionWatch, Operations]:
    """The model's outputs, its attention maps in the order of their use, and the records they come from.

    NotApplicable where no softmax weighs values, or where weights are changed before they do.
    """
    watch = AttentionWatch()
    outputs, _, operations = traced(model, inputs, watch.rules())
    changed = watch.changed()
    if changed:
        raise NotApplicable(
            f"a softmax gives maps {tuple(changed[0].shape)} that are changed before they weigh values, or weigh none"
        )
    if not watch.maps:
        raise NotApplicable("the model has no attention: no softmax was seen that weighs values")
    return check_outputs(outputs, len(inputs)), list(watch.maps.values()), watch, operations


@torch.inference_mode(mode=False)
@torch.enable_grad()
def weights_and_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, every: bool
) -> tuple[list[Tensor], list[Tensor], Operations]:
    """All attention maps (n, heads, T, T), first layer first, and gradients of the targets' logits at them.

    The gradients are those at ``every`` map, otherwise only that at the last one.
    """
    outputs, maps, _, operations = watched(model, inputs)
    wanted = maps if every else maps[-1:]
    gradients = torch.autograd.grad(target_logits(outputs, targets.clone()).sum(), [each.weights for each in wanted])
    return (
        [each.heads(each.weights, len(inputs)) for each in maps],
        [each.heads(gradient, len(inputs)) for each, gradient in zip(wanted, gradients, strict=True)],
        operations,
    )


@torch.inference_mode(mode=False)
@torch.enable_grad()
def attentive_classes(
    model: nn.Module, inputs: Tensor, targets: Tensor, turned: Sequence[bool | None]
) -> tuple[list[Tensor], list[Tensor], Operations]:
    """All attention maps (n, heads, T, T), and for each the class activation (n, T) of the tokens that enter it.

    That is token times gradient of the target's logit at the token, summed over its numbers. ``turned`` says of each
    map whether the tokens have the samples on the second axis.
    """
    outputs, maps, _, operations = watched(model, inputs)
    tokens = [each.entering for each in maps]
    if any(each is None or not each.requires_grad for each in tokens):
        raise NotApplicable("no linear layer comes before the attention, so that its tokens are not known")
    gradients = torch.autograd.grad(target_logits(outputs, targets.clone()).sum(), tokens)
    products = [(each * gradient).detach().sum(-1) for each, gradient in zip(tokens, gradients, strict=True)]
    classes = [each.T if second else each for each, second in zip(products, turned, strict=True)]
    lengths = [each.weights.shape[each.key] for each in maps]
    if any(each.numel() != len(inputs) * length for each, length in zip(classes, lengths, strict=True)):
        raise NotApplicable("the linear layer before an attention does not work on its tokens one by one")
    rows = [each.reshape(len(inputs), length) for each, length in zip(classes, lengths, strict=True)]
    return [each.heads(each.weights, len(inputs)) for each in maps], rows, operations


def tokens_read(gradient: Tensor) -> Tensor:
    """Which tokens (n, T) the targets' logits are computed from, by the gradient (n, heads, T, T) at the last map.

    After the last attention the layers work on each token separately, until a head picks a class token or pools. So the
    gradient is exactly 0 in the rows of tokens that the head does not use.
    """
    return (gradient != 0).any(3).any(1)


def _einsum_axes(equation: str) -> list[tuple[int, int] | None]:
    """For each operand the axes (query, key), counted from the end, if it can be the weights and the other the values.

    The key is the letter that is summed over, the query the last letter that the values do not have.
    """
    terms, _, out = equation.replace(" ", "").partition("->")
    first, second = terms.split(",")
    return [_axes(own, other, out) for own, other in ((first, second), (second, first))]


def _axes(own: str, other: str, out: str) -> tuple[int, int] | None:
    letters = own.removeprefix("...")
    keys = [letter for letter in letters if letter in other and letter not in out]
    queries = [letter for letter in letters if letter not in other and letter in out]
    if len(keys) != 1 or not queries or not letters.isalpha():
        return None
    return tuple(letters.index(letter) - len(letters) for letter in (queries[-1], keys[0]))
