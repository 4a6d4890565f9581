"""Forward and backward passes: gradients of the targets' logits at many points, a chunk of inputs at a time.

The points of many samples and draws are numbered, built on the device block by block, and passed through the model in
full batches. Callers say how a point is built and what becomes of its gradient; the loops are here.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from harness.completeness import relative_error, total
from harness.errors import NotApplicable
from harness.guards import frozen
from harness.predictor import check_outputs, target_logits
from harness.samples import Samples

# build(sample, draw): the points (rows, ...) for index vectors (rows,) of samples and draws
Build = Callable[[Tensor, Tensor], Tensor]
# differentiate(logits, points, sample) -> (rows, ...): derivatives of logits (rows,) at points (rows, ...) of samples
# (rows,).
Differentiate = Callable[[Tensor, Tensor, Tensor], Tensor]
# use(sample, draw, gradients, logits): for samples (s,) and draws (d,), gradients (s, d, ...) and logits (s, d)
Use = Callable[[Tensor, Tensor, Tensor, Tensor], None]

Result = TypeVar("Result")

# Numbers in the inputs of one forward and backward pass (27 images of 3 x 224 x 224): bounds the memory of its graph.
MOST_INPUT_NUMBERS = 2**22

# The same for models that ran out of memory with as many, so that the next call begins with fewer.
_room: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def visit(
    model: nn.Module,
    context: Samples,
    targets: Tensor,
    draws: int,
    build: Build,
    use: Use,
    differentiate: Differentiate = lambda logits, points, sample: gradient_of(logits, points),
) -> None:
    """Call ``use`` with the gradients and logits at ``draws`` points of every sample, block by block.

    A block is some samples with all their draws, or one sample with some of its draws, which come in order. Parameters
    are frozen, so that no gradient of a weight is computed. When memory runs out the chunk is halved. NotApplicable
    where no gradient of the output reaches the input. ``differentiate`` replaces the gradients by something else.
    """
    first = done = 0
    with frozen(model):
        while first < len(context):
            samples, block = _next_block(rows_at_once(context), len(context) - first, draws, done)
            sample = torch.arange(first, first + samples, device=targets.device)
            draw = torch.arange(done, done + block, device=targets.device)
            rows = sample.repeat_interleave(block)
            passed = _pass(model, build, rows, draw.repeat(samples), targets[rows], differentiate)
            if passed is None:
                _halve(context, len(rows))
                continue
            gradients, logits = passed
            use(sample, draw, gradients.unflatten(0, (samples, block)), logits.view(samples, block))
            first, done = (first, done + block) if done + block < draws else (first + samples, 0)


def gradients_at(model: nn.Module, context: Samples, targets: Tensor, points: Tensor) -> Tensor:
    """The gradients (N, ...) of the targets' logits at one point for each sample."""
    return summed_gradients(model, context, targets, 1, lambda sample, draw: points[sample])


def summed_gradients(
    model: nn.Module,
    context: Samples,
    targets: Tensor,
    draws: int,
    build: Build,
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda sample, draw, gradients: gradients,
) -> Tensor:
    """Gradients summed over the draws (N, ...), weighted by ``weigh(sample, draw, gradients)`` with (s, d, ...).

    Gradients of half precision are weighted and summed in float32.
    """
    answer = zeros_to_sum(context.inputs)

    def use(sample: Tensor, draw: Tensor, gradients: Tensor, logits: Tensor) -> None:
        answer[sample] += weigh(sample, draw, gradients.to(answer)).sum(1)

    visit(model, context, targets, draws, build, use)
    return answer


def zeros_to_sum(like: Tensor) -> Tensor:
    """Zeros of this shape, to which numbers are added: in float32 where the tensor is of half precision."""
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))


def rows_at_once(context: Samples) -> int:
    """Rows of one forward and backward pass: the tuned size of forward passes, or fewer if the graph would be large."""
    room = _room.get(context.predictor.module, MOST_INPUT_NUMBERS)
    return max(1, min(context.predictor.chunk, room // context.inputs[0].numel()))


def in_chunks(context: Samples, work: Callable[[Tensor], Result], passes: int = 1) -> Iterator[Result]:
    """The results of ``work(rows)`` for chunks (n,) of the samples' numbers; a chunk is halved if memory runs out.

    ``passes`` is the number of inputs that are passed through the model at once for each sample of a chunk.
    """
    first = 0
    while first < len(context):
        last = min(first + max(1, rows_at_once(context) // passes), len(context))
        rows = torch.arange(first, last, device=context.inputs.device)
        try:
            result = work(rows)
        except torch.OutOfMemoryError:
            result = None
        if result is None:  # outside the except block, where nothing refers to the graph
            _halve(context, len(rows), passes)
            continue
        yield result
        first = last


def tell_completeness(context: Samples, attributions: Tensor, change: Tensor) -> None:
    """Tell the fact ``completeness_error``: how far the sums are from the logits' changes (N,), relative to these."""
    context.tell(completeness_error=relative_error(total(attributions), change))


def gradient_of(outputs: Tensor, points: Tensor, keep_graph: bool = False, create_graph: bool = False) -> Tensor:
    """The gradient of the outputs' sum at the points; NotApplicable where none reaches them.

    With ``create_graph`` it can be differentiated again.
    """
    gradient = None
    if outputs.requires_grad:
        keep = {"retain_graph": keep_graph or create_graph, "create_graph": create_graph}
        gradient = torch.autograd.grad(outputs.sum(), points, allow_unused=True, **keep)[0]
    if gradient is None:
        raise NotApplicable("no gradient of the model's output reaches its input")
    return gradient


def _next_block(rows: int, samples: int, draws: int, done: int) -> tuple[int, int]:
    """The numbers of samples and of draws of the next block, so that blocks are equally large."""
    left = draws - done
    if rows >= left:
        return (min(samples, rows // left) if done == 0 else 1), left
    blocks = -(-left // rows)
    return 1, -(-left // blocks)


def _pass(
    model: nn.Module, build: Build, sample: Tensor, draw: Tensor, targets: Tensor, differentiate: Differentiate
) -> tuple[Tensor, Tensor] | None:
    """Gradients (rows, ...) and logits (rows,) at the points of samples and draws (rows,); None if out of memory."""
    try:
        with torch.enable_grad():
            points = build(sample, draw).detach().requires_grad_()
            outputs = model(points.clone())  # a model may change its input in place, which a leaf forbids
            logits = target_logits(check_outputs(outputs, len(points)), targets)
            return differentiate(logits, points, sample), logits.detach()
    except torch.OutOfMemoryError:
        return None  # the caller halves the chunk, when nothing refers to the graph any more


def _halve(context: Samples, rows: int, passes: int = 1) -> None:
    """Let the next chunk of this model be half of ``rows``, of ``passes`` inputs each; MemoryError if that is none."""
    if rows <= 1:
        raise MemoryError("the device's memory does not hold one forward and backward pass of one input")
    _room[context.predictor.module] = rows // 2 * passes * context.inputs[0].numel()
    context.predictor.halvings += 1
    torch.cuda.empty_cache()
