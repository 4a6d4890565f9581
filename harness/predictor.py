"""The one place that calls the model for work without gradients.

Callers number the perturbed inputs of all samples and draws, and give a function that builds the inputs for given row
numbers. The predictor calls it for one chunk at a time, on the device, and passes full batches through the model.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError, unknown
from harness.messages import sign_of_life
from harness.task import CLASSES, LOG_ODDS, LOG_PROBABILITY, OUTPUT, SCORES, TRACKED, Task

# Carried inputs (``harness.adapted_model``): name or place among the arguments -> a tensor with one entry per row.
Carried = Mapping[str | int, Tensor]

# Whether any output picked since the last reset was NaN or infinite; it gives the reason for a NaN score.
picked_not_finite: ContextVar[bool] = ContextVar("picked_not_finite", default=False)


def default_chunk(inputs: Tensor) -> int:
    """Rows per forward pass: as many as fit a CPU's cache, or enough to keep a GPU busy."""
    budget, least = (2**27, 128) if inputs.is_cuda else (2**18, 16)
    return max(least, min(4096, budget // max(inputs[0].nbytes, 1)))


def target_logits(outputs: Tensor, targets: Tensor) -> Tensor:
    """The targets' logits (N,) from a model's outputs (N, classes), (N, 1) or (N,), with their autograd graph."""
    single = outputs.dim() == 1 or outputs.shape[1] == 1
    return outputs.reshape(-1) if single else outputs.gather(1, targets[:, None])[:, 0]


NO_CLASS = -1  # what is predicted by outputs that are not numbers
UNDECIDED = -2  # what is predicted by outputs that are all the same


def predicted_class(outputs: Tensor) -> Tensor:
    """The class (rows,) of the highest of the outputs (rows, K) of several classes: the one way to read a decision.

    ``NO_CLASS`` where an output is NaN, which ``argmax`` calls the highest number; ``UNDECIDED`` where all outputs are
    the same, of which ``argmax`` would take the first: neither is a prediction of class 0.
    """
    alike = (outputs == outputs[:, :1]).all(1) & (outputs.shape[1] > 1)
    predicted = outputs.argmax(1).masked_fill(alike, UNDECIDED)
    return predicted.masked_fill(outputs.isnan().any(1), NO_CLASS)


def pick(tracked: Tensor, score: str) -> Tensor:
    """The score (...) named ``logit``, ``probability``, ``log_odds`` or ``output``, from tracked outputs (..., 3).

    ``logit`` and ``output`` are the explained output itself; which of the names exist is up to the model's task. The
    log-odds of a probability of 0 or 1 are NaN.
    """
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    own = score in ("logit", "output")
    if not own and tracked[..., LOG_ODDS].isnan().all() and not tracked[..., OUTPUT].isnan().all():
        raise NotApplicable(
            f"nothing says that the model's outputs have a class {score.replace('_', ' ')}: say task='classes' if they "
            "are logits of classes (a bare linear layer may give either), use score=output if they are numbers"
        )
    if not tracked[..., OUTPUT].isfinite().all():
        picked_not_finite.set(True)
    if own:
        return tracked[..., OUTPUT]
    if score == "probability":
        return tracked[..., LOG_PROBABILITY].exp()
    odds = tracked[..., LOG_ODDS]
    if odds.isinf().any():  # a model that returns probabilities can return 0 and 1
        picked_not_finite.set(True)
    return odds.masked_fill(odds.isinf(), float("nan"))


def averaged(tracked: Tensor, axis: int) -> Tensor:
    """The tracked outputs whose scores are the means, over an axis, of those of ``tracked`` (..., 3)."""
    log_probability = tracked[..., LOG_PROBABILITY].double()
    mean = tracked.double().mean(axis)
    mean[..., LOG_PROBABILITY] = log_probability.logsumexp(axis) - math.log(tracked.shape[axis])
    return mean.float()


def check_outputs(outputs: Any, count: int) -> Tensor:
    """The model's outputs, if they have a shape that is expected for ``count`` inputs; else UserError."""
    good = isinstance(outputs, Tensor) and outputs.dim() in (1, 2) and len(outputs) == count
    if not good:
        came = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(f"model returned {came} for {count} inputs, expected logits ({count}, classes) or ({count},)")
    return outputs


@dataclass
class Predictor:
    """Calls a model on numbered rows, one chunk at a time, without gradients; halves the chunk when memory runs out.

    module         the model as the user gave it; randomisation tests change its weights for a while
    scoring        the scoring copy, which is faster and equal (``harness.engine.tuning``); None to use the module
    chunk          rows per forward pass
    autocast       the dtype of mixed precision, or None for full precision
    variant        which form of the model is called, and how far it is from the model
    forwards       number of rows passed so far
    halvings       how often the chunk was halved
    channels_last  whether inputs are laid out with channels last in memory
    task           how scores follow from the outputs
    """

    module: nn.Module
    scoring: nn.Module | None = None
    chunk: int = 32
    autocast: torch.dtype | None = None
    variant: dict[str, Any] = field(default_factory=lambda: {"variant": "eager"})
    forwards: int = 0
    halvings: int = 0
    channels_last: bool = False
    task: Task = CLASSES

    def live(self) -> "Predictor":
        """A predictor that calls the module itself and not its copy, so that a change of weights takes effect."""
        return replace(self, scoring=None, channels_last=False, variant={"variant": "eager"})

    def logits(self, inputs: Tensor, carried: Carried | None = None) -> Tensor:
        """The model's outputs for inputs (N, ...): (N, classes) or (N,), float32.

        ``carried`` are the carried inputs (N, ...) of the same rows, for a model that has them.
        """
        rows_of = None if not carried else lambda rows: {name: values[rows] for name, values in carried.items()}
        keep = lambda outputs, rows: outputs.float()
        return self._run(len(inputs), lambda rows: inputs[rows], keep, inputs.device, rows_of)

    def track(
        self,
        count: int,
        build: Callable[[Tensor], Tensor],
        targets: Tensor,
        carried: Callable[[Tensor], Carried] | None = None,
    ) -> Tensor:
        """Tracked outputs (count, 3) of the inputs that ``build(rows)`` makes for the row numbers 0 .. count - 1.

        ``carried(rows)`` gives the carried inputs of the rows, for a model that has them.
        """
        if not count:
            return torch.empty(0, TRACKED, device=targets.device)
        keep = lambda outputs, rows: self.task.track(outputs, targets[rows])
        return self._run(count, build, keep, targets.device, carried)

    def _run(
        self, count: int, build: Callable, keep: Callable, device: torch.device, carried: Callable | None = None
    ) -> Tensor:
        results, start = [], 0
        while start < count:
            rows = torch.arange(start, min(start + self.chunk, count), device=device)
            try:
                results.append(keep(self._call(build(rows), carried and carried(rows)), rows))
            except torch.OutOfMemoryError:
                self._halve(len(rows))
                continue
            start += len(rows)
        return torch.cat(results)

    def _call(self, inputs: Tensor, carried: Carried | None) -> Tensor:
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        context = torch.autocast(inputs.device.type, self.autocast) if self.autocast else nullcontext()
        # Not in inference mode: tensors that a model makes and stores in a call are used with gradients later.
        with torch.no_grad(), context:
            model = self.scoring or self.module
            outputs = check_outputs(model(inputs, carried) if carried else model(inputs), len(inputs))
        self.forwards += len(inputs)
        sign_of_life()
        return outputs.detach()  # a model may allow gradients itself

    def _halve(self, rows: int) -> None:
        if rows <= 1:
            raise MemoryError(
                "the device's memory does not hold one forward pass of one input; use a smaller model or input"
            )
        self.chunk, self.halvings = max(1, min(self.chunk, rows) // 2), self.halvings + 1
        torch.cuda.empty_cache()
