"""The one place that runs a model forward and backward: gradients of the targets' logits, a chunk of inputs at a time.

Points of many samples and many draws are numbered, built on the device a block at a time and sent through the model in
full batches: whoever asks says how to build points and what to do with their gradients, never how to loop.
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

# build(sample, draw): the inputs (rows, ...) of pairs of index vectors (rows,)
Build = Callable[[Tensor, Tensor], Tensor]
# use(sample, draw, gradients, logits): of samples (s,) and draws (d,), gradients (s, d, ...) and logits (s, d)
Use = Callable[[Tensor, Tensor, Tensor, Tensor], None]

Found = TypeVar("Found")

# Numbers in the inputs of one forward and backward pass, 27 images of 3 x 224 x 224: bounds the memory of its graph.
MOST_INPUT_NUMBERS = 2**22

# The same for models of which memory turned out to hold less, so that the next call need not find out again.
_room: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def visit(model: nn.Module, context: Samples, targets: Tensor, draws: int, build: Build, use: Use) -> None:
    """Hand ``use`` the gradients and logits at ``draws`` points of every sample, block by block.

    A block is some samples with all their draws, or one sample with some of them; a sample's draws come in order.
    Parameters are frozen meanwhile, so that no gradient of a weight is computed. Halves the chunk when memory runs
    out. NotApplicable where no gradient of the output reaches the input.
    """
    first = done = 0
    with frozen(model):
        while first < len(context):
            samples, block = _next_block(rows_at_once(context), len(context) - first, draws, done)
            sample = torch.arange(first, first + samples, device=targets.device)
            draw = torch.arange(done, done + block, device=targets.device)
            rows = sample.repeat_interleave(block)
            found = _pass(model, lambda: build(rows, draw.repeat(samples)), targets[rows])  # noqa: B023
            if found is None:
                _halve(context, len(rows))
                continue
            use(sample, draw, found[0].unflatten(0, (samples, block)), found[1].view(samples, block))
            first, done = (first, done + block) if done + block < draws else (first + samples, 0)


def gradients_at(model: nn.Module, context: Samples, targets: Tensor, points: Tensor) -> Tensor:
    """The gradients of the targets' logits at one point (N, ...) for each sample, in its shape."""
    return summed_gradients(model, context, targets, 1, lambda sample, draw: points[sample])


def summed_gradients(
    model: nn.Module,
    context: Samples,
    targets: Tensor,
    draws: int,
    build: Build,
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda sample, draw, gradients: gradients,
) -> Tensor:
    """The sum over draws (N, ...) of what ``weigh(sample, draw, gradients)`` makes of gradients (s, d, ...)."""
    answer = torch.zeros_like(context.inputs)

    def use(sample: Tensor, draw: Tensor, gradients: Tensor, logits: Tensor) -> None:
        answer[sample] += weigh(sample, draw, gradients).sum(1)

    visit(model, context, targets, draws, build, use)
    return answer


def rows_at_once(context: Samples) -> int:
    """Rows of one forward and backward pass: the tuned size of forward passes, less where the graph would be large."""
    room = _room.get(context.predictor.module, MOST_INPUT_NUMBERS)
    return max(1, min(context.predictor.chunk, room // context.inputs[0].numel()))


def in_chunks(context: Samples, work: Callable[[Tensor], Found]) -> Iterator[Found]:
    """What ``work`` makes of the numbers of some samples (n,), chunk by chunk; halves it when memory runs out."""
    first = 0
    while first < len(context):
        last = min(first + rows_at_once(context), len(context))
        rows = torch.arange(first, last, device=context.inputs.device)
        try:
            found = work(rows)
        except torch.OutOfMemoryError:
            found = None
        if found is None:  # outside that block nothing holds on to the graph
            _halve(context, len(rows))
            continue
        yield found
        first = last


def tell_completeness(context: Samples, attributions: Tensor, change: Tensor) -> None:
    """Tell by what share of the change (N,) of the logit from the baseline the attributions miss it."""
    context.tell(completeness_error=relative_error(total(attributions), change))


def gradient_of(outputs: Tensor, points: Tensor) -> Tensor:
    """The gradient of the outputs' sum at the points; NotApplicable where none reaches them."""
    reached = outputs.requires_grad
    gradient = torch.autograd.grad(outputs.sum(), points, allow_unused=True)[0] if reached else None
    if gradient is None:
        raise NotApplicable("no gradient of the model's output reaches its input")
    return gradient


def _next_block(rows: int, samples: int, draws: int, done: int) -> tuple[int, int]:
    """How many of the samples that are left, and how many of their draws, to take next; blocks are of even size."""
    left = draws - done
    if rows >= left:
        return (min(samples, rows // left) if done == 0 else 1), left
    blocks = -(-left // rows)
    return 1, -(-left // blocks)


def _pass(model: nn.Module, build: Callable[[], Tensor], targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """Gradients and logits of the points that are built; None where memory does not hold them."""
    try:
        with torch.enable_grad():
            points = build().detach().requires_grad_()
            outputs = model(points.clone())  # a model may change its input in place, which a leaf forbids
            logits = target_logits(check_outputs(outputs, len(points)), targets)
            return gradient_of(logits, points), logits.detach()
    except torch.OutOfMemoryError:
        return None  # outside this block nothing holds on to the graph


def _halve(context: Samples, rows: int) -> None:
    if rows <= 1:
        raise MemoryError("the device's memory does not hold one forward and backward pass of one input")
    _room[context.predictor.module] = rows // 2 * context.inputs[0].numel()
    context.predictor.halvings += 1
    torch.cuda.empty_cache()
